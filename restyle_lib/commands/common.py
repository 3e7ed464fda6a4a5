"""What the commands share: the model that they are told of, and the photographs that they are given."""

import sys
import warnings
from pathlib import Path

import numpy as np
from PIL import Image
from tqdm import tqdm

from restyle_lib.checkpoints.domains import Domain, size_of
from restyle_lib.faces.align import NoFaceError, cut_face, find_square, find_squares
from restyle_lib.faces.detect import find_faces
from restyle_lib.generators.mobile import MobileGenerator
from restyle_lib.images import PhotoError, is_called_photo, open_photo
from restyle_lib.inversion.inverter import Inverter, load_inverter
from restyle_lib.precision import device_named


def opened(model: str, domain: str | None = None, input_size: str | None = None, device: str | None = None) -> Inverter:
    """The inverter of that name or file, on a device by its name; see `load_inverter` for domain and HEIGHTxWIDTH.

    Raises ValueError and CheckpointError as that, `size_of` and `device_named` do.
    """
    where = device_named(device)
    return load_inverter(model, domain, size_of(input_size) if input_size else None).to(where)


def files(photos: list[Path]) -> list[Path]:
    """The photographs named, and what is called like one in each folder that is. Raises ValueError for none at all."""
    found = [path for photo in photos for path in _inside(photo)]
    if not found:
        raise ValueError("no photographs given; name one or more image files, or a folder that has some")
    return found


def _inside(photo: Path) -> list[Path]:
    """The photographs in a folder, or the path itself where it is none that can be looked into: opening it says why."""
    try:
        return sorted(path for path in photo.iterdir() if is_called_photo(path))
    except (OSError, ValueError):
        return [photo]


def check_face(face: str, aligned: bool, domain: Domain) -> None:
    """Raises ValueError for what is neither a number nor all, and where there are no faces to choose among."""
    if face != "all" and not (face.isdecimal() and int(face)):
        raise ValueError(f"--face is 1 for the largest, 2 for the next, and so on, or all; not {face}")
    if face != "1" and (aligned or not domain.faces):
        why = "--aligned takes whole photographs" if aligned else f"the model is of {domain.name}"
        raise ValueError(f"--face chooses among the faces of a photograph, and {why}")


def prepare(
    photo: Path, domain: Domain, aligned: bool, face: str, size: int, seen: int = 0
) -> tuple[Image.Image, list[tuple[Image.Image, np.ndarray]]]:
    """A photograph, and what is to be inverted of it: crops of one or several faces, and the squares they are.

    size: px of the crops; seen: squares that have fewer px than this keep their own resolution
    What is to know about them is written. Raises PhotoError for what cannot be used.
    """
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")  # once for each photograph, not once for all
        image = open_photo(photo)
        if aligned or not domain.faces:
            width, height = image.size
            whole = np.array([(0, 0), (0, height), (width, height), (width, 0)]) - 0.5  # 0 is the middle of a pixel
            crops = [((domain.cropped if aligned else domain.prepare)(image, size), whole)]
        else:
            squares = find_squares(image) if face == "all" else []
            squares = squares or [find_square(image, 1 if face == "all" else int(face))]
            crops = [(cut_face(image, square, size, seen), square) for square in squares]
            if face == "1" and (count := len(find_faces(image))) > 1:
                warnings.warn(f"{count} faces, of which the largest is taken; see --face", stacklevel=1)
    for warning in said:
        say("note:", photo, str(warning.message))
    return image, crops


def refusal(photo: Path, error: PhotoError, G) -> str:
    """Why a photograph cannot be used, under its name, and what to do where G may not be of faces at all."""
    words = str(error) if str(photo) in str(error) else f"{photo}: {error}"
    if isinstance(error, NoFaceError) and not isinstance(G, MobileGenerator):
        words += "; if the model is not of faces, say so: --domain own"
    return words


def say(kind: str, photo: Path, words: str) -> None:
    """One line about a photograph on stderr, whatever its name holds."""
    line = f"{kind} {words if str(photo) in words else f'{photo}: {words}'}"
    tqdm.write(" ".join(line.splitlines()), file=sys.stderr)
