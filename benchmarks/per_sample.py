"""StyleGAN2's synthesis as it is usually written: a convolution kernel for every image of a batch, in grouped
convolutions. The benchmark times it beside ours, and the tests compare the images."""

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle_lib.generators.stylegan2 import GAIN, StyledConv, StyleGAN2, ToRGB


@torch.no_grad()
def synthesize(G: StyleGAN2, codes: Tensor) -> Tensor:
    """The images of codes [B, k, 512], with the stored noise; the same weights as `G.synthesize(codes)`."""
    w = codes.unbind(1)
    x, image = G.constant.expand(len(codes), -1, -1, -1), None
    for i, to_rgb in enumerate(G.to_rgb):
        for j in (0,) if i == 0 else (2 * i - 1, 2 * i):
            x = styled(G.convs[j], x, w[j], G.clamp)
        image = rgb(to_rgb, x, w[2 * i + 1], image, G.clamp)
    return image[:, :, slice(*G.crop)] if G.crop else image


def styled(layer: StyledConv, x: Tensor, w: Tensor, clamp: float | None) -> Tensor:
    """Section 2.2 of the StyleGAN2 paper, equations 1 and 3, word for word."""
    kernel = layer.weight[None] * layer.affine(w)[:, None, :, None, None]  # [B, out, in, 3, 3]
    kernel = kernel * torch.rsqrt(kernel.square().sum((2, 3, 4), keepdim=True) + 1e-8)
    b, c_out, c_in, *_ = kernel.shape
    grouped = x.reshape(1, b * c_in, *x.shape[2:])
    if layer.up:
        kernel = kernel.transpose(1, 2).reshape(b * c_in, c_out, 3, 3)
        y = F.conv_transpose2d(grouped, kernel, stride=2, groups=b)
        y = y.reshape(b, c_out, *y.shape[2:])
        y = F.conv2d(F.pad(y, (1, 1, 1, 1)), layer.blur, groups=c_out)
    else:
        y = F.conv2d(grouped, kernel.reshape(b * c_out, c_in, 3, 3), padding=1, groups=b)
        y = y.reshape(b, c_out, *y.shape[2:])
    y = y + layer.strength * layer.noise + layer.bias[:, None, None]
    y = F.leaky_relu(y, 0.2) * GAIN
    return y if clamp is None else y.clamp(-clamp, clamp)


def rgb(layer: ToRGB, x: Tensor, w: Tensor, image: Tensor | None, clamp: float | None) -> Tensor:
    kernel = layer.weight[None] * layer.affine(w)[:, None, :, None, None]  # [B, 3, in, 1, 1]
    b, c_in = len(x), x.shape[1]
    y = F.conv2d(x.reshape(1, b * c_in, *x.shape[2:]), kernel.reshape(b * 3, c_in, 1, 1), groups=b)
    y = y.reshape(b, 3, *x.shape[2:]) + layer.bias[:, None, None]
    if clamp is not None:
        y = y.clamp(-clamp, clamp)
    if image is None:
        return y
    spread = image.new_zeros(*image.shape[:2], 2 * image.shape[2], 2 * image.shape[3])
    spread[:, :, ::2, ::2] = image
    return y + F.conv2d(F.pad(spread, (2, 1, 2, 1)), layer.blur, groups=3)
