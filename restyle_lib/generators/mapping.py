"""The mapping network of StyleGAN2 (Karras et al. 2020) and StyleGAN3: z -> w."""

import math
from collections.abc import Mapping as Dict

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


def each_slot(codes: Tensor, n_styles: int, latent: int) -> Tensor:
    """Codes [B, 512] or [B, k, 512] with a style for each slot, [B, k, 512]; raises ValueError for another shape."""
    if codes.ndim == 2:
        codes = codes[:, None].expand(-1, n_styles, -1)
    if codes.shape[1:] != (n_styles, latent):
        raise ValueError(f"codes must be [B, 512] or [B, {n_styles}, 512], got {list(codes.shape)}")
    return codes


def from_nvidia(state: Dict[str, Tensor], latent: int, label: int = 0) -> dict[str, Tensor]:
    """The weight and bias of a `Mapping` from the tensors "mapping.…" of NVIDIA's generators.

    latent: dimensions of w; label: of a class-conditional generator, the class that it samples
    Raises KeyError where a tensor is missing, and ValueError where z has other dimensions than w.
    """
    layers = sum(name.startswith("mapping.fc") and name.endswith(".weight") for name in state)
    weights, biases = ([state[f"mapping.fc{i}.{kind}"] for i in range(layers)] for kind in ("weight", "bias"))
    weights = [0.01 * weight / math.sqrt(weight.shape[1]) for weight in weights]
    biases = [0.01 * bias for bias in biases]
    if "mapping.embed.weight" in state:
        # the first layer reads z beside what the class is embedded as, and for one class that is a part of its bias
        embedding = state["mapping.embed.weight"]
        known = embedding[:, label] / math.sqrt(embedding.shape[1]) + state["mapping.embed.bias"]
        known = known * torch.rsqrt(known.square().mean() + 1e-8)
        biases[0] = biases[0] + weights[0][:, -len(known) :] @ known
        weights[0] = weights[0][:, : -len(known)]
    if weights[0].shape[1] != latent:
        raise ValueError(f"z has {weights[0].shape[1]} dimensions, styles {latent}; only equal ones can be used")
    return {"mapping.weight": torch.stack(weights), "mapping.bias": torch.stack(biases)}
