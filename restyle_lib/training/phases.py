"""What one batch, or a piece of it, teaches in each phase: pairs, states of the loop, and the discriminators' turn."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from accelerate import Accelerator
from torch import Tensor

from restyle_lib import losses
from restyle_lib.encoders import TrainableEncoder
from restyle_lib.inversion import detail
from restyle_lib.inversion.refine import encoder_input, refine
from restyle_lib.training.objective import Critics, Whole, batch_losses
from restyle_lib.training.settings import Settings
from restyle_lib.training.sources import Source
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
    record = {name: torch.stack([p.record[name] for p in pieces if name in p.record]).sum() for name in names}
    first = (torch.cat(parts) for parts in zip(*(piece.first for piece in pieces), strict=True))
    last = (torch.cat(parts) for parts in zip(*(piece.last for piece in pieces), strict=True))
    return Learned(record, tuple(first), tuple(last))


class Learner(NamedTuple):
    """Who learns, from what, and what its images are judged by: the same for all batches of a run."""

    settings: Settings
    encoder: TrainableEncoder
    source: Source
    critics: Critics


@dataclass
class Pairs:
    """Pairs of a batch: the encoder sees (x, y) and learns the residual from the one to the other, see `Source.pairs`.

    n: pairs of the whole batch, of which a process has its share
    """

    x: Tensor
    y: Tensor
    residual: Tensor
    n: int

    def __len__(self) -> int:
        return len(self.x)

    def learn(self, learner: Learner, piece: slice) -> Learned:
        """Adds the gradients of a piece of these pairs."""
        x, y, residual = self.x[piece], self.y[piece], self.residual[piece]
        found, source = learner.encoder(encoder_input(learner.encoder, x, y)), learner.source
        loss = len(x) / self.n * losses.latent(found, residual, source.codes_scale, source.slots)
        loss.backward()
        return Learned({"latent": loss.detach()})


@dataclass
class Unrolled:
    """States of a batch from which the paper's loop runs for some steps.

    whole:    images of the whole batch, of which a process has its share
    recorded: steps whose loss terms go into the record, with the ending of their names there
    """

    states: States
    whole: Whole
    steps: int
    recorded: dict[int, str]

    def __len__(self) -> int:
        return len(self.states)

    def learn(self, learner: Learner, piece: slice) -> Learned:
        """Adds the gradients of a piece: a loss and a backward at each step, as the paper's training does."""
        settings, encoder, source, critics = learner
        states = self.states[piece]
        loss = batch_losses(settings, source, critics, states, self.whole)
        record: dict[str, Tensor] = {}
        first: list[tuple[Tensor, Tensor]] = []

        def learn_step(t: int, w: Tensor, y: Tensor) -> None:
            terms = loss(w, y)
            terms["total"].backward()
            if t in self.recorded:
                record.update({f"{name}_{self.recorded[t]}": term.detach() for name, term in terms.items()})
            if t == 1:
                first.append((w.detach(), y.detach()))

        number = (1 + states.taken).to(source.device).view(-1, 1, 1)  # of the step that each image takes first
        start = states.x, states.w, states.y
        G = detail.SeenAt(source.G, states.px)
        last = refine(encoder, G, *start, self.steps, learn_step, settings.decay, number)
        return Learned(record, first[0], last)


def teach(
    learner: Learner, accelerator: Accelerator, first: tuple[Tensor, ...], iteration: int, rng: torch.Generator
) -> dict[str, Tensor]:
    """The discriminators' turn, after the encoder's; returns their losses by name.

    first: (w, y) after the encoder's first step, the fakes. Real codes are those of W, real images the source's.
    """
    codes, images, source = learner.critics.codes, learner.critics.images, learner.source
    record = {}
    if codes:
        fake = accelerator.gather(first[0][:, : source.slots].contiguous()).flatten(0, 1)
        z = torch.randn(len(fake), len(source.G.w_avg), generator=rng)
        record["d_codes"] = codes.learn(accelerator, source.G.map(z.to(source.device)), fake, iteration, rng)
    if images:
        fake = accelerator.gather(first[1].contiguous())
        record["d_images"] = images.learn(accelerator, source.real_images(rng, len(fake)), fake, iteration, rng)
    return record
