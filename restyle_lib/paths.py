"""Where data lives: the repository's own folders, and the cache outside it."""

import os
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path

from platformdirs import user_cache_path
from safetensors import SafetensorError

REPOSITORY = Path(__file__).resolve().parent.parent
INSTALLED = Path(__file__).resolve().parent  # an installed wheel has weights/ and directions/ there, see setup.py
SHIPPED = INSTALLED if (INSTALLED / "weights").is_dir() else REPOSITORY / "data"
WEIGHTS, DIRECTIONS = SHIPPED / "weights", SHIPPED / "directions"
RESULTS = REPOSITORY / "data" / "results"  # tables that README shows, and `figures/`: of a run that was committed
FIGURES = REPOSITORY / "figures"
REPRODUCED = REPOSITORY / "reproduced"  # what runs here write, in no commit
MEASURED = REPOSITORY / "runs" / "measured"  # and what scripts measure and draw beside the notebooks


def cache_dir() -> Path:
    """The cache folder outside git: $RESTYLE_CACHE, else the platform's own place."""
    return Path(os.environ.get("RESTYLE_CACHE") or user_cache_path("restyle-companion")).expanduser().absolute()


def destination(folder: Path, update: bool) -> Path:
    """Where a script writes what belongs into RESULTS or FIGURES: there to update what is committed, else MEASURED."""
    return folder if update else MEASURED / folder.name


def save_atomically(write: Callable[[Path], object], path: Path) -> None:
    """Lets `write` fill a temporary file, then moves it to `path`: readers see the old file, the new one, or none.

    Raises OSError, which names the file, where it cannot be written: a full disk, a folder that is for others.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # a name of its own for each call, since threads share a process; and short, whatever the length of the file's name
    temporary = path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}")
    try:
        write(temporary)
        os.replace(temporary, path)
    except SafetensorError as error:  # its library's own, for a full disk too
        raise OSError(f"{path} cannot be written: {error}") from error
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary), temporary):
            raise  # of another file, that `write` reads
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def keep(write: Callable[[Path], object], path: Path) -> None:
    """`save_atomically` of what could be computed again, in the cache: where that cannot be written, a warning."""
    try:
        save_atomically(write, path)
    except OSError as error:
        # one text for all files, so that it is shown once
        advice = f"{cache_dir()} cannot be written ({error.strerror or error}), so nothing is kept for the next run"
        warnings.warn(f"{advice}; set RESTYLE_CACHE to a folder that can be", stacklevel=2)
