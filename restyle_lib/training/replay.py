"""States of the residual loop that wait for their next step, so that a batch holds many images at many steps.

The paper's loop takes one optimizer step for the N refinement steps of one small batch, whose gradients say much the
same. Here every refinement step is an example of its own: the same encoder passes give many times as many optimizer
steps, and the states are those that the encoder itself has come to.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from restyle_lib.training.samples import Pool, generator_for
from restyle_lib.training.settings import Settings


class Replay:
    """`settings.replay_states` images on their way, visited in turn; one that has arrived makes room for another."""

    def __init__(self, pool: Pool, settings: Settings, see: Callable[[Tensor], list[Tensor]]):
        """see: what the losses compare of images x [n, ...], a list of [n, ...]; kept for all steps of an image."""
        self.pool, self.settings, self.see = pool, settings, see
        rng, n = generator_for(settings.seed + 3, 0), settings.replay_states
        self.x, self.x_codes = pool.batch(rng, n)
        self.seen = see(self.x)
        self.w = pool.cut.w_avg.repeat(n, pool.cut.n_styles, 1)
        self.y = pool.average_image.repeat(n, 1, 1, 1)
        self.taken = torch.zeros(n, dtype=torch.long)  # steps so far
        self.left = torch.randint(1, settings.steps + 1, (n,), generator=rng)  # steps to go, out of phase

    def take(self, iteration: int) -> Tensor:
        """Whose turn it is, [batch]."""
        batch = self.settings.replay_batch
        return (torch.arange(batch) + iteration * batch) % len(self.x)

    def put(self, i: Tensor, w: Tensor, y: Tensor, rng: torch.Generator) -> None:
        """Keeps the new states of the images i, and replaces those that have made all their steps."""
        self.w[i], self.y[i] = w.detach(), y.detach()
        self.left[i] -= 1
        self.taken[i] += 1
        done = i[self.left[i] == 0]
        if not len(done):
            return
        fresh = torch.randperm(-(-len(done) // 4) * 4, generator=rng)  # by fours: each kind of image is as frequent
        x, codes = self.pool.batch(rng, len(fresh))
        self.x[done], self.x_codes[done] = x[fresh[: len(done)]], codes[fresh[: len(done)]]
        for kept, seen in zip(self.seen, self.see(self.x[done]), strict=True):
            kept[done] = seen
        self.w[done], self.y[done], self.taken[done] = self.pool.cut.w_avg, self.pool.average_image, 0
        longer = torch.rand(len(done), generator=rng) * self.settings.long_every < 1
        self.left[done] = self.settings.steps * (1 + longer.long())

    def state_dict(self) -> dict:
        """Everything that an exact resume needs."""
        return {name: getattr(self, name) for name in ("x", "x_codes", "w", "y", "taken", "left", "seen")}

    def load_state_dict(self, state: dict) -> None:
        """Continues from `state_dict`."""
        for name, value in state.items():
            if name == "seen":
                self.seen = [part.to(self.x.device) for part in value]
            else:
                getattr(self, name).copy_(value)
