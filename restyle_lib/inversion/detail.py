"""Small photographs keep their own resolution: reconstructions are averaged to it before the two are compared.

An encoder sees such a photograph enlarged. Beside it stands a reconstruction that was area-averaged to the photograph's
size and enlarged alike, and losses compare the two; so nothing is asked of the generator that nobody can see. Both are
linear: each resolution is one matrix M, and an image becomes M x M'.
"""

from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

# What generators make leaves [-1, 1] by up to 1 or so where it is brightest or darkest; images in 0..255 go far beyond.
OVERSHOOT = 4


def checked(images: Tensor, size: tuple[int, int]) -> Tensor:
    """The images [n, 3, h, w] themselves. Raises ValueError where they are not what can be compared at `size`.

    That is for another shape, proportions that are not those of `size` (height, width) to one pixel, values far outside
    [-1, 1], and values that are not finite.
    """
    height, width = size
    fits = images.ndim == 4 and images.shape[1] == 3 and len(images) > 0
    if not fits or abs(images.shape[2] * width / height - images.shape[3]) >= 1:
        shape = "square" if height == width else f"in the proportions {height} x {width}"
        raise ValueError(f"images must be {shape}, [B, 3, h, w] with B >= 1, got {list(images.shape)}")
    if not torch.isfinite(images).all() or images.abs().max() > OVERSHOOT:
        raise ValueError("images must be finite and in [-1, 1]; divide 0..255 by 127.5 and subtract 1")
    return images


def at(images: Tensor, px: Tensor) -> Tensor:
    """Images [n, 3, s, s] with no more detail than images of px [n] have, enlarged to s again; s or more: as they are.

    px: on the CPU, each at least 1
    """
    size = images.shape[-2]
    if bool((px >= size).all()):  # so are all that are not square
        return images
    with torch.autocast(images.device.type, enabled=False):  # the kept matrices too must not be rounded
        m = torch.stack([_blur(min(int(p), size), size, images.device) for p in px])[:, None]
        return m @ images.float() @ m.transpose(2, 3)


def own_px(images: Tensor, size: tuple[int, int]) -> int:
    """The side of square images [n, 3, h, w] that are smaller than `size` (height, width); 0 for all others."""
    height, width = images.shape[2:]
    return height if height == width < size[0] == size[1] else 0


def fitted(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images [n, 3, h, w] in [-1, 1] at `size` (height, width): area-averaged to it, or enlarged."""
    if own_px(images, size):
        return enlarged(images, size[0]).clamp(-1, 1)
    if images.shape[2] < size[0]:
        return F.interpolate(images, size, mode="bilinear")
    return F.adaptive_avg_pool2d(images, size)


def enlarged(image: Tensor, size: int) -> Tensor:
    """A square image [..., r, r] at size px, by bicubic interpolation; may leave its range a little."""
    with torch.autocast(image.device.type, enabled=False):
        m = _enlarge(image.shape[-1], size, image.device)
        return m @ image.float() @ m.T


class SeenAt:
    """A generator in the loop: what it draws has the detail of the images beside which it is put; see `at`.

    px: of each of these images [n], on the CPU
    """

    def __init__(self, G, px: Tensor):
        self.G, self.px = G, px

    def synthesize(self, codes: Tensor) -> Tensor:
        """Codes [n, k, 512] -> images [n, 3, s, s]."""
        return at(self.G.synthesize(codes), self.px)


@lru_cache(maxsize=64)
def _enlarge(r: int, size: int, device: torch.device) -> Tensor:
    """[size, r]: how r pixels in a row become `size`."""
    rows = torch.eye(r)[None, :, None, :]  # r images of one row
    enlarge = F.interpolate(rows, (1, size), mode="bicubic", align_corners=False)[0, :, 0].T
    return enlarge.contiguous().to(device)


@lru_cache(maxsize=64)
def _blur(r: int, size: int, device: torch.device) -> Tensor:
    """[size, size]: area-averaging to r pixels, then `_enlarge`; of as many pixels as there are, nothing."""
    whole = torch.eye(size, device=device)
    return whole if r == size else _enlarge(r, size, device) @ F.adaptive_avg_pool1d(whole, r).T
