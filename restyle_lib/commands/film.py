"""The command `restyle film`: what an inversion, an edit or a morph looks like in motion."""

from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from restyle_lib.images import open_photo, to_tensor
from restyle_lib.inversion import edit as editing
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS, load_inverter
from restyle_lib.inversion.optimize import hybrid
from restyle_lib.precision import best_device
from restyle_lib.reporting import films


def film(
    photos: tyro.conf.Positional[list[Path]],
    out: Path = Path("film.mp4"),
    of: Literal["steps", "edit", "morph"] = "steps",
    direction: str = "smile",
    strength: Annotated[float, tyro.conf.arg(help="of an edit, to both sides")] = 2.0,
    steps: int = 5,
    optimize: int = 0,
    size: int = 512,
    seconds: float = 1.0,
    model: str = FOR_PHOTOGRAPHS,
    aligned: bool = False,
) -> Path:
    """Makes a film of photographs: the steps of an inversion, an edit there and back, or a morph between people.

    photos:    image files; of "steps" and "edit" one after the other, of "morph" at least two
    out:       a file that ends in .mp4 or .gif
    of:        "steps" from the mean face to the code; "edit" along `direction`; "morph" from one to the next and back
    direction: smile, age, pose, gender or nod
    steps:     refinement steps N
    optimize:  steps of optimization that go on from the encoder's code, which is then one step more
    size:      of the film in px: 256, 512 or 1024
    seconds:   from one code to the next
    model, aligned: as for `restyle invert`
    Returns the file. Raises PhotoError for a photograph that cannot be used, ValueError for too few of them, for an
    unknown direction and for another ending.
    """
    if out.suffix.lower() not in films.SUFFIXES:
        raise ValueError(f"{out}: a film ends in {' or '.join(films.SUFFIXES)}")
    if not photos or (of == "morph" and len(photos) < 2):
        raise ValueError("a morph needs at least two photographs" if photos else "no photographs given")
    editing.edit(torch.zeros(1, 512), direction)  # an unknown direction is said before anything takes time
    inverter = load_inverter(model).to(best_device())
    G = inverter.full_generator().to(best_device())
    trails = []
    for photo in tqdm(photos, desc="inverting", unit="photograph"):
        image = open_photo(photo)
        x = to_tensor((inverter.domain.cropped if aligned else inverter.domain.prepare)(image))
        result = inverter.invert(x, steps)
        trails.append((hybrid(inverter, x, result, optimize) if optimize else result).latents[0])
    codes = script(of, trails, direction, strength, seconds)
    with tqdm(total=len(codes), desc="drawing", unit="frame") as bar:
        return films.write(out, films.frames(G, codes, size, bar.update))


def script(of: str, trails: list[Tensor], direction: str, strength: float, seconds: float) -> Tensor:
    """The codes of all frames [f, k, 512], from those of each photograph's steps [steps + 1, k, 512]."""
    if of == "steps":
        return torch.cat([films.between(trail, seconds) for trail in trails])
    ends = torch.stack([trail[-1] for trail in trails])
    if of == "morph":
        return films.between(ends, seconds, around=True)
    return torch.cat([films.swing(code, direction, -strength, strength, 4 * seconds) for code in ends])
