"""What is lost and saved where an image takes no further steps once a step hardly changes its reconstruction.

    python benchmarks/early_stop.py

Of four photographs and some held-out renders: steps taken on average, and L2 to the image at 256 px.
"""

import pandas as pd
import torch
import tyro

from restyle_lib import precision
from restyle_lib.evaluation import metrics, sets
from restyle_lib.evaluation.evaluate import save_table
from restyle_lib.images import to_float
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS, load_inverter
from restyle_lib.paths import RESULTS, destination

STEPS = (5, 10)  # that are allowed


def early_stop(renders: int = 12, tolerance: float = 0.04, update: bool = False) -> None:
    """Writes benchmark_stops.csv into runs/measured/results/.

    renders:   held-out ones, beside the four photographs
    tolerance: of `Inverter.invert`
    update:    for maintainers: into data/results/
    """
    device = precision.best_device()
    inverter = load_inverter(FOR_PHOTOGRAPHS).to(device)
    photographs = sets.aligned_photographs()[1]
    x = torch.cat([photographs, to_float(sets.heldout(renders).images)])
    rows = []
    for steps in STEPS:
        for given in (0.0, tolerance):
            found = [inverter.invert(image, steps, tolerance=given) for image in x.split(1)]
            moved = torch.cat([each.latents.diff(dim=1).abs().amax((2, 3)) > 0 for each in found])  # [n, steps]
            y = torch.cat([each.images[:, -1] for each in found]).clamp(-1, 1)
            row = {"allowed": f"{steps}, tolerance {given:g}", "steps taken": moved.sum(1).float().mean().item()}
            rows.append(row | {"L2": metrics.l2(y, x).mean().item()})
    table = pd.DataFrame(rows).assign(n=len(x), precision=precision.name(device))
    path = destination(RESULTS, update) / "benchmark_stops.csv"
    print(f"{save_table(table, path).to_string()}\nin {path}")


if __name__ == "__main__":
    tyro.cli(early_stop)
