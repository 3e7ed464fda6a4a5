"""A replay buffer of states of the residual loop, so that a batch holds many images at many steps.

The paper's loop takes one optimizer step for the N refinement steps of one small batch, whose gradients say much the
same. Here every refinement step is an example of its own: the same encoder passes give many times as many optimizer
steps, and the states are those that the encoder itself has come to.

Of several processes each holds all states and learns from its share of a turn; the others' new states are sent to it.
So a checkpoint of one process is that of all, and any number of processes can go on from it.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from restyle_lib.training import states
from restyle_lib.training.settings import Settings
from restyle_lib.training.sources import Source, generator_for


class Replay:
    """`settings.replay_states` images on their way, visited in turn; one that has arrived makes room for another."""

    def __init__(self, source: Source, settings: Settings, see: Callable[[Tensor], list[Tensor]]):
        """see: what the losses compare of images x [n, ...], a list of [n, ...]; kept for all steps of an image."""
        self.source, self.settings, self.see = source, settings, see
        rng, n = generator_for(settings.seed + 3, 0), settings.replay_states
        images = source.batch(rng, n)
        self.states = states.begin(source, images, see(source.goal(images)))
        self.left = torch.randint(1, settings.steps + 1, (n,), generator=rng)  # steps to go, out of phase

    def take(self, iteration: int) -> Tensor:
        """Whose turn it is, [batch]."""
        batch = self.settings.replay_batch
        return (torch.arange(batch) + iteration * batch) % len(self.states)

    def put(self, i: Tensor, w: Tensor, y: Tensor, rng: torch.Generator) -> None:
        """Keeps the new states of the images i, and replaces those that have made all their steps."""
        self.states.w[i], self.states.y[i] = w, y
        self.left[i] -= 1
        self.states.taken[i] += 1
        done = i[self.left[i] == 0]
        if not len(done):
            return
        images = self.source.batch(rng, len(done))
        self.states[done] = states.begin(self.source, images, self.see(self.source.goal(images)))
        drawn, every = torch.rand(len(done), generator=rng), self.settings.long_every
        longer = drawn * every < 1 if every else torch.zeros(len(done), dtype=torch.bool)
        self.left[done] = self.settings.steps * (1 + longer.long())

    def state_dict(self) -> dict:
        """Everything that an exact resume needs."""
        return {"states": self.states.tensors(), "left": self.left}

    def load_state_dict(self, state: dict) -> None:
        """Continues from `state_dict`."""
        for mine, saved in zip([*self.states.tensors(), self.left], [*state["states"], state["left"]], strict=True):
            mine.copy_(saved)
