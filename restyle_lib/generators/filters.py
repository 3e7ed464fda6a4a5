"""Filters of StyleGAN3 (Karras et al. 2021), and the leaky ReLU between them (section 3.2 and appendix C)."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

LARGEST = 2**23  # elements of the finer map that are in memory at a time; sixteen channels are at least


def lowpass(taps: int, cutoff: float, half_width: float, rate: float) -> Tensor:
    """A windowed sinc [taps] of sum 1: passes up to `cutoff`, in a transition band of 2 half widths (appendix C.1).

    cutoff, half_width: in cycles per image, as `rate`, the samples per image of the signal that it filters
    """
    x = np.arange(taps) - (taps - 1) / 2
    h = np.sinc(2 * cutoff / rate * x) * _kaiser(taps, half_width, rate)
    return torch.from_numpy(h / h.sum()).float()


def radial_lowpass(taps: int, cutoff: float, half_width: float, rate: float) -> Tensor:
    """The filter of StyleGAN3-R, [taps, taps] of sum 1: a jinc, the same in all directions, in a separable window.

    `lowpass` has the arguments. taps is even, so that no tap is at the centre.
    """
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    r = np.hypot(x[:, None], x)
    h = torch.special.bessel_j1(torch.from_numpy(2 * math.pi * cutoff * r)).numpy() / r
    window = _kaiser(taps, half_width, rate)
    h = h * window[:, None] * window
    return torch.from_numpy(h / h.sum()).float()


def _kaiser(taps: int, half_width: float, rate: float) -> np.ndarray:
    """Kaiser's window whose attenuation is what so many taps can have at such a transition band (Kaiser 1974)."""
    attenuation = 2.285 * (taps - 1) * math.pi * 4 * half_width / rate + 7.95  # dB
    if attenuation > 50:
        beta = 0.1102 * (attenuation - 8.7)
    elif attenuation > 21:
        beta = 0.5842 * (attenuation - 21) ** 0.4 + 0.07886 * (attenuation - 21)
    else:
        beta = 0.0
    return np.kaiser(taps, beta)


def filtered_leaky_relu(
    x: Tensor, up_filter: Tensor, up: int, down_filter: Tensor, down: int, padding: tuple[int, int], clamp: float | None
) -> Tensor:
    """Maps [B, C, h, w] -> leaky ReLU of slope 0.2 and gain sqrt(2), at a higher rate, low-passed before and after it.

    up_filter:   [up * taps], for rows and columns
    down_filter: [taps, taps]
    padding:     samples of zeros before and after the signal at the higher rate; a negative number takes samples away
    clamp:       bound of the activations at the higher rate
    The map of the higher rate is never there as a whole: some channels after others, and again for the gradients.
    """
    up_filter = up_filter * (up * 2**0.25)  # for zeros between samples, and for the gain: both act twice, here each
    channels = max(16, LARGEST // (up * up * x[:, 0].numel()) // 16 * 16)  # sixteen are a vector of a CPU

    def part(x: Tensor) -> Tensor:
        x = F.leaky_relu_(upsample(x, up_filter, up, padding), 0.2)
        if clamp is not None:
            x = x.clamp(-clamp, clamp) if x.requires_grad else x.clamp_(-clamp, clamp)
        return downsample(x, down_filter, down)

    if torch.is_grad_enabled() and x.requires_grad:
        again = {"use_reentrant": False, "preserve_rng_state": False}
        parts = [checkpoint(part, some, **again) for some in x.split(channels, dim=1)]
    else:
        parts = [part(some) for some in x.split(channels, dim=1)]
    return torch.cat(parts, dim=1) if len(parts) > 1 else parts[0]


def upsample(x: Tensor, taps: Tensor, up: int, padding: tuple[int, int]) -> Tensor:
    """Zeros between samples, `padding` around them, then the filter: [B, C, h, w] -> [B, C, H, W].

    H = up * h + sum(padding) + 1 - len(taps), and the same for w. Each of the `up` phases of the result reads every
    up-th tap only, so no zero is ever multiplied.
    """
    before, after = padding
    first = -(before // up)  # of the samples that any result reads; those below 0 are zeros
    length = up * x.shape[2] + before + after + 1 - len(taps)
    phases = []
    for phase in range(up):
        k = (before - phase) % up
        phases.append((taps[k::up], (phase + k - before) // up - first, -(-(length - phase) // up)))
    last = max(start + count + len(some) - 1 for some, start, count in phases)
    pad = (-first, last + first - x.shape[2])
    x = F.pad(x, pad + pad).contiguous(memory_format=torch.channels_last)
    return _along(_along(x, phases, length, 2), phases, length, 3)


def _along(x: Tensor, phases: list[tuple[Tensor, int, int]], length: int, axis: int) -> Tensor:
    """The phases of an axis, each filtered from a first sample on, put together."""
    shape = list(x.shape)
    shape[axis] = length
    y = torch.empty(shape, dtype=x.dtype, device=x.device, memory_format=torch.channels_last)
    for phase, (taps, start, count) in enumerate(phases):
        if count:
            kernel = taps[:, None] if axis == 2 else taps[None]
            part = _depthwise(x.narrow(axis, start, count + len(taps) - 1), kernel)
            y[(slice(None),) * axis + (slice(phase, None, len(phases)),)] = part
    return y


def downsample(x: Tensor, taps: Tensor, down: int) -> Tensor:
    """The filter, then every `down`-th sample: [B, C, h, w] -> [B, C, ceil((h + 1 - len(taps)) / down), …]."""
    return _depthwise(x, taps, down)


def _depthwise(x: Tensor, kernel: Tensor, stride: int = 1) -> Tensor:
    channels = x.shape[1]
    return F.conv2d(x, kernel.to(x.dtype).expand(channels, 1, -1, -1), stride=stride, groups=channels)
