"""What an encoder learns from. The training loop depends on `Source` alone; `faces` and `photographs` have one each."""

from typing import NamedTuple, Protocol

import torch
from torch import Tensor, nn


class GeneratorInLoop(Protocol):
    """What the loop asks of a generator: w_avg [512], and what its network makes of z and of codes.

    n_styles: k, slots of a code; slots_read: how many of them, from the first, reach its images
    """

    w_avg: Tensor
    n_styles: int
    slots_read: int

    def map(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """z [B, 512] -> w [B, 512]."""
        ...

    def synthesize(self, codes: Tensor) -> Tensor:
        """Codes [B, k, 512] -> images [B, 3, h, w], at the size that the encoder sees."""
        ...


class Images(NamedTuple):
    """What is learned from, or validated on.

    x:     images [n, 3, h, w] in [-1, 1]
    codes: their codes [n, k, 512], NaN where nobody knows them
    px:    their own resolution [n], on the CPU; less than h where they were enlarged, see `inversion.detail`
    """

    x: Tensor
    codes: Tensor
    px: Tensor


class Source(Protocol):
    """Images with a generator: all that the loop, its losses and its discriminators ask for.

    G:             the generator in the loop, whose images have the size that the encoder sees
    device:        of G, and of all that is drawn
    slots:         style slots that reach the images of G; of the small generator not all
    start:         the network that the encoder begins as, or None for random weights
    average_image: G(w_avg), the first reconstruction of every image, [3, h, w]
    codes_scale:   standard deviation of w, the unit of the latent loss
    whitening:     [512, 512], of the prior; see `losses.whitening`
    """

    device: torch.device
    slots: int
    average_image: Tensor

    @property
    def G(self) -> GeneratorInLoop: ...

    @property
    def start(self) -> nn.Module | None: ...

    @property
    def codes_scale(self) -> float: ...

    @property
    def whitening(self) -> Tensor: ...

    def pairs(self, rng: torch.Generator, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """n pairs of images x, y [n, 3, h, w] and the residuals [n, k, 512] from the code of y to that of x.

        Raises ValueError where the codes of images are not known.
        """
        ...

    def batch(self, rng: torch.Generator, n: int, share: slice = slice(None)) -> Images:
        """Of n images, those of `share`.

        rng: of `generator_for`; what is drawn depends on it alone
        """
        ...

    def goal(self, images: Images) -> Tensor:
        """What reconstructions of these images should look like, [n, 3, h, w]."""
        ...

    def real_images(self, rng: torch.Generator, n: int) -> Tensor:
        """n images that a discriminator is to take for real, [n, 3, h, w] in [-1, 1]."""
        ...

    def state_dict(self) -> dict:
        """What a checkpoint keeps of the source, so that a run is not continued on other images."""
        ...

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError where a checkpoint is of other images."""
        ...


def generator_for(seed: int, iteration: int) -> torch.Generator:
    """The random stream of one training iteration."""
    return torch.Generator().manual_seed(seed * 1_000_003 + iteration)
