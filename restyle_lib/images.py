"""Photographs and tensors: any file as upright 8-bit RGB, or one line that says why not; sizes and ranges of values."""

import io
import os
import stat
import threading
import warnings
from functools import cache
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageCms, ImageFile, ImageOps
from torch import Tensor

# What Pillow may take a file for. It knows more, some of which call other programs (PostScript) or are seldom tested.
FORMATS = ("AVIF", "BMP", "GIF", "HEIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
ENDINGS = {".avif", ".bmp", ".gif", ".heic", ".heif", ".jp2", ".jpeg", ".jpg", ".png", ".tif", ".tiff", ".webp"}
HEIC = {b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"}  # brands in the head of a file
ROW_BY_ROW = {"JPEG", "MPO", "PNG"}  # from the top; a BMP begins at the bottom, a GIF has every eighth row first
MOST_MISSING = 0.2  # of a picture's rows, for it to be used
ENOUGH_SCANS = 7  # of a progressive JPEG, which has ten as a rule; the last three only sharpen
_LENIENT = threading.Lock()


class PhotoError(ValueError):
    """A photograph cannot be used; the message says why and what to do."""


def is_called_photo(name: Path) -> bool:
    """Whether a file is called like a photograph: what is used of a folder. Hidden files are not."""
    return name.suffix.lower() in ENDINGS and not name.name.startswith(".")


def open_photo(file: Path | str | BinaryIO, whole: bool = False) -> Image.Image:
    """The photograph in a file, upright (EXIF orientation applied), RGB, 8 bits, sRGB.

    file:  a path, or an open binary file that can seek and has a `name`, which messages begin with
    whole: a file that lacks its end is an error too; else it is one where much is missing, and a warning otherwise
    Grey, palette, CMYK, 16-bit and transparent images are converted; transparency shows white; of an animation it is
    the first picture. HEIC needs the package pillow-heif. Raises PhotoError for a missing, empty, truncated or
    oversized file, and for one that is not an image.
    """
    if not isinstance(file, Path | str):
        return _read(file, whole)
    with open_file(Path(file)) as opened:
        return _read(opened, whole)


def open_file(path: Path) -> BinaryIO:
    """An ordinary file, opened for reading. Raises PhotoError where there is none, or something else."""
    _check_place(path)
    try:
        return path.open("rb")
    except OSError as error:
        raise PhotoError(f"{path}: cannot be opened ({error.strerror})") from error


def _check_place(path: Path) -> None:
    """Raises PhotoError where there is no file; a pipe would make its reader wait for ever."""
    try:
        mode = path.stat().st_mode
    except FileNotFoundError as error:
        raise PhotoError(f"{path}: no such file{' behind that link' if path.is_symlink() else ''}") from error
    except (OSError, ValueError) as error:  # may not be looked at, links in a circle, a name of 300 letters
        raise PhotoError(f"{path}: cannot be opened ({getattr(error, 'strerror', error)})") from error
    if stat.S_ISDIR(mode):
        raise PhotoError(f"{path}: a folder; name the photographs in it")
    if not stat.S_ISREG(mode):
        raise PhotoError(f"{path}: a pipe or a device, not a file")


def _read(file: BinaryIO, whole: bool) -> Image.Image:
    """As `open_photo`, of an open file."""
    name = file.name
    if file.seek(0, os.SEEK_END) == 0:
        raise PhotoError(f"{name}: the file is empty")
    file.seek(0)
    head = file.read(12)
    heic = head[4:8] == b"ftyp" and head[8:12] in HEIC
    try:
        if heic:
            _read_heic()
        with _open(file) as image:
            try:
                image.load()
            except (OSError, SyntaxError) as error:
                if whole or "truncated" not in str(error):
                    raise
                return upright_rgb(_without_its_end(file, name, error))
            return upright_rgb(image)
    except PhotoError:
        raise
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{name}: too large to open safely; scale it below 170 megapixels") from error
    except Image.UnidentifiedImageError as error:
        if heic:
            advice = "`pip install pillow-heif` and it opens, or export it as JPEG"
            raise PhotoError(f"{name}: a HEIC photograph, as phones take them; {advice}") from error
        raise PhotoError(f"{name}: not an image that is read here; export it as JPEG or PNG") from error
    except Exception as error:  # decoders fail in many ways on damaged files
        raise PhotoError(f"{name}: damaged or truncated image ({error}); export it again") from error


def _open(file: BinaryIO) -> Image.Image:
    """The image in a file, not decoded yet."""
    Image.init()
    with warnings.catch_warnings():
        # Pillow warns from half the size on from which it refuses; cameras make such photographs
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        return Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])


