"""How near the trails of cartoons come to the face and to the cartoon that is sought."""

import pandas as pd
import torch
from torch import Tensor

from restyle_lib.evaluation import metrics
from restyle_lib.inversion.result import Inversion


@torch.no_grad()
def measure(trails: dict[str, Inversion], faces: Tensor, toons: Tensor) -> pd.DataFrame:
    """Trails of cartoons, compared with the faces and with the cartoons that are sought: a row per method, image, step.

    faces: [n, 3, s, s] in [-1, 1], at the size of the trails; toons: what the generator makes of the faces' own codes
    ID is the identity kept, of the cartoon with the *face*; L2 and ST-LPIPS are errors against the sought cartoon.
    """
    tables = []
    for method, trail in trails.items():
        for step, y in enumerate(trail.images.clamp(-1, 1).unbind(1)):
            values = {"ID": metrics.identity(y, faces), "L2": metrics.l2(y, toons)}
            values |= {"ST-LPIPS": metrics.st_lpips_distance(y, toons)}
            values = {name: value.tolist() for name, value in values.items()}
            tables.append(pd.DataFrame({"method": method, "image": range(len(y)), "step": step} | values))
    return pd.concat(tables, ignore_index=True)
