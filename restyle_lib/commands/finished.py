"""What an earlier call of `restyle invert` or `edit` has finished in its folder, so that the next goes on there."""

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from safetensors import SafetensorError, safe_open

from restyle_lib.images import PhotoError, open_file


class Results(NamedTuple):
    """The files that a call leaves of each photograph, by what their names add to its name."""

    last: str
    """The latents that are written when all else is there, and say so, see `note`."""
    others: list[str]
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
    """What a result's latents, which are written last, say of it: its key, and of how many faces it is one.

    In one entry, since safetensors have several in any order, and files of two runs are to be the same.
    """
    return {"finished": f"{key} {faces}"}


def count(out: Path, key: str, following: Callable[[], str], results: Results) -> int:
    """How many faces of a photograph the folder `out` has all results of; 0 where it lacks any.

    following: the names that results of this photograph get, one after the other
    """
    n, faces = 0, 1
    while key and n < faces:
        name = following()
        said, _, number = _said(out / f"{name}{results.last}").partition(" ")
        if said != key or not all((out / f"{name}{other}").is_file() for other in results.others):
            return 0
        n, faces = n + 1, int(number)
    return n


def _said(path: Path) -> str:
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("finished", "")
    except (OSError, SafetensorError):  # none yet, or not whole
        return ""
