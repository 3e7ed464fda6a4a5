"""Image files in a folder or in a zip archive, read in memory only, and a check of all of them whose result is kept."""

import hashlib
import io
import json
import os
import time
import warnings
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from PIL import Image
from torch.utils.data import DataLoader
from tqdm.auto import tqdm

from restyle_lib.checkpoints.domains import Domain
from restyle_lib.images import PhotoError, is_called_photo, open_file, open_photo
from restyle_lib.paths import cache_dir, keep

LARGEST = 100 * 2**20  # bytes of one image, unpacked; no data set has larger ones, but a zip bomb has
CONVERTED = {"CMYK", "L", "LA", "P", "PA", "RGBA", "RGBX", "YCbCr"}  # 8 bits: becomes RGB without loss of what it shows
KEEP_EVERY = 60  # seconds between two savings of the check, which a kill can lose


class Folder:
    """Image files of a folder, at any depth, also behind symbolic links; hidden ones do not count."""

    def __init__(self, path: Path):
        self.path = path

    def files(self) -> dict[str, list[int]]:
        """{name: [bytes, time of change]} of all images, sorted by name."""
        paths = sorted(path for path in _walk(self.path) if _is_image(path.relative_to(self.path)))
        return {path.relative_to(self.path).as_posix(): _stamp(path) for path in paths}

    def open(self, name: str) -> BinaryIO:
        """The file, to be closed by the caller. Raises PhotoError."""
        return open_file(self.path / name)


def _stamp(path: Path) -> list[int]:
    """Bytes and time of change; zeros of what cannot be looked at, which opening it will explain."""
    try:
        found = path.stat()
    except OSError:
        return [0, 0]
    return [found.st_size, found.st_mtime_ns]


def _walk(folder: Path) -> Iterator[Path]:
    """All files below a folder. Links to folders are followed, except into a folder that one is in already."""
    inside = {folder: {os.path.realpath(folder)}}

    def say(error: OSError) -> None:
        warnings.warn(f"{error.filename}: cannot be looked into ({error.strerror}); left out", stacklevel=2)

    for where, names, files in os.walk(folder, followlinks=True, onerror=say):
        above = inside.pop(Path(where))
        yield from (Path(where) / name for name in files)
        real = {name: os.path.realpath(Path(where) / name) for name in names}
        names[:] = [name for name in names if real[name] not in above]
        inside |= {Path(where) / name: above | {real[name]} for name in names}


class Archive:
    """Image files of a zip archive. Members are names and bytes here: nothing is ever written to a disk."""

    def __init__(self, path: Path):
        self.path = path
        self._zip: zipfile.ZipFile | None = None
        self._opener = 0  # the process that opened it
        try:
            zipfile.ZipFile(path).close()
        except (OSError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path}: not a zip archive, or a truncated one ({error}); download it again") from error

    def __getstate__(self) -> dict:
        return self.__dict__ | {"_zip": None, "_opener": 0}

    def files(self) -> dict[str, list[int]]:
        """{name: [bytes, checksum]} of all images, sorted by name."""
        with zipfile.ZipFile(self.path) as archive:
            members = {member.filename: member for member in archive.infolist() if not member.is_dir()}
        return {name: [members[name].file_size, members[name].CRC] for name in sorted(members) if _is_image(Path(name))}

    def open(self, name: str) -> BinaryIO:
        """The member, unpacked into memory up to LARGEST bytes. Raises PhotoError."""
        if self._zip is None or self._opener != os.getpid():  # reading through its parent's handle would move that
            self._zip, self._opener = zipfile.ZipFile(self.path), os.getpid()
        try:
            with self._zip.open(name) as member:
                content = io.BytesIO(member.read(LARGEST + 1))
        except (  # all that zipfile raises
            EOFError,  # of a member that is cut off
            KeyError,  # of one that is not there any more
            NotImplementedError,  # of a compression or version that it does not know
            OSError,
            RuntimeError,  # of an encrypted one
            zipfile.BadZipFile,
            zlib.error,
        ) as error:
            raise PhotoError(f"{name}: cannot be unpacked ({error})") from error
        if content.getbuffer().nbytes > LARGEST:
            raise PhotoError(f"{name}: {_too_large()}")
        content.name = name
        return content


