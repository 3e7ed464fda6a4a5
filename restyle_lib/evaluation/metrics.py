"""Image metrics, each [B, 3, s, s] x [B, 3, s, s] in [-1, 1] -> one value per image [B]. No image is ever dropped."""

import torch
from torch import Tensor


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error on the scale [-1, 1], as the papers report it (four times the error on [0, 1])."""
    return (a - b).square().flatten(1).mean(1)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB; the peak is 2, the width of [-1, 1]."""
    return 10 * torch.log10(4 / l2(a, b).clamp_min(1e-12))
