"""What an earlier call of `restyle invert` has finished in its folder, so that one that was stopped goes on there."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from safetensors import SafetensorError, safe_open

from restyle_lib.images import PhotoError, open_file


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


def names(out: Path, key: str, following: Callable[[], str], endings: list[str]) -> list[str]:
    """Names of a photograph's results, where all of them are in the folder `out`, one for each of its faces; else none.

    following: the names that results of this photograph get, one after the other
    endings:   of the files beside NAME.safetensors
    """
    found: list[str] = []
    while key:
        name = following()
        said, _, faces = _said(out / f"{name}.safetensors").partition(" ")
        if said != key or not all((out / f"{name}{ending}").is_file() for ending in endings):
            return []
        found.append(name)
        if len(found) >= int(faces):
            break
    return found


def _said(path: Path) -> str:
    try:
        with safe_open(path, "pt") as file:
            return (file.metadata() or {}).get("finished", "")
    except (OSError, SafetensorError):  # none yet, or not whole
        return ""
