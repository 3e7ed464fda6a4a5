"""Encoder bootstrapping (ReStyle, section 5.3): the encoder of one domain finds where that of another begins."""

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle_lib.inversion.inverter import Inverter, Viewed
from restyle_lib.inversion.refine import Callback, refine
from restyle_lib.inversion.result import Inversion


@torch.no_grad()
def bootstrap(
    first: Inverter, second: Inverter, images: Tensor, steps: int = 5, switch: int = 1, callback: Callback | None = None
) -> Inversion:
    """`switch` steps of the first encoder from its own w_avg, then the second's, from the code that they found.

    The generators share W, so the code means the same face to both; the second encoder sees beside the photograph what
    its own generator makes of that code. (The published code shows it the first generator's image once more.)

    images: as `Inverter.invert` takes them, [B, 3, h, w] in [-1, 1]
    steps:  of both together, so that the cost is that of `invert` with as many
    switch: 0 is the second encoder alone, from its own average
    callback(t, w_t, y_t) is called after each step
    Returns latents [B, steps+1, 16, 512] and images [B, steps+1, 3, s, s]: the first domain's up to index switch - 1,
    then the second's, all at the size that the second encoder sees; the code at index `switch` is the first encoder's,
    drawn by the second's generator.
    Raises ValueError for images as `invert` does, a switch outside 0..steps, and generators of different W.
    """
    if not 0 <= switch <= steps:
        raise ValueError(f"switch must be from 0 to steps = {steps}, not {switch}")
    if not torch.equal(first.G.w_avg, second.G.w_avg):
        raise ValueError("the two generators do not share their W: a code would mean two different images")
    if switch == 0:
        return second.invert(images, steps, callback)
    begun = first.invert(images, switch, callback)
    x, view = second.prepare(images), Viewed(second.G, second.input_size)
    codes = begun.latents[:, -1].to(x.device)
    trail = [(codes, view.synthesize(codes))]

    def keep(t: int, w: Tensor, y: Tensor) -> None:
        trail.append((w, y))
        if callback:
            callback(switch + t, w, y)

    refine(second.encoder, view, x, *trail[0], steps - switch, keep, second.decay, first=switch + 1)
    latents, seen = (torch.stack(each, 1).cpu() for each in zip(*trail, strict=True))
    before = F.adaptive_avg_pool2d(begun.images[:, :-1].flatten(0, 1), second.input_size).unflatten(0, (-1, switch))
    return Inversion(torch.cat([begun.latents[:, :-1], latents], 1), torch.cat([before, seen], 1))
