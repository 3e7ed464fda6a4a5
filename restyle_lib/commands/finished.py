"""What an earlier call of `restyle invert` or `edit` has finished in its folder, so that the next goes on there."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from PIL import Image
from safetensors import SafetensorError, safe_open

from restyle_lib.images import PhotoError, open_file

NOTE = "finished"  # the name of the entry of the metadata


class Results(NamedTuple):
    """What a call leaves of each photograph."""

    files: list[str]
    """By what their names add to its name: .png and .safetensors, each with the `note` of the call."""
    settings: str = ""
    """What they depend on beside the inversion."""


def key_of(photo: Path, settings: str) -> str:
    """A hash of a photograph's file and of all that its results depend on, or "" where the file cannot be read."""
    try:
        with open_file(photo) as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]
    except PhotoError:
        return ""
    return hashlib.sha256(f"{settings} {content}".encode()).hexdigest()


def note(key: str, faces: int) -> dict[str, str]:
    """What each file of the results says in its metadata: their key, and of how many faces of a photograph it is one.

    In one entry, since safetensors have several in any order, and files of two runs are to be the same.
    """
    return {NOTE: f"{key} {faces}"}


def count(out: Path, key: str, following: Callable[[], str], results: Results) -> int:
    """How many faces of a photograph the folder `out` has all results of; 0 where it lacks any.

    following: the names that results of this photograph get, one after the other
    """
    n, faces = 0, 1
    while key and n < faces:
        name = following()
        said = {_said(out / f"{name}{ending}") for ending in results.files}
        if len(said) > 1 or (noted := said.pop().split(" "))[0] != key:  # another call has replaced some of them
            return 0
        n, faces = n + 1, int(noted[1])
    return n


def _said(path: Path) -> str:
    """The note of a file; "" where it has none, is not whole, or is not there."""
    try:
        if path.suffix == ".png":
            with Image.open(path) as image:
                return image.info.get(NOTE, "")
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get(NOTE, "")
    except (OSError, SafetensorError, SyntaxError):  # the last is Pillow's for a broken PNG
        return ""
