"""The residual loop of ReStyle (Alaluf et al. 2021, section 4.1)."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

Callback = Callable[[int, Tensor, Tensor], None]


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
    A one-pass encoder (in_channels 3) sees x alone, so steps=1 is pSp: w = w_avg + E(x).
    callback(t, w_t, y_t) is called for t = 1..steps, before the states are detached: training computes its loss and
    calls backward there, so each step has a gradient of its own and none flows from one step into the one before.
    decay: 0 is the paper. Else the residual of step t is scaled by 1 / t^decay, so that what the encoder sees differ
           and the generator cannot make does not add up over the steps.
    first: number of the first step; a tensor [B, 1, 1] where images are at different ones
    Returns (w_steps, y_steps), detached.
    """
    for t in range(1, steps + 1):
        residual = encoder(torch.cat([x, y], dim=1) if encoder.in_channels == 6 else x)
        codes = codes + residual * (first + t - 1) ** -decay
        y = G.synthesize(codes).float()
        if callback:
            callback(t, codes, y)
        codes, y = codes.detach(), y.detach()
    return codes, y
