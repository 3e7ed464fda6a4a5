"""When a run does what: its phases, refinement steps, learning rate, and the stage of a progressive encoder."""

import math
from dataclasses import dataclass
from enum import Enum
from functools import cached_property

from restyle_lib.training.settings import Settings


class Phase(Enum):
    """What batches are made of, in the order of a run."""

    PAIRS = "warm start"
    REPLAY = "replayed states"
    LOOP = "loop"


@dataclass
class Schedule:
    """Batch counts of the three phases, and the learning rate of every batch."""

    settings: Settings

    @cached_property
    def warmup(self) -> int:
        """The first batch after the warm start."""
        return self.settings.warmup_passes // self.settings.warmup_batch

    @cached_property
    def replayed(self) -> int:
        """The first batch of the true loop."""
        return self.warmup + self.settings.replay_passes // self.settings.replay_batch

    @cached_property
    def total(self) -> int:
        turn = [self.settings.batch * self.steps(i) for i in range(self.settings.long_every or 1)]
        turns, left = divmod(self.settings.loop_passes, sum(turn))
        batches = turns * len(turn)
        while left > 0:
            left -= turn[batches % len(turn)]
            batches += 1
        return self.replayed + batches

    def phase(self, iteration: int) -> Phase:
        """What a batch is made of."""
        if iteration < self.warmup:
            return Phase.PAIRS
        return Phase.REPLAY if iteration < self.replayed else Phase.LOOP

    def batch(self, iteration: int) -> int:
        """Examples of a batch, those of all processes together."""
        s = self.settings
        return {Phase.PAIRS: s.warmup_batch, Phase.REPLAY: s.replay_batch, Phase.LOOP: s.batch}[self.phase(iteration)]

    def steps(self, i: int) -> int:
        """Refinement steps of the i-th batch of the loop."""
        s = self.settings
        return 2 * s.steps if s.long_every and i % s.long_every == s.long_every - 1 else s.steps

    def share(self, iteration: int) -> float:
        """How much of the passes of replay and loop is done, 0 to 1."""
        s = self.settings
        replayed = min(iteration - self.warmup, self.replayed - self.warmup) * s.replay_batch
        looped = max(iteration - self.replayed, 0) / max(self.total - self.replayed, 1) * s.loop_passes
        return max(replayed + looped, 0) / (s.replay_passes + s.loop_passes or 1)

    def stage(self, iteration: int, styles: int) -> int:
        """The last slot that a progressive encoder may set apart; 0 at first, see `Settings.free_from`."""
        s = self.settings
        freed = (self.share(iteration) - s.free_from) / s.free_every + 1e-9  # shares are not exact
        return min(1 + int(freed), styles - 1) if freed >= 0 else 0

    def lr(self, iteration: int) -> float:
        """A short linear rise, then a cosine to zero: once for the warm start, once for all that follows.

        Without `Settings.lr_falls`, what follows stays at the top.
        """
        if iteration < self.warmup:
            i, n, peak, share = iteration, self.warmup, self.settings.warmup_lr, iteration / self.warmup
        else:
            i, n = iteration - self.warmup, self.total - self.warmup
            peak, share = self.settings.loop_lr, self.share(iteration) if self.settings.lr_falls else 0.0
        rise = min(1.0, (i + 1) / min(100, 1 + n // 20))
        return peak * rise * (1 + math.cos(math.pi * share)) / 2
