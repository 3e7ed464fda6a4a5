"""Photographs and tensors: any file as upright 8-bit RGB, or one line that says why not; sizes and ranges of values."""

import io
import os
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageFile, ImageOps
from torch import Tensor

HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # brands in the head of a file
MOST_MISSING = 0.2  # of a picture's rows, for it to be used
ENOUGH_SCANS = 7  # of a progressive JPEG, which has ten as a rule; the last three only sharpen
_LENIENT = threading.Lock()


class PhotoError(ValueError):
    """A photograph cannot be used; the message says why and what to do."""


def open_photo(file: Path | str | BinaryIO, whole: bool = False) -> Image.Image:
    """The photograph in a file, upright (EXIF orientation applied), RGB, 8 bits.

    file:  a path, or an open binary file that can seek and has a `name`, which messages begin with
    whole: a file that lacks its end is an error too; else it is one where much is missing, and a warning otherwise
    Grey, palette, CMYK, 16-bit and transparent images are converted; transparency shows white. HEIC needs the package
    pillow-heif. Raises PhotoError for a missing, empty, truncated or oversized file, and for one that is not an image.
    """
    if isinstance(file, Path | str):
        file = name = Path(file)
        if file.is_dir():
            raise PhotoError(f"{name}: a folder; name the photographs in it")
        if not file.is_file():
            raise PhotoError(f"{name}: no such file")
        size = file.stat().st_size
    else:
        name, size = file.name, file.seek(0, os.SEEK_END)
        file.seek(0)
    if size == 0:
        raise PhotoError(f"{name}: the file is empty")
    heic = _is_heic(file)
    try:
        if heic:
            _read_heic()
        with Image.open(file) as image:
            try:
                image.load()
            except (OSError, SyntaxError) as error:
                if whole or "truncated" not in str(error):
                    raise
                return upright_rgb(_without_its_end(file, str(name), error))
            return upright_rgb(image)
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{name}: too large to open safely; scale it below 170 megapixels") from error
    except Image.UnidentifiedImageError as error:
        if heic:
            advice = "`pip install pillow-heif` and it opens, or export it as JPEG"
            raise PhotoError(f"{name}: a HEIC photograph, as phones take them; {advice}") from error
        raise PhotoError(f"{name}: not an image that Pillow can read") from error
    except Exception as error:  # decoders fail in many ways on damaged files
        raise PhotoError(f"{name}: damaged or truncated image ({error}); export it again") from error


def _is_heic(file: Path | BinaryIO) -> bool:
    """Whether a file begins as HEIC does, whatever its name is."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return _is_heic(opened)
    head = file.read(12)
    file.seek(0)
    return head[4:8] == b"ftyp" and head[8:12] in HEIC


@cache
def _read_heic() -> None:
    """Lets Pillow read HEIC where the optional package that can is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _without_its_end(file: Path | BinaryIO, name: str, error: Exception) -> Image.Image:
    """The image in a file that ends too early, under a warning. Raises PhotoError where much of it is missing."""
    data = file.read_bytes() if isinstance(file, Path) else file.seek(0) or file.read()
    with _LENIENT, Image.open(io.BytesIO(data)) as image:
        ImageFile.LOAD_TRUNCATED_IMAGES = True  # for all threads: none but this one meets a file that ends too early
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        # what is missing shows as rows of one colour at the bottom; in a progressive file, as scans that never come
        rows = np.asarray(image.convert("RGB"))
        filled = (rows == rows[-1, 0]).all((1, 2))[::-1]
        missing = 1.0 if filled.all() else filled.argmin() / len(rows)
        blurred = image.info.get("progressive") and data.count(b"\xff\xda") < ENOUGH_SCANS
        if missing > MOST_MISSING or blurred:
            raise PhotoError(f"{name}: damaged or truncated image ({error}); export it again") from error
    warnings.warn(f"{name}: the file lacks its end and {missing:.0%} of the picture; it is used as it is", stacklevel=3)
    return image


def upright_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as upright 8-bit RGB."""
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I") or image.mode == "F":
        values = np.asarray(image, dtype=np.float64)
        # 16-bit files fill 0..65535; other integers and floats are taken as 0..1, 0..255 or 0..65535, as they fit
        peaks = [65535] if image.mode.startswith("I;16") else [255, 65535] if image.mode == "I" else [1, 255, 65535]
        peak = next((peak for peak in peaks if values.max() <= peak), 65535)
        image = Image.fromarray((values / peak * 255).clip(0, 255).round().astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def to_tensor(image: Image.Image) -> Tensor:
    """RGB PIL image -> [1, 3, h, w] in [-1, 1]."""
    values = torch.from_numpy(np.array(image.convert("RGB")))
    return to_float(values.permute(2, 0, 1)[None])


def to_image(tensor: Tensor) -> Image.Image:
    """[3, h, w] or [1, 3, h, w] in [-1, 1] -> RGB PIL image; values outside are clamped."""
    values = to_uint8(tensor.detach().reshape(tensor.shape[-3:])).cpu()
    return Image.fromarray(values.permute(1, 2, 0).contiguous().numpy())


def downsample(images: Tensor, size: int) -> Tensor:
    """Area-averages square images [B, 3, s, s] to [B, 3, size, size]."""
    return images if images.shape[-1] == size else F.adaptive_avg_pool2d(images, size)


def to_uint8(images: Tensor) -> Tensor:
    """Images in [-1, 1] -> uint8 in 0..255, clamped and rounded."""
    return (images.float().clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)


def to_float(images: Tensor) -> Tensor:
    """uint8 images -> float in [-1, 1]."""
    return images.float() / 127.5 - 1
