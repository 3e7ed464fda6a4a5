"""A full-size encoder compiled by OpenVINO, for CPUs."""

import torch
from torch import Tensor, nn

from restyle_lib.compilation import Compiled
from restyle_lib.encoders.full_size import FullSizeEncoder


class CompiledEncoder(nn.Module):
    """Images [B, in_channels, h, w] -> residuals [B, k, 512], those of `encoder` but for rounding; no gradients.

    size: (height, width) of the images
    bf16: see `Compiled`
    """

    def __init__(self, encoder: FullSizeEncoder, size: tuple[int, int], bf16: bool = False):
        super().__init__()
        self.in_channels = encoder.in_channels
        self.compiled = Compiled(encoder.eval(), torch.zeros(1, self.in_channels, *size), bf16)

    def forward(self, images: Tensor) -> Tensor:
        return self.compiled(images)
