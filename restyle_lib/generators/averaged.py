"""The whole embedded generator seen at 512 px or less, without making its image of 1024: what the loop looks at.

The inverse Haar transform that ends the network spreads a pixel's low band over four pixels of which the other bands
cancel out. So the area-average to 512 px is half that band, and its average to s px is that band of the averaged map:
the same images as averaging those of 1024 px, up to rounding, for three quarters of the time of the last block.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle_lib.generators.mobile import MobileGenerator, Modulation, StyledConv


def can_average(G, size: tuple[int, int]) -> bool:
    """Whether `averaged` makes what averaging the images of G to `size` would."""
    return isinstance(G, MobileGenerator) and G.resolution == (1024, 1024) and size in ((256, 256), (512, 512))


def averaged(G: MobileGenerator, codes: Tensor, size: int = 256, compiled: bool = False) -> Tensor:
    """Codes [B, 512] or [B, 16, 512] -> images [B, 3, size, size] in fp32: those of 1024 px, area-averaged.

    size:     256, 512, or another divisor of 512
    compiled: with depthwise convolutions as sums of nine shifted maps, which torch.compile makes one kernel of: on a
              GPU 1.1 ms an image, forward and backward, where its library's take 3.1. In bf16.
    Raises ValueError for codes as `synthesize` does.
    """
    dtype = torch.bfloat16 if compiled else None
    w = G.styles(codes)
    x = G.stem(w[0], G.stem.noise)
    x = x.contiguous() if compiled else x
    for i, block in enumerate(G.blocks):
        w1, w2 = w[1 + 2 * i], w[2 + 2 * i]
        if not compiled:  # the blocks' own layout of maps: on a CPU, forward and backward take half the time
            x = block(x, w1, w2, block.conv1.noise, block.conv2.noise)
            continue
        x = raised(x * style(block.up, w1, 0.5).to(x.dtype))
        x = layer(block.conv2, layer(block.conv1, x, w1), w2)
    head = G.to_image
    x = F.avg_pool2d(x, 512 // size) if size < 512 else x
    x = x * style(head.modulation, w[15]).to(x.dtype)
    return 0.5 * mixed(x, head.weight[:3], head.bias[:3], dtype).float()


def style(modulation: Modulation, w: Tensor, scale: float = 1.0) -> Tensor:
    """The factors of a layer's channels, [B, C, 1, 1]."""
    return (scale * F.linear(w, modulation.weight, modulation.bias))[:, :, None, None]


def layer(conv: StyledConv, x: Tensor, w: Tensor) -> Tensor:
    """`StyledConv` for compilers, in bf16; a depthwise convolution and a channel's factor may change places."""
    x = shifted(x, conv.depthwise)
    x = x * style(conv.modulation, w).to(x.dtype)
    x = mixed(x, conv.pointwise, conv.bias, torch.bfloat16)
    return F.leaky_relu(x + conv.noise.to(x.dtype), 0.2)


def mixed(x: Tensor, weight: Tensor, bias: Tensor, dtype: torch.dtype | None) -> Tensor:
    """A pointwise convolution; in a given dtype as a product of matrices, which needs no other layout of maps."""
    if dtype is None:
        return F.conv2d(x, weight, bias)
    y = weight.flatten(1).to(dtype) @ x.to(dtype).flatten(2)
    return y.unflatten(2, x.shape[2:]) + bias[:, None, None].to(dtype)


def shifted(x: Tensor, kernel: Tensor) -> Tensor:
    """Each channel's own 3x3 convolution, as a sum of shifted maps."""
    h, w = x.shape[2:]
    x, kernel = F.pad(x, (1, 1, 1, 1)), kernel.to(x.dtype)
    return sum(kernel[:, 0, i, j, None, None] * x[:, :, i : i + h, j : j + w] for i in range(3) for j in range(3))


def raised(x: Tensor) -> Tensor:
    """The inverse Haar transform without its factor 1/2, [B, 4C, h, w] -> [B, C, 2h, 2w]."""
    b, c4, h, w = x.shape
    c = c4 // 4
    ll = x[:, :c]
    lh, hl, hh = x[:, c:].unflatten(1, (c, 3)).unbind(2)
    top, bottom, diff, cross = ll + lh, ll - lh, hl + hh, hl - hh
    even = torch.stack([top + diff, top - diff], dim=-1)
    odd = torch.stack([bottom + cross, bottom - cross], dim=-1)
    return torch.stack([even, odd], dim=-3).reshape(b, c, 2 * h, 2 * w)
