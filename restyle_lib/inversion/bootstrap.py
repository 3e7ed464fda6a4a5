"""Encoder bootstrapping (ReStyle, section 5.3): the encoder of one domain finds where that of another begins."""

import warnings

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle_lib.inversion.inverter import Inverter
from restyle_lib.inversion.refine import Callback, refine
from restyle_lib.inversion.result import Inversion

# Fine-tuning moves W a little, the estimate of its mean in the third decimal; generators trained apart are at about 1.
SHARED = 0.5


@torch.no_grad()
def difference(first, second, n: int = 256) -> float:
    """How far apart the codes are that two generators give to the same z, or their means, against codes of two z.

    0: they share their W; about 1: they have nothing to do with one another. Both of one shape of codes.
    """
    z = torch.randn(n, len(first.w_avg), generator=torch.Generator().manual_seed(0))
    one, other = (G.map(z.to(G.w_avg.device)).double().cpu() for G in (first, second))
    usual = (one - one.roll(1, 0)).square().mean() + (other - other.roll(1, 0)).square().mean()
    apart = torch.maximum(
        (one - other).square().mean(), (first.w_avg.cpu().double() - second.w_avg.cpu().double()).square().mean()
    )
    return (apart / (usual / 2).clamp_min(1e-12)).sqrt().item()


@torch.no_grad()
def bootstrap(
    first: Inverter, second: Inverter, images: Tensor, steps: int = 5, switch: int = 1, callback: Callback | None = None
) -> Inversion:
    """`switch` steps of the first encoder from its own w_avg, then the second's, from the code that they found.

    The generators share W, so the code means the same face to both; the second encoder sees beside the photograph what
    its own generator makes of that code. (The published code shows it the first generator's image once more.)

    A second encoder that sees the photograph alone (pSp, e4e) takes its one step from where it was trained to begin;
    there is nothing that it could go on from.

    images: as `Inverter.invert` takes them, [B, 3, h, w] in [-1, 1]
    steps:  of both together, so that the cost is that of `invert` with as many
    switch: 0 is the second encoder alone, from its own average
    callback(t, w_t, y_t) is called after each step
    Returns latents [B, steps+1, 16, 512] and images [B, steps+1, 3, s, s]: the first domain's up to index switch - 1,
    then the second's, all at the size that the second encoder sees; the code at index `switch` is the first encoder's,
    drawn by the second's generator.
    Raises ValueError for images as `invert` does, a switch outside 0..steps, and codes that do not fit both. Warns
    where a code seems to mean two different images to the generators, see `difference`.
    """
    if not 0 <= switch <= steps:
        raise ValueError(f"switch must be from 0 to steps = {steps}, not {switch}")
    shapes = [(inverter.G.n_styles, len(inverter.G.w_avg)) for inverter in (first, second)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"a code of the first generator is {list(shapes[0])}, of the second {list(shapes[1])}")
    if (apart := difference(first.G, second.G)) > SHARED:
        warnings.warn(
            f"the two generators do not seem to share their W (their codes of one z are {apart:.0%} as far apart as "
            "those of two): a code may mean two different images",
            stacklevel=2,
        )
    if switch == 0:
        return second.invert(images, steps, callback)
    begun = first.invert(images, switch, callback)
    x, view = second.prepare(images), second.view(images)
    codes = begun.latents[:, -1].to(x.device)
    with second.precision():
        trail = [(codes, view.synthesize(codes))]

    def keep(t: int, w: Tensor, y: Tensor) -> None:
        trail.append((w, y))
        if callback:
            callback(switch + t, w, y)

    begins = second.start(len(x)) if second.one_pass else codes
    first_step = 1 if second.one_pass else switch + 1
    with second.precision():
        refine(second.encoder, view, x, begins, trail[0][1], steps - switch, keep, second.decay, first_step)
    trail += trail[-1:] * (steps - switch + 1 - len(trail))
    latents, seen = (torch.stack(each, 1).cpu() for each in zip(*trail, strict=True))
    before = F.adaptive_avg_pool2d(begun.images[:, :-1].flatten(0, 1), second.input_size).unflatten(0, (-1, switch))
    return Inversion(torch.cat([begun.latents[:, :-1], latents], 1), torch.cat([before, seen], 1))
