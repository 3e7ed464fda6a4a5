"""Edits: codes moved along directions of W. `restyle_lib.making.directions` finds the named ones."""

import json
from functools import cache

import torch
from safetensors.torch import load_file
from torch import Tensor

from restyle_lib.faces import attributes
from restyle_lib.paths import REPOSITORY, WEIGHTS

SHIPPED = WEIGHTS / "faces-directions.safetensors"
PUBLIC = REPOSITORY / "data" / "directions" / "interfacegan.safetensors"


@cache
def directions() -> dict[str, Tensor]:
    """The named directions of the embedded faces, each [512], by name.

    They are those of StyleGAN2-FFHQ's W, so they edit codes of its official checkpoints too. One unit raises the label
    by one standard deviation of it in W (at psi 0.8), as a linear fit predicts: by 13 years of age, for one.
    """
    tensors = load_file(SHIPPED)
    return {name: tensors[name] for name in attributes.NAMES}


def edit(codes: Tensor, direction: str | Tensor, strength: float = 1.0) -> Tensor:
    """Codes [B, 512] or [B, k, 512], every style of them moved by `strength` times the direction; a new tensor.

    direction: "smile", "age", "pose", "gender" or "nod", see `directions`, `faces.attributes.Attributes` for what they
               mean; or a direction of your own, [512] or [k, 512]
    strength:  how far, in standard deviations of the attribute; below 0 the other way. Within ±3 faces look natural
    Raises ValueError for another name, and for codes or a direction of another shape.
    """
    if isinstance(direction, str):
        if direction not in directions():
            raise ValueError(f"no direction {direction!r}; there are {', '.join(directions())}, or give a tensor")
        direction = directions()[direction]
    fits = codes.ndim in (2, 3) and direction.ndim < codes.ndim and direction.shape == codes.shape[-direction.ndim :]
    if not fits:
        shapes = f"{list(codes.shape)} and {list(direction.shape)}"
        raise ValueError(f"needs codes [B, 512] or [B, k, 512] and a direction [512] or [k, 512], got {shapes}")
    return codes + strength * direction.to(codes)


@cache
def deviations() -> Tensor:
    """Standard deviations [5] of the labels in W, in the order of `attributes.NAMES`: what one unit is worth."""
    labels = json.loads(SHIPPED.with_suffix(".json").read_text())["labels"]
    return torch.tensor([labels[name]["standard deviation"] for name in attributes.NAMES])


def public() -> dict[str, Tensor]:
    """InterFaceGAN's directions of StyleGAN2-FFHQ (Shen et al. 2020), unit vectors [512]: smile, age, pose.

    Found by others, with other labels; age and smile point as ours do, pose the other way. See data/directions.
    """
    return load_file(PUBLIC)
