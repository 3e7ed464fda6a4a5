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
MAP_CHANNELS, MAP_SIZES = (32, 64, 128), (64, 32, 16)  # of the maps that encoders of 256 px look at
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

    What it said of the last few batches is remembered: in the residual loop the encoder hears at each step of the same
    image, and of a reconstruction of which the loss has just asked.
    """

    def __init__(self):
        super().__init__()
        self.network = networks.load("recognition")
        self.register_buffer("mean", load_file(WEIGHTS / "identity-mean.safetensors")["mean"])

    def forward(self, images: Tensor) -> Tensor:
        differentiable = torch.is_grad_enabled() and images.requires_grad
        said = None if differentiable else _LAST.of(images)
        if said is None:
            said = self._look(images)
            _LAST.keep(images, said)
        return said

    def _look(self, images: Tensor) -> Tensor:
        raw = self.network(face_crop(images, IDENTITY_CROP, 150)).float()  # autocast or not: the mean is subtracted
        return F.normalize(raw - self.mean, dim=1)

    def look(self, images: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The embeddings, and the network's maps of the face: 32, 64 and 128 channels at 35, 17 and 8 px."""
        crops = face_crop(images, IDENTITY_CROP, 150)
        raw, maps = networks.recognition_with_maps(self.network.tensors(), crops)
        return F.normalize(raw.float() - self.mean, dim=1), maps


class _Last:
    """Embeddings of the last `size` batches of images, whichever module computed them; all have the same weights."""

    def __init__(self, size: int = 4):
        self.size, self.entries = size, []

    def of(self, images: Tensor) -> Tensor | None:
        """What was said of images that are the same in every value, by the same arithmetic; else None."""
        for entry in self.entries:
            kind, seen, said = entry
            if kind == self._kind(images) and torch.equal(seen, images):
                self.entries = [other for other in self.entries if other is not entry] + [entry]
                return said
        return None

    def keep(self, images: Tensor, said: Tensor) -> None:
        """Copies, since a batch may be a view of something that changes later."""
        entry = (self._kind(images), images.detach().clone(), said.detach().clone())
        self.entries = [*self.entries[1 - self.size :], entry]

    @staticmethod
    def _kind(images: Tensor) -> tuple:
        return images.shape, images.dtype, images.device, torch.is_autocast_enabled(images.device.type)


_LAST = _Last()


@cache
def shared(device: torch.device) -> Identity:
    """One copy on a device for the encoders, the losses and the metrics; it has no parameters that could learn."""
    return Identity().eval().to(device)


@torch.compiler.disable
@torch.no_grad()
def recognise(images: Tensor) -> Tensor:
    """Embeddings [B, 128] of FFHQ-aligned images [B, 3, s, s] in [-1, 1], each of their numbers about 1 in size.

    For encoders, which look through the frozen network as the paper's begin as one for face recognition. It is shared
    by all of them, so it is in none of their files.
    """
    return math.sqrt(EMBEDDING) * shared(images.device)(images)


@torch.compiler.disable
@torch.no_grad()
def recognise_in_place(images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """What the frozen network sees in FFHQ-aligned images [B, 3, 256, 256] in [-1, 1], for encoders of that size.

    Embeddings as `recognise` returns them, and three maps [B, c, s, s] with s = 64, 32 and 16, which show the face
    where it is in the image, and zeros around it.
    """
    embeddings, maps = shared(images.device).look(images)
    return math.sqrt(EMBEDDING) * embeddings, [_in_place(m, s) for m, s in zip(maps, MAP_SIZES, strict=True)]


def _in_place(face: Tensor, size: int) -> Tensor:
    """A map of the crop -> a map of the whole image, [B, c, size, size]."""
    x0, y0, x1, y1 = (round(v * size / 256) for v in IDENTITY_CROP)
    face = F.interpolate(face, (y1 - y0, x1 - x0), mode="bilinear")
    return F.pad(face, (x0, size - x1, y0, size - y1))


def similarity(identity: Identity, a: Tensor, b: Tensor) -> Tensor:
    """Centred identity cosine of two batches of images of equal size, [B]."""
    return torch.linalg.vecdot(identity(a), identity(b))
