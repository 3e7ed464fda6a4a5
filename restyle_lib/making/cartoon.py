"""A cartoon of a face, by operations on the image alone: what the toon generators learn to make directly from a code.

Two parts. The shape: the face is warped around its landmarks, to larger eyes, a smaller nose and jaw, a rounder head.
The drawing, after Winnemoeller et al. 2006 (Real-time video abstraction): flat areas by an edge-preserving filter,
light in soft steps, dark lines from a difference of Gaussians; and stronger colours. No cartoon was learned from.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle_lib.faces import networks
from restyle_lib.faces.identity import ATTRIBUTE_CROP, face_crop

LEFT_EYE, RIGHT_EYE, NOSE_TIP, MOUTH, BROWS, CHIN = (
    slice(36, 42),
    slice(42, 48),
    slice(30, 36),
    slice(48, 60),
    slice(17, 27),
    8,
)
# Radius in units of the distance of the eyes, and enlargement across and down, of each local scaling; see `_centres`.
# Those of the eyes end where they meet: what they overlap, the ridge of the nose, would be pressed into a seam.
SCALINGS = (
    (0.5, (1.4, 1.7)),  # the eyes
    (0.5, (1.4, 1.7)),
    (0.42, (0.85, 0.9)),  # the nose
    (0.75, (1.2, 1.2)),  # the mouth, which would shrink with the jaw
    (1.7, (0.74, 0.74)),  # the jaw
    (2.2, (1.16, 1.16)),  # the head above the brows
)
LUMA = (0.299, 0.587, 0.114)

_network = cache(networks.load)


def cartoon(images: Tensor) -> Tensor:
    """The cartoons of FFHQ-aligned faces [B, 3, s, s] in [-1, 1], of the same shape and range; s is at least 64."""
    warped = caricature(images)
    return draw(warped, landmarks(warped))


def caricature(images: Tensor) -> Tensor:
    """The first part alone: faces [B, 3, s, s] in [-1, 1] in the shape of their cartoons."""
    return warp(images, warp_grid(landmarks(images), images.shape[-1]), "bicubic").clamp(-1, 1)


@torch.no_grad()
def landmarks(images: Tensor) -> Tensor:
    """The 68 landmarks of FFHQ-aligned faces [B, 3, s, s] in [-1, 1]: [B, 68, 2], x and y in [-1, 1] of the image."""
    x0, y0, x1, _ = ATTRIBUTE_CROP
    found = torch.cat([_network("landmarks")(face_crop(part, ATTRIBUTE_CROP, 112)) for part in images.split(16)])
    return (torch.tensor([x0, y0]) + found * (x1 - x0)) / 128 - 1


def warp_grid(points: Tensor, size: int) -> Tensor:
    """Where each pixel of the warped image comes from, [B, size, size, 2] for `warp`; points are `landmarks`."""
    axis = _axis(size)
    grid = torch.stack(torch.meshgrid(axis, axis, indexing="xy"), dim=-1).expand(len(points), -1, -1, -1)
    unit = _eye_distance(points).view(-1, 1, 1, 1)
    move = torch.zeros_like(grid)
    for centre, (radius, enlargement) in zip(_centres(points), SCALINGS, strict=True):
        away = grid - centre[:, None, None]
        near = (1 - (away.norm(dim=-1, keepdim=True) / (radius * unit)).square()).clamp_min(0).square()
        move = move + away * (1 / torch.tensor(enlargement) - 1) * near
    return grid + move


def warp(maps: Tensor, grid: Tensor, mode: str = "bilinear") -> Tensor:
    """Images or feature maps [B, C, s, s], sampled where `warp_grid` of the same size says."""
    return F.grid_sample(maps, grid, mode, padding_mode="reflection", align_corners=False)


def draw(x: Tensor, points: Tensor) -> Tensor:
    """Faces [B, 3, s, s] in [-1, 1] and their `landmarks`, drawn: flat, in soft steps of light, with dark lines."""
    scale = x.shape[-1] / 256
    flat = x
    for _ in range(3):
        flat = smooth(flat, _pixels(3 * scale), 0.004)
    sharp = smooth(x, _pixels(1.5 * scale), 0.002)
    sharp = sharp + 0.5 * (sharp - _box(sharp, _pixels(6 * scale)))
    flat = torch.lerp(flat, sharp, _eyes(points, x.shape[-1])).clamp(-1, 1)

    light = _luma(flat)
    colour = flat - light
    shade = (light + _steps(light, 5)) / 2
    shade = ((shade + 1) / 2).clamp(1e-4, 1) ** 0.82 * 2 - 1
    edges = smooth(light, _pixels(2 * scale), 0.003)
    darker = blur(edges, 2.2 * scale) - blur(edges, 0.8 * scale)
    line = (6 * (darker - 0.045)).clamp(0, 1)
    return torch.lerp(shade + 1.3 * colour, -0.85 + 0.25 * colour, line).clamp(-1, 1)


def smooth(x: Tensor, radius: int, epsilon: float) -> Tensor:
    """The guided filter (He et al. 2010) with the image's mean channel as its guide; variances below epsilon go."""
    guide = x.mean(1, keepdim=True)
    mean_guide, mean = _box(guide, radius), _box(x, radius)
    slope = (_box(guide * x, radius) - mean_guide * mean) / (_box(guide * guide, radius) - mean_guide**2 + epsilon)
    return _box(slope, radius) * guide + _box(mean - slope * mean_guide, radius)


