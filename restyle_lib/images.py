"""Photographs and tensors: any file as upright 8-bit RGB, or one line that says why not; sizes and ranges of values."""

import os
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image, ImageOps
from torch import Tensor


class PhotoError(ValueError):
    """A photograph cannot be used; the message says why and what to do."""


def open_photo(file: Path | str | BinaryIO) -> Image.Image:
    """The photograph in a file, upright (EXIF orientation applied), RGB, 8 bits.

    file: a path, or an open binary file that can seek and has a `name`, which messages begin with
    Grey, palette, CMYK, 16-bit and transparent images are converted; transparency shows white.
    Raises PhotoError for a missing, empty, truncated or oversized file, and for one that is not an image.
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
    try:
        with Image.open(file) as image:
            image.load()
            return upright_rgb(image)
    except Image.DecompressionBombError as error:
        raise PhotoError(f"{name}: too large to open safely; scale it below 170 megapixels") from error
    except Image.UnidentifiedImageError as error:
        raise PhotoError(f"{name}: not an image that Pillow can read") from error
    except Exception as error:  # decoders fail in many ways on damaged files
        raise PhotoError(f"{name}: damaged or truncated image ({error}); export it again") from error


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
