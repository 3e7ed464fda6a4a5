"""The residual loop of ReStyle (Alaluf et al. 2021, section 4.1)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Callback = Callable[[int, Tensor, Tensor], None]


def is_one_pass(encoder: nn.Module) -> bool:
    """Whether an encoder sees the image alone (pSp, e4e), without the feedback of the current reconstruction."""
    return encoder.in_channels == 3


def steps_taken(encoder: nn.Module, steps: int) -> int:
    """How many of so many steps an encoder takes: without feedback, further steps would see nothing new."""
    return min(steps, 1) if is_one_pass(encoder) else steps


def encoder_input(encoder: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """What an encoder sees of images x and their current reconstructions y: x || y, or x alone."""
    return x if is_one_pass(encoder) else torch.cat([x, y], dim=1)


def refine(
    encoder: nn.Module,
    G,
    x: Tensor,
    codes: Tensor,
    y: Tensor,
    steps: int,
    callback: Callback | None = None,
    decay: float = 0.0,
    first: int | Tensor = 1,
) -> tuple[Tensor, Tensor]:
    """Iterative refinement: w_{t+1} = w_t + E(x || y_t), y_{t+1} = G(w_{t+1}), from the given (w_0, y_0).

    x:     aligned images [B, 3, s, s] in [-1, 1]
    codes: w_0, [B, k, 512]; the paper starts from the mean code
    y:     y_0 = G(w_0), [B, 3, s, s]
    A one-pass encoder sees x alone and takes one step, whatever `steps` is: pSp is w = w_avg + E(x).
    callback(t, w_t, y_t) is called after each step t = 1, 2, …, before the states are detached: training computes its
    loss and calls backward there, so each step has a gradient of its own and none flows into the step before.
    decay: 0 is the paper. Else the residual of step t is scaled by 1 / t^decay, so that
           differences that the generator cannot remove do not add up over the steps.
    first: number of the first step; a tensor [B, 1, 1] where images are at different ones
    Returns (w_steps, y_steps), detached.
    """
    for t in range(1, steps_taken(encoder, steps) + 1):
        residual = encoder(encoder_input(encoder, x, y))
        codes = codes + residual * (first + t - 1) ** -decay
        y = G.synthesize(codes).float()
        if callback:
            callback(t, codes, y)
        codes, y = codes.detach(), y.detach()
    return codes, y
