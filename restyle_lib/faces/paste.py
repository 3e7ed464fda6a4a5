"""A face that was cropped and changed goes back into its photograph, at its place and at the photograph's full size."""

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from restyle_lib.faces.align import cut_square
from restyle_lib.images import downsample, to_image, to_tensor

SMALL = 256  # px at which light and change are compared
LIGHT = 12  # px of these: what is smoother than this in the photograph and not in the inversion is taken for its light
PLACE = 3  # px of these: the size of a place that has changed, or has not
# Mean absolute change of such a place, in [-1, 1]. Below the first it is taken for none. At the second, the photograph
# is changed by as much. Towards the third, where a mouth has opened, both would show: there the edited image is shown.
NONE, SOME, ANOTHER = 0.01, 0.04, 0.25
# The window is an ellipse about the head, in halves of the square's side: half its axes, and the soft part of them.
ACROSS, DOWN, SOFT = 0.86, 0.96, 0.35


@torch.no_grad()
def paste(photo: Image.Image, square: np.ndarray, edited: Tensor, inverted: Tensor | None = None) -> Image.Image:
    """The photograph with another face at its place, an RGB image of the photograph's size.

    photo:    upright RGB, as `images.open_photo` returns it
    square:   corners [4, 2] of the crop in pixels of it, as `align.find_square` returns them
    edited:   [1, 3, s, s] in [-1, 1], the image that takes the crop's place
    inverted: the same before it was edited. With it, the photograph changes only where and by as much as the edit
              changed the inversion, and keeps all that the inversion missed. Without it, `edited` itself is shown
    Outside a soft ellipse within the square no pixel changes. Colour and light of what is shown are the photograph's.
    Where an edit turns the head, traces of it stay where it was. Raises ValueError for images of another shape.
    """
    if edited.shape[:2] != (1, 3) or edited.shape[2] != edited.shape[3]:
        raise ValueError(f"needs a square image [1, 3, s, s], got {list(edited.shape)}")
    if inverted is not None and inverted.shape != edited.shape:
        raise ValueError(f"edited and inverted differ in shape: {list(edited.shape)} and {list(inverted.shape)}")
    box = _box(photo, square)
    if box[0] >= box[2] or box[1] >= box[3]:
        return photo.copy()
    edited = edited.float().cpu().clamp(-1, 1)
    before = edited if inverted is None else inverted.float().cpu().clamp(-1, 1)
    light = _blurred(to_tensor(cut_square(photo, square, SMALL)) - downsample(before, SMALL), LIGHT)
    amount, replaced = _changes(before, edited) if inverted is not None else torch.ones(2, 1, 1, SMALL, SMALL)
    window = _window()

    there = to_tensor(photo.crop(box))
    side = np.hypot(*(square[3] - square[0]))
    E, D = (_warp(x, square, box, side) for x in (edited, edited - before))
    L, amount, replaced, window = (_warp(x, square, box, side) for x in (light, amount, replaced, window))
    change = (1 - replaced) * D + replaced * (E + L - there)
    result = photo.copy()
    result.paste(to_image(there + window * amount * change), box[:2])
    return result


def _changes(before: Tensor, after: Tensor) -> tuple[Tensor, Tensor]:
    """Two maps [1, 1, SMALL, SMALL] in 0..1: whether a place has changed, and whether so much that it is another."""
    difference = (downsample(after, SMALL) - downsample(before, SMALL)).abs().mean(1, keepdim=True)
    difference = _blurred(difference, PLACE)
    return _smoothstep(difference, NONE, SOME), _smoothstep(difference, SOME, ANOTHER)


def _smoothstep(x: Tensor, low: float, high: float) -> Tensor:
    t = ((x - low) / (high - low)).clamp(0, 1)
    return t * t * (3 - 2 * t)


def _window() -> Tensor:
    """[1, 1, SMALL, SMALL]: 1 on the face, and softly 0 towards the border of the ellipse, which the square holds."""
    u = (torch.arange(SMALL) + 0.5) / SMALL * 2 - 1
    radius = ((u[:, None] / DOWN) ** 2 + (u / ACROSS) ** 2).sqrt()
    return 1 - _smoothstep(radius, 1 - SOFT, 1)[None, None]


def _blurred(x: Tensor, sigma: float) -> Tensor:
    """Gaussian blur of [1, C, h, w]; beyond the border goes on what is there."""
    reach = int(3 * sigma)
    kernel = torch.exp(-(torch.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)
    x = F.pad(x, [reach] * 4, mode="replicate")
    x = F.conv2d(x, kernel, groups=x.shape[1])
    return F.conv2d(x, kernel.mT, groups=x.shape[1])


def _box(photo: Image.Image, square: np.ndarray) -> tuple[int, int, int, int]:
    """The part of the photograph (x0, y0, x1, y1) that holds all pixels inside the square."""
    x0, y0 = np.floor(square.min(0)).clip(0).astype(int)
    x1, y1 = (np.ceil(square.max(0)) + 1).clip(max=photo.size).astype(int)
    return int(x0), int(y0), int(x1), int(y1)


def _warp(image: Tensor, square: np.ndarray, box: tuple[int, int, int, int], side: float) -> Tensor:
    """An image [1, C, s, s] of the square, resampled at the pixels of the box: [1, C, y1 - y0, x1 - x0], 0 outside."""
    size = max(1, round(side))
    if size < image.shape[-1]:  # bilinear sampling alone would alias
        image = F.interpolate(image, (size, size), mode="bilinear", antialias=True)
    x, y = torch.arange(box[0], box[2], dtype=torch.float64), torch.arange(box[1], box[3], dtype=torch.float64)
    pixels = torch.stack(torch.meshgrid(x, y, indexing="xy"), dim=-1) - torch.from_numpy(square[0])
    # `cut_square` reads the square's corners as the middles of pixels: 0 and 1 are the square's borders
    axes = torch.from_numpy(np.stack([square[3] - square[0], square[1] - square[0]], axis=1))
    at = pixels @ torch.linalg.inv(axes).T * 2 - 1
    return F.grid_sample(image, at[None].float(), mode="bilinear", padding_mode="zeros", align_corners=False)