def blur(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of [B, C, s, s]; sigma in pixels."""
    radius = int(2.5 * sigma + 1)
    kernel = torch.exp(-torch.arange(-radius, radius + 1).square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, -1)
    x = F.pad(x, (radius,) * 4, mode="reflect")
    return F.conv2d(F.conv2d(x, kernel[..., None], groups=x.shape[1]), kernel[:, :, None], groups=x.shape[1])


def _box(x: Tensor, radius: int) -> Tensor:
    """Means over squares of 2 radius + 1, by running sums: their cost does not depend on the radius."""
    side = 2 * radius + 1
    x = F.pad(x, (radius + 1, radius) * 2, mode="reflect")
    for dim in (2, 3):
        sums = x.cumsum(dim)
        length = x.shape[dim] - side
        x = (sums.narrow(dim, side, length) - sums.narrow(dim, 0, length)) / side
    return x


def _luma(x: Tensor) -> Tensor:
    return (x * torch.tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def _steps(light: Tensor, n: int) -> Tensor:
    """Light in [-1, 1], in n equal steps with soft edges."""
    u = (light + 1) / 2 * n - 0.5
    lower = u.floor()
    return (lower + torch.sigmoid(10 * (u - lower - 0.5)) + 0.5) / n * 2 - 1


def _eyes(points: Tensor, size: int) -> Tensor:
    """1 in ellipses around the eyes, softly falling to 0: [B, 1, size, size]."""
    axis, unit = _axis(size), _eye_distance(points).view(-1, 1, 1)
    masks = []
    for part in (LEFT_EYE, RIGHT_EYE):
        x, y = points[:, part].mean(1).view(-1, 2, 1, 1).unbind(1)
        far = ((axis - x) / (0.42 * unit)).square() + ((axis[:, None] - y) / (0.3 * unit)).square()
        masks.append(torch.sigmoid(6 * (1 - far)))
    return sum(masks).clamp(max=1)[:, None]


def _centres(points: Tensor) -> list[Tensor]:
    """Of `SCALINGS`, each [B, 2]."""
    left, right, nose, mouth, brows = (points[:, p].mean(1) for p in (LEFT_EYE, RIGHT_EYE, NOSE_TIP, MOUTH, BROWS))
    chin = points[:, CHIN]
    return [left, right, nose, mouth, torch.lerp(mouth, chin, 0.8), torch.lerp(brows, chin, -0.25)]


def _eye_distance(points: Tensor) -> Tensor:
    return (points[:, RIGHT_EYE].mean(1) - points[:, LEFT_EYE].mean(1)).norm(dim=1)


def _axis(size: int) -> Tensor:
    """Pixel centres from -1 to 1."""
    return (torch.arange(size) * 2 + 1) / size - 1


def _pixels(radius: float) -> int:
    return max(1, round(radius))
