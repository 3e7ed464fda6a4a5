"""The mapping network of StyleGAN2 (Karras et al. 2020): z -> w."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Mapping(nn.Module):
    """Normalises z [B, 512], then `layers` fully connected layers with leaky ReLU -> w [B, 512].

    Equalised learning rates are folded into weight [layers, 512, 512] and bias [layers, 512] when these are loaded.
    Always in the precision of its weights, autocast or not: codes are what everything else is compared in.
    """

    def __init__(self, layers: int = 8, latent: int = 512):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(layers, latent, latent))
        self.bias = nn.Parameter(torch.zeros(layers, latent))

    def forward(self, z: Tensor) -> Tensor:
        x = z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)
        with torch.autocast(z.device.type, enabled=False):
            for weight, bias in zip(self.weight, self.bias, strict=True):
                x = math.sqrt(2) * F.leaky_relu(F.linear(x, weight, bias), 0.2)
        return x
