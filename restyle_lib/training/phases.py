"""What one batch, or a piece of it, teaches in each phase: pairs, states of the loop, and the discriminators' turn."""

from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from restyle_lib import losses
from restyle_lib.images import to_float
from restyle_lib.inversion.refine import refine
from restyle_lib.training.objective import Critics, Whole, batch_losses
from restyle_lib.training.settings import Settings
from restyle_lib.training.states import States


class Learned(NamedTuple):
    """What a piece taught, its gradients aside.

    record: loss terms by name, each this piece's summand of the whole batch's
    first:  (w, y) after the first step
    last:   (w, y) after the last step
    """

    record: dict[str, Tensor]
    first: tuple[Tensor, ...] = ()
    last: tuple[Tensor, ...] = ()


def join(pieces: list[Learned]) -> Learned:
    """What all pieces taught: terms added up, codes and images one after the other."""
    names = dict.fromkeys(name for piece in pieces for name in piece.record)
    record = {name: sum(piece.record.get(name, 0) for piece in pieces) for name in names}
    first, last = (
        [torch.cat(parts) for parts in zip(*side, strict=True)]
        for side in ([piece.first for piece in pieces], [piece.last for piece in pieces])
    )
    return Learned(record, tuple(first), tuple(last))


def learn_pairs(encoder: nn.Module, pool, pairs: list[Tensor], n: int, piece: slice) -> Learned:
    """Pairs: the encoder sees (x, y) and learns the residual from the one to the other; see `Pool.pairs`.

    n: pairs of the whole batch
    """
    x, y, residual = (part[piece] for part in pairs)
    found = encoder(x if encoder.in_channels == 3 else torch.cat([x, y], dim=1))
    loss = len(x) / n * losses.latent(found, residual, pool.codes_scale, pool.slots)
    loss.backward()
    return Learned({"latent": loss.detach()})


def learn_states(
    encoder: nn.Module,
    pool,
    settings: Settings,
    critics: Critics,
    states: States,
    whole: Whole,
    recorded: dict[int, str],
    steps: int,
    piece: slice,
) -> Learned:
    """The paper's loop from a piece of the states: a loss and a backward at each step, gradients summed over the steps.

    recorded: steps whose terms go into the record, with the ending of their names there
    """
    states = states[piece]
    loss = batch_losses(settings, pool, critics, states, whole)
    record, trail = {}, []

    def learn(t: int, w: Tensor, y: Tensor) -> None:
        terms = loss(w, y)
        terms["total"].backward()
        if t in recorded:
            record.update({f"{name}_{recorded[t]}": term.detach() for name, term in terms.items()})
        if t == 1:
            trail.append((w.detach(), y.detach()))

    first = (1 + states.taken).to(pool.device).view(-1, 1, 1)
    last = refine(encoder, pool.cut, states.x, states.w, states.y, steps, learn, settings.decay, first)
    return Learned(record, trail[0], last)


def teach(accelerator: Accelerator, critics: Critics, pool, learned: Learned, iteration: int, rng) -> dict[str, Tensor]:
    """The discriminators' turn, after the encoder's: real codes are those of W, real images the full renders.

    Fakes are what the encoder made in its first step.
    """
    record = {}
    if critics.codes:
        fake = accelerator.gather(learned.first[0][:, : pool.slots].contiguous()).flatten(0, 1)
        z = torch.randn(len(fake), len(pool.cut.w_avg), generator=rng)
        real = pool.cut.map(z.to(pool.device))
        record["d_codes"] = critics.codes.learn(accelerator, real, fake, iteration, rng)
    if critics.images:
        fake = accelerator.gather(learned.first[1].contiguous())
        i = torch.randint(pool.n_full, (len(fake),), generator=rng)
        real = to_float(pool.images[i].to(pool.device))
        record["d_images"] = critics.images.learn(accelerator, real, fake, iteration, rng)
    return record
