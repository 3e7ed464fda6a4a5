"""Finds the faces of a photograph and their 68 landmarks."""

import math
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
MIN_SCORE_OF_TILES = 0.65  # there are hundreds of them to be wrong about
SMALLEST_TILE = 240  # px of a photograph: a face of 40 px is then as large as the detector needs

_network = cache(networks.load)  # photographs are read one by one, always on the CPU


@dataclass
class Face:
    """A face in a photograph: box (x0, y0, x1, y1) in its pixels, and the detector's score in 0..1."""

    box: tuple[float, float, float, float]
    score: float

    @property
    def area(self) -> float:
        return (self.box[2] - self.box[0]) * (self.box[3] - self.box[1])


def find_faces(image: Image.Image, small: bool = False) -> list[Face]:
    """The faces in an RGB image, largest first; an empty list where there is none.

    Large photographs in which none is found as a whole are looked at in pieces, ever smaller ones until there is one,
    so that faces down to 40 px are found. small: to the smallest pieces in any case, for the other faces of a group; it
    takes seconds for 12 megapixels.
    """
    boxes, scores = zip(*(_detect(image, side) for side in INPUT_SIDES), strict=True)
    faces = _separate(torch.cat(boxes), torch.cat(scores))
    for cover in covers(max(image.size)):
        if faces and not small:
            break
        found = [_detect_in(image, tile) for tile in tiles(image.size, cover)]
        boxes, scores = (torch.cat(each) for each in zip(*found, strict=True))
        known = torch.tensor([face.box for face in faces]).reshape(-1, 4)
        # what larger pieces have found stays as it was: it comes first
        scores_of_known = torch.tensor([1 + face.score for face in faces])
        faces = _separate(torch.cat([known, boxes]), torch.cat([scores_of_known, scores]))
        faces = [Face(face.box, face.score - (face.score > 1)) for face in faces]
    return sorted(faces, key=lambda face: face.area, reverse=True)


def _separate(boxes: Tensor, scores: Tensor) -> list[Face]:
    return [Face(tuple(boxes[i].tolist()), scores[i].item()) for i in non_maximum_suppression(boxes, scores)]


def covers(longer: int) -> list[int]:
    """Sides of the pieces that an image of that longer side is looked at in, ever smaller; none for a small image."""
    sides, side = [], longer / 2
    while side > 1.3 * SMALLEST_TILE:
        sides.append(round(side))
        side /= 2
    return [*sides, SMALLEST_TILE] if sides else []


def tiles(size: tuple[int, int], cover: int) -> list[tuple[int, int, int, int]]:
    """Boxes (x0, y0, x1, y1) of side `cover` that cover an image of (width, height), each a quarter into the next."""
    starts = []
    for whole in size:
        count = max(1, math.ceil((whole - cover) / (0.75 * cover)) + 1)
        starts.append([round(i * max(0, whole - cover) / max(1, count - 1)) for i in range(count)])
    return [(x, y, min(size[0], x + cover), min(size[1], y + cover)) for y in starts[1] for x in starts[0]]


def _detect_in(image: Image.Image, tile: tuple[int, int, int, int]) -> tuple[Tensor, Tensor]:
    """As `_detect`, in a piece of the image: what its edge cuts, and what is not sure, does not count."""
    boxes, scores = _detect(image.crop(tile), INPUT_SIDES[1])
    x0, y0, x1, y1 = tile
    edge = 0.02 * (x1 - x0)
    inner = torch.tensor([edge if x0 else -1e9, edge if y0 else -1e9])
    outer = torch.tensor([x1 - x0 - edge if x1 < image.width else 1e9, y1 - y0 - edge if y1 < image.height else 1e9])
    whole = ((boxes[:, :2] > inner) & (boxes[:, 2:] < outer)).all(1) & (scores > MIN_SCORE_OF_TILES)
    return boxes[whole] + torch.tensor([x0, y0, x0, y0]), scores[whole]


def find_landmarks(image: Image.Image, box: tuple[float, float, float, float]) -> np.ndarray:
    """The 68 landmarks [68, 2] in pixels of `image`, of the face that fills the square around `box`."""
    x0, y0, x1, y1 = box
    side = max(x1 - x0, y1 - y0)
    left, top = (x0 + x1 - side) / 2, (y0 + y1 - side) / 2
    # transform reads black outside the image, which is how the network was trained
    affine: tuple[float, ...] = (side / 112, 0, left, 0, side / 112, top)
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