Collection = Folder | Archive


def collection(path: Path) -> Collection:
    """The images in a folder or zip archive. Raises ValueError where there is neither."""
    if path.is_dir():
        return Folder(path)
    if path.is_file():
        return Archive(path)
    raise ValueError(f"{path}: no such folder or zip archive; data/README.md says where each data set comes from")


def facts(images: Collection, workers: int = 0) -> dict[str, dict]:
    """What each file is, decoded once in full: {name: {"mode", "width", "height"}, or {"error"}}, sorted by name.

    The result is kept in the cache folder, so that only new and changed files are looked at again.
    """
    files = images.files()
    kept_at = (
        cache_dir() / "photographs" / f"{hashlib.sha256(str(images.path.resolve()).encode()).hexdigest()[:16]}.json"
    )
    kept = _load(kept_at)
    known = {name: kept[name][1] for name, stamp in files.items() if name in kept and kept[name][0] == stamp}
    new = {name: stamp for name, stamp in files.items() if name not in known}
    if new:
        saved = time.monotonic()
        try:
            for name, found in _look_at(images, new, workers):
                known[name] = found
                if time.monotonic() - saved > KEEP_EVERY:
                    _save(kept_at, files, known)
                    saved = time.monotonic()
        finally:
            _save(kept_at, files, known)
    return {name: known[name] for name in files}


def verdict(found: dict, domain: Domain, least: tuple[int, int] | None = None) -> tuple[bool, str]:
    """Whether training in `domain` can use a file of these `facts`, and what to say of it; often nothing.

    least: rows and columns that it must have; None: those of the encoder's input
    """
    if "error" in found:
        return False, found["error"]
    mode, width, height = found["mode"], found["width"], found["height"]
    if mode != "RGB" and mode not in CONVERTED:
        return False, f"mode {mode}: a mask or a map, not a photograph of 8 bits"
    rows, columns = least or domain.input_size
    if domain.faces and abs(width - height) > 1:
        return False, f"{width} x {height}: not square; faces must be aligned, see rl.align"
    if width < columns or height < rows:
        return False, f"{width} x {height}: smaller than {columns} x {rows}"
    return True, "" if mode == "RGB" else f"mode {mode}, converted to RGB"


class _Looks:
    """A data set whose items are the facts of files, so that a DataLoader's workers find them."""

    def __init__(self, images: Collection, files: dict[str, list[int]]):
        self.images, self.files = images, list(files.items())

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, i: int) -> dict:
        name, (size, _) = self.files[i]
        if size > LARGEST:
            return {"error": _too_large()}
        try:
            with self.images.open(name) as file:
                photo = open_photo(file, whole=True)  # grey rows would be learned
                file.seek(0)
                return {"mode": Image.open(file).mode, "width": photo.width, "height": photo.height}
        except PhotoError as error:
            return {"error": str(error).partition(": ")[2] or str(error)}


def _look_at(images: Collection, files: dict[str, list[int]], workers: int) -> Iterator[tuple[str, dict]]:
    loader = DataLoader(_Looks(images, files), batch_size=None, num_workers=workers)
    return zip(files, tqdm(loader, desc=f"checking {images.path.name}", unit="image"), strict=True)


def _is_image(path: Path) -> bool:
    return is_called_photo(path) and not any(part.startswith((".", "__MACOSX")) for part in path.parts)


def _too_large() -> str:
    return f"larger than {LARGEST >> 20} MB"


def _load(path: Path) -> dict:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # none yet, or damaged: look again
        return {}


def _save(path: Path, files: dict[str, list[int]], known: dict[str, dict]) -> None:
    content = json.dumps({name: [files[name], found] for name, found in known.items()})
    keep(lambda temporary: temporary.write_text(content, encoding="utf-8"), path)
