"""Images on their way through the residual loop."""

from dataclasses import dataclass

import torch
from torch import Tensor

from restyle_lib.training.sources import Images, Source


@dataclass
class States:
    """n images, each at a step of its own; indices select or replace some of them.

    x, x_codes, px: see `sources.Images`
    seen:    what the losses compare of x, each [n, ...]: computed once for all steps
    w, y:    the current codes [n, k, 512] and reconstructions [n, 3, s, s]
    taken:   steps so far [n], on the CPU
    """

    x: Tensor
    x_codes: Tensor
    px: Tensor
    seen: list[Tensor]
    w: Tensor
    y: Tensor
    taken: Tensor

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, i: slice | Tensor) -> "States":
        seen = [part[i] for part in self.seen]
        return States(self.x[i], self.x_codes[i], self.px[i], seen, self.w[i], self.y[i], self.taken[i])

    def __setitem__(self, i: Tensor, others: "States") -> None:
        for mine, theirs in zip(self.tensors(), others.tensors(), strict=True):
            mine[i] = theirs

    def tensors(self) -> list[Tensor]:
        """All of it, for checkpoints."""
        return [self.x, self.x_codes, self.px, self.w, self.y, self.taken, *self.seen]

    @property
    def images(self) -> Images:
        return Images(self.x, self.x_codes, self.px)


def begin(source: Source, images: Images, seen: list[Tensor]) -> States:
    """Images at step 0, where every reconstruction is that of w_avg, in all its detail also beside small images."""
    n = len(images.x)
    w, y = source.G.w_avg.repeat(n, source.G.n_styles, 1), source.average_image.repeat(n, 1, 1, 1)
    return States(*images, seen, w, y, torch.zeros(n, dtype=torch.long))
