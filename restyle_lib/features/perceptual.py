"""A perceptual distance: ST-LPIPS with an AlexNet trunk."""

import torch
from torch import Tensor, nn

from restyle_lib.features.torchvision_compat import make_torchvision_importable
from restyle_lib.images import downsample


class PerceptualDistance(nn.Module):
    """LPIPS (Zhang et al. 2018) with target features computed once: images [B, 3, s, s] in [-1, 1] -> [B].

    Wraps the shift-tolerant network of the package stlpips-pytorch (Ghildyal and Liu 2022), whose weights are in its
    wheel. `features(target)` may be reused for many images.

    largest: square images of more px are area-averaged to this first; 0: all are seen as they come
    """

    def __init__(self, network: nn.Module, largest: int = 0):
        super().__init__()
        self.largest = largest
        self.network = network.requires_grad_(False).eval()

    def features(self, images: Tensor) -> list[Tensor]:
        """Unit-normalised feature maps of each layer."""
        if self.largest:
            images = downsample(images, min(self.largest, images.shape[-1]))
        maps = self.network.net(self.network.scaling_layer(images.contiguous(memory_format=torch.channels_last)))
        # 1e-20 leaves the values alone and keeps the gradient finite where a position has no active feature
        return [f / ((f.square().sum(1, keepdim=True) + 1e-20).sqrt() + 1e-10) for f in maps]

    def forward(self, images: Tensor, target: list[Tensor]) -> Tensor:
        """Distance of `images` from the images whose `features` are `target`, [B]."""
        total = 0
        for lin, a, b in zip(self.network.lins, self.features(images), target, strict=True):
            total = total + lin((a - b).square()).float().mean((1, 2, 3))
        return total


def st_lpips(largest: int = 0) -> PerceptualDistance:
    """ST-LPIPS with its AlexNet trunk, on the CPU. largest: see `PerceptualDistance`."""
    make_torchvision_importable()
    from stlpips_pytorch import stlpips

    network = stlpips.LPIPS(net="alex", variant="shift_tolerant", verbose=False)
    return PerceptualDistance(network.to(memory_format=torch.channels_last), largest)
