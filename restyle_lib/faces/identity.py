"""Face identity: which person an FFHQ-aligned image shows, as a centred cosine."""

import math
from functools import cache

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from restyle_lib.faces import networks
from restyle_lib.paths import WEIGHTS

EMBEDDING = 128  # length of an embedding
MAP_CHANNELS, MAP_STRIDES = (32, 64, 128), (4, 8, 16)  # of the maps that encoders look at
# (x0, y0, x1, y1) of the face in an FFHQ-aligned image of 256 px; the network was trained on such tight crops.
IDENTITY_CROP = (38, 64, 218, 244)
ATTRIBUTE_CROP = (32, 56, 224, 248)


def face_crop(images: Tensor, box: tuple[int, int, int, int], size: int) -> Tensor:
    """Aligned images [B, 3, s, s] in [-1, 1] of any size -> the face in 0..255, [B, 3, size, size]."""
    s = images.shape[-1]
    x0, y0, x1, y1 = (round(v * s / 256) for v in box)
    crop = F.interpolate(images[:, :, y0:y1, x0:x1], (size, size), mode="bilinear", antialias=s > 256)
    return crop * 127.5 + 127.5


class Identity(nn.Module):
    """FFHQ-aligned images [B, 3, s, s] in [-1, 1] -> unit embeddings [B, 128] whose dot product is the similarity.

    The network's raw embeddings all point the same way (cosine 0.87 between strangers), so the mean embedding of a
    reference set is subtracted first; strangers then score -0.005 +- 0.22.
    """

    def __init__(self):
        super().__init__()
        self.network = networks.load("recognition")
        self.register_buffer("mean", load_file(WEIGHTS / "identity-mean.safetensors")["mean"])

    def forward(self, images: Tensor) -> Tensor:
        raw = self.network(face_crop(images, IDENTITY_CROP, 150)).float()  # autocast or not: the mean is subtracted
        return F.normalize(raw - self.mean, dim=1)

    def look(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The embeddings, and the network's maps of the face: 32, 64 and 128 channels at 35, 17 and 8 px."""
        crops = face_crop(images, IDENTITY_CROP, 150)
        raw, maps = networks.recognition_with_maps(self.network.tensors(), crops)
        return F.normalize(raw.float() - self.mean, dim=1), maps


@cache
def shared(device: torch.device) -> Identity:
    """One copy on a device for the encoders, the losses and the metrics; it has no parameters that could learn."""
    return Identity().eval().to(device)


def recognise_in_place(images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The conditioning of the encoders: embeddings and feature maps of FFHQ-aligned images [B, 3, s, s] in [-1, 1].

    They see images through a frozen face-recognition network, where the paper's backbone begins as one (IR-SE50). All
    share it, so it is in none of their files. Embeddings are [B, 128], each of their numbers about 1 in size. The three
    maps [B, c, s/4, s/4], s/8 and s/16 are the network's maps of the face, put where the face is in the image, with
    zeros around it.
    """
    if torch.compiler.is_compiling():  # only here: to import the compiler takes two seconds
        return torch.compiler.disable(_recognise)(images)
    return _recognise(images)


@torch.no_grad()
def _recognise(images: Tensor) -> tuple[Tensor, list[Tensor]]:
    embeddings, maps = shared(images.device).look(images)
    sizes = (images.shape[-1] // stride for stride in MAP_STRIDES)
    return math.sqrt(EMBEDDING) * embeddings, [_in_place(m, s) for m, s in zip(maps, sizes, strict=True)]


def _in_place(face: Tensor, size: int) -> Tensor:
    """A map of the crop -> a map of the whole image, [B, c, size, size]."""
    x0, y0, x1, y1 = (round(v * size / 256) for v in IDENTITY_CROP)
    face = F.interpolate(face, (y1 - y0, x1 - x0), mode="bilinear")
    return F.pad(face, (x0, size - x1, y0, size - y1))


def similarity(identity: Identity, a: Tensor, b: Tensor) -> Tensor:
    """Centred identity cosine of two batches of images of equal size, [B]."""
    return torch.linalg.vecdot(identity(a), identity(b))
