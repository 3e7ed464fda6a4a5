"""A judge of identity that no training has seen: HSE-FaceRes (Savchenko 2019), a MobileNet trained on VGGFace2.

A search or an encoder that is rewarded for what one network calls the same person learns to please that network, which
then cannot tell how much of it is true. So this one is for tables only: no loss may use it, no choice of checkpoints
and no encoder, and it gives no gradient.
"""

from functools import cache

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from restyle_lib.checkpoints.packing import unpack
from restyle_lib.faces.identity import face_crop
from restyle_lib.faces.networks import FaceNetwork, pad_same
from restyle_lib.images import downsample
from restyle_lib.paths import WEIGHTS

JUDGE_CROP = (29, 30, 226, 227)  # (x0, y0, x1, y1) of the face in an FFHQ-aligned image of 256 px
SIZE = 224  # that the network looks at
MEAN_BGR = (103.939, 116.779, 123.68)
STRIDED = ("conv1", "dw2", "dw4", "dw6", "dw12")  # layers that halve the size
LAYERS = ("conv1", *(f"{kind}{i}" for i in range(1, 14) for kind in ("dw", "pw")))  # depthwise, then pointwise


def mobilenet(p: dict[str, Tensor], images: Tensor) -> Tensor:
    """MobileNet v1 (Howard et al. 2017): RGB in 0..255 [B, 3, 224, 224] -> the mean of its last maps, [B, 1024]."""
    x = normalise(images)
    for name in LAYERS:
        x = F.relu6(convolution(p, name, x))
    return x.mean((2, 3))


def normalise(images: Tensor) -> Tensor:
    """RGB in 0..255 -> what the first layer reads."""
    return images.flip(1) - torch.tensor(MEAN_BGR, device=images.device).view(1, 3, 1, 1)


def convolution(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    """A layer before its ReLU6; depthwise where its filters have one channel."""
    weight, stride = p[f"{name}.weight"], 2 if name in STRIDED else 1
    groups = len(weight) if weight.shape[1] == 1 else 1
    return F.conv2d(pad_same(x, weight.shape[-1], stride), weight, p[f"{name}.bias"], stride, groups=groups)


def face(images: Tensor) -> Tensor:
    """FFHQ-aligned images [B, 3, s, s] in [-1, 1] of any size -> the face in 0..255, [B, 3, 224, 224].

    All are brought to 256 px first, so that the box lies in the same place of each to the pixel.
    """
    if images.shape[-1] < 256:
        images = F.interpolate(images, (256, 256), mode="bicubic").clamp(-1, 1)
    return face_crop(downsample(images, 256), JUDGE_CROP, SIZE)


class Judge(nn.Module):
    """FFHQ-aligned images [B, 3, s, s] in [-1, 1] -> unit embeddings [B, 1024] whose dot product is the similarity.

    Raw embeddings are means of ReLUs and all point the same way, so the mean over a reference set of photographs is
    subtracted first. Strangers among such photographs then score 0.00 +- 0.15. A set that is more alike has more in
    common: 0.20 +- 0.16 in the London set (DeBruine and Jones 2017; each person, smiling or not: 0.91 +- 0.05), 0.30
    between renders. Always in fp32 and without a gradient: for tables only, see above.
    """

    def __init__(self):
        super().__init__()
        tensors = unpack(load_file(WEIGHTS / "judge.safetensors"))
        self.register_buffer("mean", tensors.pop("mean"))
        self.network = FaceNetwork(tensors, mobilenet).to(memory_format=torch.channels_last)

    @torch.no_grad()
    def forward(self, images: Tensor) -> Tensor:
        with torch.autocast(images.device.type, enabled=False):
            return F.normalize(self.network(face(images.float())) - self.mean, dim=1)


def load_judge() -> Judge:
    """The judge with its shipped weights, on the CPU."""
    return Judge().eval()


@cache
def shared(device: torch.device) -> Judge:
    """One copy on a device for all metrics."""
    return load_judge().to(device)


def similarity(judge: Judge, a: Tensor, b: Tensor) -> Tensor:
    """Centred identity cosine of two batches of images of equal size, [B]; 1 for the same face."""
    return torch.linalg.vecdot(judge(a), judge(b))
