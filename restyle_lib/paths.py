"""Where data lives: the repository's own folders, and the cache outside it."""

import os
import uuid
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path

REPOSITORY = Path(__file__).resolve().parent.parent
WEIGHTS = REPOSITORY / "data" / "weights"
RESULTS = REPOSITORY / "data" / "results"  # tables that README shows, and `figures/`: of a run that was committed
FIGURES = REPOSITORY / "figures"
REPRODUCED = REPOSITORY / "reproduced"  # what runs here write, in no commit


def cache_dir() -> Path:
    """The cache folder outside git: $RESTYLE_CACHE, else the platform's own place."""
    return Path(os.environ.get("RESTYLE_CACHE") or user_cache_path("restyle-companion"))


def save_atomically(write: Callable[[Path], object], path: Path) -> None:
    """Lets `write` fill a temporary file, then moves it to `path`: readers see the old file, the new one, or none."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own for each call, since threads share a process; and short, whatever the length of the file's name
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
