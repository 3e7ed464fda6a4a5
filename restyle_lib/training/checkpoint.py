"""Checkpoints: written atomically, the last two kept, read without unpickling objects, exact to the bit on resume."""

import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from tqdm.auto import tqdm

from restyle_lib.paths import save_atomically
from restyle_lib.training.settings import Settings

NEWEST, PREVIOUS = "checkpoint.pt", "checkpoint-previous.pt"


def save(folder: Path, iteration: int, settings: Settings, parts: dict) -> None:
    """Writes the state of all parts; what was the newest checkpoint becomes the previous one.

    A full disk, or a kill at any moment, leaves at least one whole checkpoint.
    """
    content = {name: part.state_dict() for name, part in parts.items()}
    content |= {"iteration": iteration, "settings": asdict(settings)}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        if (folder / NEWEST).exists():  # only now that there is another one
            os.replace(folder / NEWEST, folder / PREVIOUS)

    save_atomically(write, folder / NEWEST)


def load(path: Path) -> dict:
    """The checkpoint at `path`. Raises ValueError for a file that is none, or not a whole one."""
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a checkpoint of this program ({error}); delete it to start anew") from error


def newest(folder: Path) -> dict | None:
    """The newest checkpoint in `folder` that can be read, or None where none was written.

    Raises ValueError where there are checkpoints, but none can be read.
    """
    paths = [path for name in (NEWEST, PREVIOUS) if (path := folder / name).exists()]
    for i, path in enumerate(paths):
        try:
            return load(path)
        except ValueError as error:
            if path == paths[-1]:
                raise
            tqdm.write(f"{error}\ncontinuing from {paths[i + 1]}")
    return None


def restore(folder: Path, settings: Settings, parts: dict) -> int:
    """Gives all parts the state of the newest checkpoint in `folder`; returns its iteration, or 0 without one.

    Raises ValueError for checkpoints that cannot be read, and for one of a run with other settings or other images.
    """
    saved = newest(folder)
    if saved is None:
        return 0
    if saved["settings"] != asdict(settings):
        raise ValueError(f"{folder} holds a run with other settings; use another folder or --no-resume")
    for name, part in parts.items():
        if name != "source" or name in saved:  # older checkpoints do not say which images they are of
            part.load_state_dict(saved[name])
    return saved["iteration"]


def forget(folder: Path) -> int:
    """Deletes the checkpoints of an earlier run, so that none is taken for one of a new run; returns 0, its start."""
    for name in (NEWEST, PREVIOUS):
        (folder / name).unlink(missing_ok=True)
    return 0


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """No other training writes in `folder` meanwhile; however one ends, its lock ends with it.

    Raises ValueError where one goes on there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(f"another training goes on in {folder}: give another --out, or wait until it ends") from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def stops_clearly(folder: Path) -> Iterator[None]:
    """Errors that end a long run say which checkpoint is left: numbers not finite, too little memory, a full disk."""
    try:
        yield
    except (FloatingPointError, MemoryError) as error:
        raise type(error)(f"{error}; {_left(folder)}") from error
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        advice = f"make room and start again, it continues: {_left(folder)}"
        raise OSError(errno.ENOSPC, f"the disk is full; {advice}", str(folder)) from error


def _left(folder: Path) -> str:
    saved = newest(folder)
    return (
        f"{folder / NEWEST} of batch {saved['iteration']} is still good" if saved else "no checkpoint was written yet"
    )


def rewind_log(path: Path, iteration: int) -> None:
    """Drops the lines of a JSONL log that a killed run wrote after its last checkpoint (and a torn last line)."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if record["iteration"] > iteration:
            break
        kept.append(line + "\n")
    save_atomically(lambda temporary: temporary.write_text("".join(kept), encoding="utf-8"), path)
