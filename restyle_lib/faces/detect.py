"""Finds the faces of a photograph and their 68 landmarks."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from restyle_lib.faces import networks
from restyle_lib.images import to_tensor

# Tiny YOLOv2's anchor boxes, width and height in cells of 32 pixels.
ANCHORS = ((1.603231, 2.094468), (6.041143, 7.080126), (2.882459, 3.518061), (4.266906, 5.178857), (9.041765, 10.66308))
INPUT_SIDES = (224, 416, 608)  # large faces are found better at the first (253 of 256), small ones at the others
MIN_SCORE, MAX_OVERLAP = 0.5, 0.4

_network = cache(networks.load)  # photographs are read one by one, always on the CPU


@dataclass
class Face:
    """A face in a photograph: box (x0, y0, x1, y1) in its pixels, and the detector's score in 0..1."""

    box: tuple[float, float, float, float]
    score: float

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


def find_faces(image: Image.Image) -> list[Face]:
    """The faces in an RGB image, largest first; an empty list where there is none."""
    boxes, scores = zip(*(_detect(image, side) for side in INPUT_SIDES), strict=True)
    boxes, scores = torch.cat(boxes), torch.cat(scores)
    faces = [Face(tuple(boxes[i].tolist()), scores[i].item()) for i in non_maximum_suppression(boxes, scores)]
    return sorted(faces, key=lambda face: face.area, reverse=True)


def find_landmarks(image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    """The 68 landmarks [68, 2] in pixels of `image`, of the face that fills the square around `box`."""
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    # transform reads black outside the image, which is how the network was trained
    affine = (side / 112, 0, left, 0, side / 112, top)
    scale = max(1, int(side // 112))
    source = image
    if scale > 1:  # transform does not average; reduce first, so that large faces are not sampled sparsely
        source = image.reduce(scale)
        affine = tuple(v / scale for v in affine)
    crop = source.transform((112, 112), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR)
    with torch.inference_mode():
        points = _network("landmarks")(to_tensor(crop) * 127.5 + 127.5)[0]
    return points.double().numpy() * side + (left, top)


@torch.inference_mode()
def _detect(image: Image.Image, side: int) -> tuple[Tensor, Tensor]:
    """Boxes [m, 4] in pixels of `image` and scores [m], found with the image scaled to a longer side of `side`."""
    scale = side / max(image.size)
    small = image.resize([max(1, round(v * scale)) for v in image.size], Image.Resampling.BILINEAR, reducing_gap=2)
    padded = Image.new("RGB", (side, side))
    padded.paste(small)
    boxes, scores = decode(_network("detector")(to_tensor(padded) * 127.5 + 127.5)[0], side)
    return boxes / scale, scores


def decode(raw: Tensor, side: int) -> tuple[Tensor, Tensor]:
    """Detector output [25, n, n] -> boxes [m, 4] in input pixels and scores [m], those above MIN_SCORE."""
    n = raw.shape[-1]
    x, y, w, h, score = raw.reshape(5, 5, n, n).unbind(1)  # each [anchor, row, column]
    row, column = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    anchors = torch.tensor(ANCHORS)[:, :, None, None]
    cx, cy = (column + x.sigmoid()) * side / n, (row + y.sigmoid()) * side / n
    w, h = w.exp() * anchors[:, 0] * side / n, h.exp() * anchors[:, 1] * side / n
    boxes = torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], dim=-1)
    keep = score.sigmoid() > MIN_SCORE
    return boxes[keep], score.sigmoid()[keep]


def non_maximum_suppression(boxes: Tensor, scores: Tensor) -> list[int]:
    """Indices of the boxes that remain, best first; a box that overlaps a better one by MAX_OVERLAP (IoU) goes."""
    kept: list[int] = []
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for i in scores.argsort(descending=True).tolist():
        corner0, corner1 = torch.maximum(boxes[i, :2], boxes[kept, :2]), torch.minimum(boxes[i, 2:], boxes[kept, 2:])
        shared = (corner1 - corner0).clamp_min(0).prod(1)
        if not len(kept) or (shared / (area[i] + area[kept] - shared)).max() <= MAX_OVERLAP:
            kept.append(i)
    return kept
