"""StyleGAN2's layer of convolution, noise and leaky ReLU, with a backward for weights that do not learn.

What autograd keeps of such a layer, the input of each convolution and the activations before they are scaled, serves
gradients of weights, or can be had from the layer's result. An encoder's training needs neither: it reads the
generator's gradient with respect to styles and maps, and of the memory that the loop takes at 1024 px this is most.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input

GAIN = math.sqrt(2)  # of every leaky ReLU
SLOPE = 0.2


def styled(
    x: Tensor,
    style: Tensor,
    demodulation: Tensor,
    weight: Tensor,
    noise: Tensor | None,
    bias: Tensor,
    blur: Tensor | None,
) -> Tensor:
    """Maps x [B, c_in, h, w] -> [B, c_out, h, w], or [B, c_out, 2h, 2w] with a blur (StyleGAN2, section 2.2).

    style [B, c_in], demodulation [B, c_out], weight [c_out, c_in, 3, 3], noise [1 or B, 1, H, W], bias [c_out] and
    blur [c_out, 1, 4, 4]
    """
    x = x * _per_map(style, x)
    if blur is None:
        x = F.conv2d(x, weight, padding=1)
    else:
        x = F.conv2d(double(x, weight), blur.to(x.dtype), padding=1, groups=len(weight))
    # in place from here: at 1024 px, memory that is new costs more than what is computed in it
    x = x.mul_(_per_map(GAIN * demodulation, x))
    if noise is not None:
        x = x.add_((GAIN * noise).to(x.dtype))
    return F.leaky_relu_(x.add_((GAIN * bias)[:, None, None].to(x.dtype)), SLOPE)


class Frozen(torch.autograd.Function):
    """`styled` for weights, noise and biases that need no gradients: keeps its input and its result only.

    With c what the convolution makes and y = leaky_relu(d c + n + b), the sum of the gradient times c, which d's
    gradient is, is that of the gradient times y, less what n and b contribute to it, over d.
    """

    @staticmethod
    def forward(ctx, x, style, demodulation, weight, noise, bias, blur):
        """What `styled` makes of the same."""
        y = styled(x, style, demodulation, weight, noise, bias, blur)
        ctx.save_for_backward(x, style, demodulation, weight, noise, bias, blur, y)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx, g):
        x, style, demodulation, weight, noise, bias, blur, y = ctx.saved_tensors
        g = g.contiguous(memory_format=torch.channels_last)
        product = g * y
        at_demodulation = _sum(product)
        g = torch.ops.aten.leaky_relu_backward.grad_input(g, y, SLOPE, True, grad_input=product)
        at_demodulation -= GAIN * bias * _sum(g)
        if noise is not None:
            at_demodulation -= GAIN * _sum(g, noise)
        g = g.mul_(_per_map(GAIN * demodulation, g))
        weight = weight.to(g.dtype)
        if blur is None:
            g = conv2d_input(x.shape, weight, g, padding=1)
        else:
            doubled = (*g.shape[:2], g.shape[2] + 1, g.shape[3] + 1)
            g = conv2d_input(doubled, blur.to(g.dtype), g, padding=1, groups=len(weight))
            g = F.conv2d(g, weight.transpose(0, 1), stride=2)  # the transposed convolution's own transpose
        at_style = _sum(g * x)
        g = g.mul_(_per_map(style, g))
        return g.to(x.dtype), at_style, at_demodulation / demodulation, None, None, None, None


def double(x: Tensor, weight: Tensor) -> Tensor:
    """The stride-2 transposed convolution of x [B, c_in, h, w]: [B, c_out, 2h + 1, 2w + 1].

    As four ordinary convolutions, one for each parity of row and column, with the same multiplications: on a CPU the
    library's transposed convolution takes up to three times as long. Not where it is traced, to be compiled.
    """
    if torch.jit.is_tracing():
        return F.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    b, _, h, w = x.shape
    y = None
    taps = {0: slice(None, None, 2), 1: slice(1, 2)}  # of the kernel's three rows, those that meet even and odd rows
    for row in (0, 1):
        for column in (0, 1):
            kernel = weight[:, :, taps[row], taps[column]].flip(2, 3).contiguous(memory_format=torch.channels_last)
            part = F.conv2d(x, kernel, padding=(1 - row, 1 - column))
            if y is None:
                y = part.new_empty(b, 2 * h + 1, 2 * w + 1, len(weight)).permute(0, 3, 1, 2)  # channels_last
            y[:, :, row::2, column::2] = part
    return y


def _per_map(factors: Tensor, x: Tensor) -> Tensor:
    return factors[:, :, None, None].to(x.dtype)


def _sum(x: Tensor, weights: Tensor | None = None) -> Tensor:
    """Over the pixels of each map, [B, C, h, w] -> [B, C], with weights [1 or B, 1, h, w].

    As a product of matrices, which reads maps in channels_last as they lie in memory; a reduction of bf16 copies them.
    """
    weights = x.new_ones(1, 1, *x.shape[2:]) if weights is None else weights.to(x.dtype)
    return (weights.flatten(2) @ x.permute(0, 2, 3, 1).flatten(1, 2))[:, 0].float()
