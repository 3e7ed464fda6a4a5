"""Checkpoints: written atomically, read without unpickling objects, exact to the bit on resume."""

import json
from pathlib import Path

import torch

from restyle_lib.data import save_atomically


def save(path: Path, state: dict) -> None:
    """Writes the state; a kill at any moment leaves the old checkpoint or the new one."""
    save_atomically(lambda temporary: torch.save(state, temporary), path)


def load(path: Path) -> dict | None:
    """The state at `path`, or None where there is none. Raises ValueError for a file that is not a checkpoint."""
    if not path.exists():
        return None
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise ValueError(f"{path} is not a checkpoint of this program ({error}); delete it to start anew") from error


def rewind_log(path: Path, iteration: int) -> None:
    """Drops the lines of a JSONL log that a killed run wrote after its last checkpoint (and a torn last line)."""
    if not path.exists():
        return
    kept = []
    for line in path.read_text().splitlines():
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            break
        if record["iteration"] > iteration:
            break
        kept.append(line + "\n")
    save_atomically(lambda temporary: temporary.write_text("".join(kept)), path)
