"""Edits: codes moved along directions of W. `restyle_lib.making.directions` finds the named ones."""

import json
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from restyle_lib.checkpoints import generators as checkpoints
from restyle_lib.checkpoints.domains import Domain
from restyle_lib.faces import attributes, looks
from restyle_lib.generators.stylegan3 import StyleGAN3
from restyle_lib.paths import DIRECTIONS, WEIGHTS

SHIPPED = WEIGHTS / "faces-directions.safetensors"
LOOKS = WEIGHTS / "faces-looks.safetensors"  # of what no network is taught to see, see `faces.looks`
FILES = (".pt", ".pth", ".npy", ".safetensors", ".bin")  # endings under which directions are shared
PUBLIC = DIRECTIONS / "interfacegan.safetensors"


@cache
def directions() -> dict[str, Tensor]:
    """The named directions of the embedded faces, each [512], by name.

    They are those of StyleGAN2-FFHQ's W, so they edit codes of its official checkpoints too. One unit raises the label
    by one standard deviation of it in W (at psi 0.8), as a linear fit predicts: by 13 years of age, for one.
    """
    tensors = load_file(SHIPPED) | load_file(LOOKS)
    return {name: tensors[name] for name in (*attributes.NAMES, *looks.NAMES)}


def edit(
    codes: Tensor, direction: str | Path | Tensor, strength: float = 1.0, slots: tuple[int, int] | None = None
) -> Tensor:
    """Codes [B, 512] or [B, k, 512], every style of them moved by `strength` times the direction; a new tensor.

    direction: "smile", "age", "pose", "gender", "nod" (see `faces.attributes.Attributes` for what they mean), "mouth",
               "glasses", "fringe", "hair", "background" (see `faces.looks.Looks`); or a direction of your own, [512] or
               [k, 512], also with a leading 1 as public files have it, on any device; or such a file, see
               `load_direction`
    strength:  how far, in standard deviations of the attribute, or times a direction of your own; below 0 the other
               way. Within ±3 standard deviations faces look natural
    slots:     the first and the last style that move, of codes [B, k, 512]; the others stay. A smile in (2, 9) changes
               less of everything else, see `restyle_lib.evaluation.slots`. None: all
    Raises ValueError for another name, for codes or a direction of another shape, and for slots that codes have not.
    """
    direction = _plain(direction if isinstance(direction, Tensor) else find(direction))
    if codes.ndim == 3 and direction.ndim == 2 and (direction == direction[:1]).all():
        direction = direction[0]  # one for all styles, written out for a generator of another number of them
    fits = codes.ndim in (2, 3) and direction.ndim < codes.ndim and direction.shape == codes.shape[-direction.ndim :]
    if not fits:
        shapes = f"{list(codes.shape)} and {list(direction.shape)}"
        raise ValueError(f"needs codes [B, 512] or [B, k, 512] and a direction [512] or [k, 512], got {shapes}")
    if slots is None:
        return codes + strength * direction.to(codes)
    first, last = slots
    if codes.ndim != 3 or not 0 <= first <= last < codes.shape[1]:
        raise ValueError(f"needs slots (first, last) of codes [B, k, 512], got {slots} and {list(codes.shape)}")
    numbers = torch.arange(codes.shape[1], device=codes.device)[:, None]
    moved = (numbers >= first) & (numbers <= last)
    return codes + strength * direction.to(codes) * moved


def find(direction: str | Path) -> Tensor:
    """The direction [512] or [k, 512] of that name, or in that file. Raises ValueError where there is neither."""
    if isinstance(direction, str) and direction in directions():
        return directions()[direction]
    if is_file(direction):
        return load_direction(Path(direction))
    raise ValueError(f"no direction {str(direction)!r}; there are {', '.join(directions())}, or give a tensor")


class Edit(NamedTuple):
    """An edit as people write it, see `parse`: what it is called, and what one unit of it adds to a code.

    strength: 1 where the words say how strong it is, else None
    of_faces: whether a named direction is in it, which only a generator of faces has
    """

    label: str
    direction: Tensor
    strength: float | None
    of_faces: bool


