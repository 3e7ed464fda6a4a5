"""What no shipped network is taught to see, measured in the image: what is open, bright or edged at given landmarks.

Each is rough for one image, and still tells a direction of W where thousands of images are averaged by a linear fit.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_lib.faces import networks
from restyle_lib.faces.identity import ATTRIBUTE_CROP, face_crop

NAMES = ("mouth", "glasses", "fringe", "hair", "background")
LABELS = (*NAMES, "light", "skin")  # the last two only so that directions leave them alone
LUMINANCE = (0.299, 0.587, 0.114)
# Places in an aligned image, as shares of its side: the top of the hair, and the background beside the head.
HAIR = ((0.38, 0.12), (0.5, 0.12), (0.62, 0.12))
BACKGROUND = ((0.04, 0.06), (0.96, 0.06), (0.04, 0.3), (0.96, 0.3))
PATCH = 5  # samples across a place


class Looks(nn.Module):
    """FFHQ-aligned images [B, 3, s, s] in [-1, 1] -> labels [B, 7] in the order of LABELS.

    All are of images averaged to 128 px, where edges are of one width; luminance is in 0..1.

    mouth:      the gap between the lips, in distances of the eyes
    glasses:    how strongly the luminance changes from row to row on the nose's bridge and the temples: frames do that
    fringe:     how much darker the forehead is than the cheeks
    hair:       the luminance of the hair's top
    background: the luminance of the upper corners
    light:      how much brighter the right cheek of the image is than the left one
    skin:       the luminance of the cheeks
    """

    def __init__(self):
        super().__init__()
        self.landmarks = networks.load("landmarks")

    def forward(self, images: Tensor) -> Tensor:
        images = F.adaptive_avg_pool2d(images, 128)
        x0, y0, x1, _ = (side / 256 for side in ATTRIBUTE_CROP)
        p = self.landmarks(face_crop(images, ATTRIBUTE_CROP, 112)) * (x1 - x0) + images.new_tensor((x0, y0))
        bright = (images.clamp(-1, 1) / 2 + 0.5).mul(images.new_tensor(LUMINANCE).view(3, 1, 1)).sum(1)
        edges = F.pad((bright[:, 2:] - bright[:, :-2]).abs(), (0, 0, 1, 1))
        eyes = p[:, 36:42].mean(1), p[:, 42:48].mean(1)
        apart = (eyes[1] - eyes[0]).norm(dim=1)
        cheeks = _mean(bright, [p[:, 2].lerp(p[:, 31], 0.65), p[:, 14].lerp(p[:, 35], 0.65)])
        skin = cheeks.mean(1)
        brow = (p[:, 19] + p[:, 24]) / 2
        forehead = _mean(bright, [brow + 0.12 * (brow - p[:, 8])])[:, 0]
        bridge = [p[:, 27], p[:, 27].lerp(p[:, 28], 0.4), (p[:, 39] + p[:, 42]) / 2]
        temples = [p[:, 36].lerp(p[:, 0], 0.4), p[:, 45].lerp(p[:, 16], 0.4)]
        labels = {
            "mouth": (p[:, 66] - p[:, 62]).norm(dim=1) / apart,
            "glasses": _mean(edges, bridge, 0.015).mean(1) + _mean(edges, temples).mean(1),
            "fringe": skin - forehead,
            "hair": _mean(bright, _fixed(p, HAIR)).mean(1),
            "background": _mean(bright, _fixed(p, BACKGROUND), 0.03).mean(1),
            "light": cheeks[:, 1] - cheeks[:, 0],
            "skin": skin,
        }
        return torch.stack([labels[name] for name in LABELS], dim=1)


def _mean(values: Tensor, points: list[Tensor], reach: float = 0.02) -> Tensor:
    """Means of maps [B, s, s] over squares about each of n points [B, 2], which are shares of the side: [B, n].

    reach: half a square's side
    """
    offsets = torch.linspace(-reach, reach, PATCH, device=values.device)
    square = torch.stack(torch.meshgrid(offsets, offsets, indexing="xy"), dim=-1).flatten(0, 1)
    at = torch.stack(points, dim=1)[:, :, None] + square
    return F.grid_sample(values[:, None], at * 2 - 1, padding_mode="border", align_corners=False)[:, 0].mean(-1)


def _fixed(like: Tensor, places: tuple[tuple[float, float], ...]) -> list[Tensor]:
    return [like.new_tensor(place).expand(len(like), 2) for place in places]
