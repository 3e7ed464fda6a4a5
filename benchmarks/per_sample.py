"""Synthesis as StyleGAN2's is usually written: a convolution kernel for every image of a batch, in grouped
convolutions. The benchmarks time it beside ours, and the tests compare the images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle_lib.encoders.full_size import FullSizeEncoder, StackedHeads
from restyle_lib.generators import mobile, stylegan2
from restyle_lib.generators.frozen import GAIN
from restyle_lib.generators.mobile import MobileGenerator, inverse_haar
from restyle_lib.generators.stylegan2 import StyleGAN2


def synthesize(G: StyleGAN2 | MobileGenerator, codes: Tensor) -> Tensor:
    """The images of codes [B, k, 512], with the stored noise; the same weights as `G.synthesize(codes)`.

    Of the embedded generators, the small one. Its authors modulate activations, as we do; here it has kernels too.
    """
    return (_mobile if isinstance(G, MobileGenerator) else _stylegan2)(G, codes.unbind(1))


def _stylegan2(G: StyleGAN2, w: tuple[Tensor, ...]) -> Tensor:
    x, image = G.constant.expand(len(w[0]), -1, -1, -1), None
    for i, to_rgb in enumerate(G.to_rgb):
        for j in (0,) if i == 0 else (2 * i - 1, 2 * i):
            x = styled(G.convs[j], x, w[j], G.clamp)
        image = rgb(to_rgb, x, w[2 * i + 1], image, G.clamp)
    return image[:, :, slice(*G.crop)] if G.crop else image


def styled(layer: stylegan2.StyledConv, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
    """Section 2.2 of the StyleGAN2 paper, equations 1 and 3, word for word."""
    kernel = layer.weight[None] * layer.affine(w)[:, None, :, None, None]  # [B, out, in, 3, 3]
    kernel = kernel * torch.rsqrt(kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    if layer.blur is not None:
        b, c_out, c_in, *_ = kernel.shape
        grouped = x.reshape(1, b * c_in, *x.shape[2:])
        y = F.conv_transpose2d(grouped, kernel.transpose(1, 2).reshape(b * c_in, c_out, 3, 3), stride=2, groups=b)
        y = y.reshape(b, c_out, *y.shape[2:])
        y = F.conv2d(F.pad(y, (1, 1, 1, 1)), layer.blur, groups=c_out)
    else:
        y = convolved(x, kernel)
    y = y + layer.strength * layer.noise + layer.bias[:, None, None]
    y = F.leaky_relu(y, 0.2) * GAIN
    return y if clamp is None else y.clamp(-clamp, clamp)


def rgb(layer: stylegan2.ToRGB, x: Tensor, w: Tensor, image: Tensor | None, clamp: float | None) -> Tensor:
    y = convolved(x, layer.weight[None] * layer.affine(w)[:, None, :, None, None]) + layer.bias[:, None, None]
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    if image is None:
        return y
    spread = image.new_zeros(*image.shape[:2], 2 * image.shape[2], 2 * image.shape[3])
    spread[:, :, ::2, ::2] = image
    return y + F.conv2d(F.pad(spread, (2, 1, 2, 1)), layer.blur, groups=3)


def convolved(x: Tensor, kernels: Tensor) -> Tensor:
    """Every image of x [B, C, h, w] with the kernel of its own, [B, out, C, k, k], or [B, C, 1, k, k] by channel."""
    b, c_out, per_group, *size = kernels.shape
    groups = b * (x.shape[1] // per_group)
    grouped = x.reshape(1, -1, *x.shape[2:])
    y = F.conv2d(grouped, kernels.reshape(b * c_out, per_group, *size), padding=size[0] // 2, groups=groups)
    return y.reshape(b, c_out, *y.shape[2:])


def encode(encoder: FullSizeEncoder, x: Tensor) -> Tensor:
    """Residuals of images x as published code computes them: head after head, and maps in the order that tensors have.

    encoder: one whose batch normalisations are its own layers still, as `untrained` returns it, in evaluation mode
    """
    levels = zip(encoder.heads, encoder.levels(x), strict=False)
    return torch.stack([one_head(heads, i, level) for heads, level in levels for i in range(heads.heads)], dim=1)


def one_head(heads: StackedHeads, i: int, x: Tensor) -> Tensor:
    channels = heads.linear.shape[1]
    own = slice(i * channels, (i + 1) * channels)
    for weight, bias in zip(heads.weights, heads.biases, strict=True):
        x = F.leaky_relu(F.conv2d(x, weight[own], bias[own], stride=2, padding=1), 0.01)
    return F.linear(x.flatten(1), heads.linear[i].T, heads.bias[i, 0])


def _mobile(G: MobileGenerator, w: tuple[Tensor, ...]) -> Tensor:
    stem = G.stem
    kernels = stem.weight[None] * style(stem.modulation, w[0])[:, None]
    x = convolved(stem.constant.expand(len(w[0]), -1, -1, -1), kernels)
    x = F.leaky_relu(x + stem.bias[:, None, None] + stem.noise, 0.2)
    for i, block in enumerate(G.blocks):
        x = inverse_haar(x * style(block.up, w[1 + 2 * i]))
        x = mobile_styled(block.conv2, mobile_styled(block.conv1, x, w[1 + 2 * i]), w[2 + 2 * i])
    return mobile_head(G.heads["64"], x, w[G.slots_read - 1])


def mobile_styled(layer: mobile.StyledConv, x: Tensor, w: Tensor) -> Tensor:
    y = convolved(x, layer.depthwise[None] * style(layer.modulation, w)[:, :, None])
    return F.leaky_relu(F.conv2d(y, layer.pointwise, layer.bias) + layer.noise, 0.2)


def mobile_head(head: mobile.FittedHead, x: Tensor, w: Tensor) -> Tensor:
    layer = head.to_image
    kernels = layer.weight[None] * style(layer.modulation, w)[:, None]
    return inverse_haar(convolved(mobile_styled(head.conv, x, w), kernels) + layer.bias[:, None, None])


def style(layer: mobile.Modulation, w: Tensor) -> Tensor:
    """w [B, 512] -> one factor for each channel, [B, C, 1, 1]."""
    return F.linear(w, layer.weight, layer.bias)[:, :, None, None]