@cache
def _read_heic() -> None:
    """Lets Pillow read HEIC where the optional package that can is installed."""
    try:
        import pillow_heif
    except ImportError:
        return
    pillow_heif.register_heif_opener()


def _without_its_end(file: BinaryIO, name: str, error: Exception) -> Image.Image:
    """The image in a file that ends too early, under a warning. Raises PhotoError where much of it is missing."""
    file.seek(0)
    data = file.read()
    with _LENIENT, _open(io.BytesIO(data)) as image:
        ImageFile.LOAD_TRUNCATED_IMAGES = True  # for all threads: none but this one meets a file that ends too early
        try:
            image.load()
        finally:
            ImageFile.LOAD_TRUNCATED_IMAGES = False
        # what is missing shows as rows of one colour at the bottom; in a progressive file, as scans that never come
        rows = np.asarray(image)
        filled = next((i for i, row in enumerate(rows[::-1]) if (row != rows[-1, 0]).any()), len(rows))
        missing = filled / len(rows)
        blurred = image.info.get("progressive") and data.count(b"\xff\xda") < ENOUGH_SCANS
        elsewhere = image.format not in ROW_BY_ROW or image.info.get("interlace")
        if missing > MOST_MISSING or blurred or elsewhere:
            raise PhotoError(f"{name}: damaged or truncated image ({error}); export it again") from error
    warnings.warn(f"{name}: the file lacks its end and {missing:.0%} of the picture; it is used as it is", stacklevel=4)
    return image


def upright_rgb(image: Image.Image) -> Image.Image:
    """Any PIL image as upright 8-bit RGB in the colours of sRGB, without its file's notes: of the result, a copy."""
    try:
        image = ImageOps.exif_transpose(image)
    except Exception:  # a camera's notes can be broken in many ways, and the picture be whole
        image = image.copy()
    if image.mode.startswith("I") or image.mode == "F":
        image = Image.fromarray(_in_8_bits(image))
    image = _in_srgb(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = image.convert("RGB")
    image.info.clear()  # it would no longer be true
    return image


def _in_8_bits(image: Image.Image) -> np.ndarray:
    """Grey values in 0..255 of an image of integers or floats; what is not a number becomes black."""
    values = np.array(image, dtype=np.float32)
    finite = values[np.isfinite(values)]
    highest = finite.max() if finite.size else 1
    # 16-bit files fill 0..65535; other integers and floats are taken as 0..1, 0..255 or 0..65535, as they fit
    peaks = [65535] if image.mode.startswith("I;16") else [255, 65535] if image.mode == "I" else [1, 255, 65535]
    peak = next((peak for peak in peaks if highest <= peak), 65535)
    np.nan_to_num(values, copy=False, nan=0, posinf=peak, neginf=0)
    return (values * (255 / peak)).clip(0, 255).round().astype(np.uint8)


def _in_srgb(image: Image.Image) -> Image.Image:
    """The image with its colour profile applied, where it has one that fits and that is not of sRGB itself."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA" if image.has_transparency_data else "RGB")
    try:
        found = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "sRGB" in ImageCms.getProfileDescription(found):
            return image
        mode = "RGBA" if image.mode == "RGBA" else "RGB"
        return ImageCms.profileToProfile(image, found, ImageCms.createProfile("sRGB"), outputMode=mode) or image
    except (ImageCms.PyCMSError, OSError, ValueError):  # broken, or of another kind of pixels: as if there were none
        return image


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