def parse(words: str) -> Edit:
    """An edit in words: "smile"; "smile=1.5"; "smile=1,age=-1", both at once; names may be files of directions.

    Raises ValueError for unknown directions, for what is not a number, and for some of several without one.
    """
    parts = [_part(part) for part in ([words] if Path(words).is_file() else words.split(","))]
    names, found, strengths = zip(*parts, strict=True)
    of_faces = any(name in directions() for name in names)
    if strengths == (None,):
        return Edit(names[0], found[0], None, of_faces)
    if None in strengths:
        raise ValueError(f"{words!r}: several at once need numbers, such as smile=1,age=-1")
    if len({len(direction) for direction in found if direction.ndim == 2}) > 1:
        raise ValueError(f"{words!r}: these are directions of different numbers of styles")
    label = ",".join(f"{name}{strength:+g}" for name, strength in zip(names, strengths, strict=True))
    return Edit(label, sum(s * d for s, d in zip(strengths, found, strict=True)), 1.0, of_faces)


def check(asked: Edit, G, domain: Domain) -> None:
    """Raises ValueError where an edit is not one of the codes of this generator, of this domain."""
    if asked.of_faces and not domain.faces:
        raise ValueError(f"the model is of {domain.name}; {asked.label} is a direction of faces")
    if asked.of_faces and isinstance(G, StyleGAN3):
        raise ValueError(f"the model is of StyleGAN3, whose W has other directions than {asked.label}")
    edit(torch.zeros(1, G.n_styles, 512), asked.direction)


def _part(words: str) -> tuple[str, Tensor, float | None]:
    """One of an edit's parts: its name, or its file's without the ending; the direction; the strength if it has one."""
    name, equals, number = (words, "", "") if Path(words).is_file() else words.strip().partition("=")
    direction = find(name)
    try:
        strength = float(number) if equals else None
    except ValueError:
        raise ValueError(f"{words!r}: {number!r} is no number; say it as in {name}=1.5") from None
    return name if name in directions() else Path(name).stem, direction, strength


def is_file(direction: str | Path) -> bool:
    """Whether a direction is meant as a file: it has an ending that tensors are kept under, or no name, and exists."""
    if isinstance(direction, Path) or Path(direction).suffix.lower() in FILES:
        return True
    return direction not in directions() and Path(direction).is_file()


def load_direction(path: Path) -> Tensor:
    """The direction [512] or [k, 512] in a file of tensors (.pt, .npy, .safetensors), as the public repositories share.

    Nothing in the file is run, and it may have been saved on a GPU. Raises ValueError where it holds no direction, or
    more than one.
    """
    if path.suffix.lower() == ".npy":
        if not path.is_file():
            raise ValueError(f"{path}: no such file")
        try:
            content = np.load(path, allow_pickle=False)
        except Exception as error:  # the header is Python's notation, and damaged it can be wrong in any way
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{path}: not an array that can be read ({reason})") from error
    else:
        kind, content = checkpoints.read(path)
        content = content["tensors"] if kind == "safetensors" else content
    found = list(content.values()) if isinstance(content, Mapping) else [content]
    found = [torch.as_tensor(x) for x in found if isinstance(x, (Tensor, np.ndarray)) and x.dtype != object]
    if len(found) != 1 or not found[0].is_floating_point() or _plain(found[0]).ndim not in (1, 2):
        shapes = ", ".join(str(list(x.shape)) for x in found) or "no tensors"
        raise ValueError(f"{path}: a direction is one tensor [512] or [k, 512], and this file holds {shapes[:200]}")
    return _plain(found[0]).float()


def _plain(direction: Tensor) -> Tensor:
    """A direction without leading dimensions of 1: [1, 512] -> [512], [1, 18, 512] -> [18, 512]."""
    while direction.ndim > 1 and len(direction) == 1:
        direction = direction[0]
    return direction


@cache
def deviations() -> Tensor:
    """Standard deviations [5] of the labels in W, in the order of `attributes.NAMES`: what one unit is worth."""
    labels = json.loads(SHIPPED.with_suffix(".json").read_text(encoding="utf-8"))["labels"]
    return torch.tensor([labels[name]["standard deviation"] for name in attributes.NAMES])


def public() -> dict[str, Tensor]:
    """InterFaceGAN's directions of StyleGAN2-FFHQ (Shen et al. 2020), unit vectors [512]: smile, age, pose.

    Found by others, with other labels; age and smile point as ours do, pose the other way. See data/directions.
    """
    return load_file(PUBLIC)
