"""The command `restyle film`: what an inversion, an edit or a morph looks like in motion."""

from itertools import chain
from pathlib import Path
from typing import Annotated, Literal

import torch
import tyro
from torch import Tensor
from tqdm import tqdm

from restyle_lib.commands import common
from restyle_lib.generators import load_generator
from restyle_lib.images import PhotoError, to_tensor
from restyle_lib.inversion import edit as editing
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS
from restyle_lib.inversion.optimize import hybrid
from restyle_lib.inversion.quality import PHOTO_SIZE
from restyle_lib.inversion.tune import saved_codes
from restyle_lib.reporting import films

SAVED = ".safetensors"


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
    domain: str | None = None,
    input_size: str | None = None,
    device: str | None = None,
    face: str = "1",
) -> Path:
    """Makes a film of photographs: the steps of an inversion, an edit there and back, or a morph between people.

    photos:    image files, or folders of them; of "steps" and "edit" one after the other, of "morph" at least two. For
               the latter two also what `restyle invert --quality best` saved of one, whose own generator then draws it
    out:       a file that ends in .mp4 or .gif
    of:        "steps" from the mean face to the code; "edit" along `direction`; "morph" from one to the next and back
    direction: as for `restyle edit`, also smile=1,age=-1
    steps:     refinement steps N
    optimize:  steps of optimization that go on from the encoder's code, which is then one step more
    size:      width of the film in px, an even number up to 1024; it has the proportions of the generator's images
    seconds:   from one code to the next
    model, aligned, domain, input_size, device: as for `restyle invert`
    face:      which one of a photograph with several, as for `restyle invert`; all of them, one after the other
    Returns the file. Raises PhotoError for a photograph that cannot be used, ValueError for too few of them, for a
    direction that the model has not, for a generator tuned from another one, for another size or ending, and for a
    domain, input size, device or face that cannot be had.
    """
    if out.suffix.lower() not in films.SUFFIXES:
        raise ValueError(f"{out}: a film ends in {' or '.join(films.SUFFIXES)}")
    photos = common.files(photos)
    if of == "morph" and len(photos) < 2 and face != "all":
        raise ValueError("a morph needs at least two photographs, or --face all of one with several people")
    if size % 2 or not 16 <= size <= 1024 or not seconds > 0:
        raise ValueError(f"a film has an even size from 16 to 1024 px and takes time, not {size} px and {seconds} s")
    asked = editing.parse(direction)  # what is wrong with it is said before anything takes time
    if of == "steps" and any(photo.suffix == SAVED for photo in photos):
        raise ValueError(f"a tuned generator ({SAVED}) has no steps in its file; there are films of edits and morphs")
    inverter = common.opened(model, domain, input_size, device)
    common.check_face(face, aligned, inverter.domain)
    where, seen = inverter.y_avg.device, max(PHOTO_SIZE, inverter.input_size[0])
    G = inverter.G.to(where)
    if of == "edit":
        editing.check(asked, G, inverter.domain)
    tuned = {photo: load_generator(photo).to(where) for photo in photos if photo.suffix == SAVED}
    for photo, generator in tuned.items():
        if getattr(generator, "family", "") != getattr(G, "family", None):
            raise ValueError(f"{photo} is of another generator than {model}")
    generators, trails = [], []
    for photo in tqdm(photos, desc="inverting", unit="photograph"):
        if photo in tuned:
            generators.append(tuned[photo])
            trails.append(code_in(photo))
            continue
        try:
            _, crops = common.prepare(photo, inverter.domain, aligned, face, PHOTO_SIZE, seen)
        except PhotoError as error:
            raise PhotoError(common.refusal(photo, error, G)) from error
        for x in (to_tensor(crop) for crop, _ in crops):
            result = inverter.invert(x, steps)
            generators.append(G)
            trails.append((hybrid(inverter, x, result, optimize) if optimize else result).latents[0])
    if of == "morph" and len(trails) < 2:
        raise ValueError(f"a morph needs at least two people, and {photos[0]} has one")
    if of == "morph":
        codes = [script(of, trails, asked.direction, asked.strength or strength, seconds)]
        with_tuned = any(each is not G for each in generators)
        scenes = [(generators, films.shares(len(trails), seconds, around=True)) if with_tuned else (G, None)]
    else:
        codes = [script(of, [trail], asked.direction, asked.strength or strength, seconds) for trail in trails]
        scenes = [(each, None) for each in generators]
    with tqdm(total=sum(map(len, codes)), desc="drawing", unit="frame") as bar:
        drawn = [films.frames(by, part, size, bar.update, each) for (by, each), part in zip(scenes, codes, strict=True)]
        return films.write(out, chain.from_iterable(drawn))


def code_in(path: Path) -> Tensor:
    """The code that a tuned generator was saved with, [1, 16, 512]. Raises ValueError where there is none."""
    codes = saved_codes(path)
    if codes is None:
        raise ValueError(f"{path}: a tuned generator without the code that it was tuned at")
    return codes[:1]


def script(of: str, trails: list[Tensor], direction: str | Tensor, strength: float, seconds: float) -> Tensor:
    """The codes of all frames [f, k, 512], from those of each photograph's steps [steps + 1, k, 512]."""
    if of == "steps":
        return torch.cat([films.between(trail, seconds) for trail in trails])
    ends = torch.stack([trail[-1] for trail in trails])
    if of == "morph":
        return films.between(ends, seconds, around=True)
    return torch.cat([films.swing(code, direction, -strength, strength, 4 * seconds) for code in ends])
