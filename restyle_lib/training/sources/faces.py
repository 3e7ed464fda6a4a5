"""Faces for the embedded generators: renders, whose codes are known, and photographs, whose codes nobody knows.

Everything drawn depends on (seed, iteration) alone, so a resumed run is exact.
"""

from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from restyle_lib import losses
from restyle_lib.generators.render_sets import Renders
from restyle_lib.images import downsample, to_float
from restyle_lib.inversion import detail
from restyle_lib.precision import autocast
from restyle_lib.training.settings import Settings
from restyle_lib.training.sources import GeneratorInLoop, Images
from restyle_lib.training.sources.photographs import Crops, must_agree
from restyle_lib.training.sources.renders import disturb

BLURRED = (0.3, 0.45, 0.65)  # resolutions that renders are seen at too, as shares of the encoder's input


class Faces:
    """A `Source` of renders and photographs, kept on the CPU; what is drawn is on the device of the generator."""

    def __init__(
        self,
        G: GeneratorInLoop,
        settings: Settings,
        renders: Renders,
        near: Renders | None = None,
        photographs: Path | None = None,
        start: nn.Module | None = None,
        report: Path | None = None,
    ):
        """G:       the generator in the loop, whose images have `settings.size` px
        renders:    of the whole generator, of codes of W+
        near:       one for each of these, of a code nearby; pairs for an encoder that sees reconstructions need them
        photographs: a folder or zip archive of aligned faces, at least `photographs.SMALLEST` px wide
        start:      the encoder that training starts from, or None for random weights
        report:     CSV file to be written: every photograph that is left out or converted, and why
        Raises ValueError where too few photographs can be used.
        """
        self.G, self.settings, self.start = G, settings, start
        self.device, self.slots, size = G.w_avg.device, G.slots_read, settings.size
        self.crops = Crops(photographs, size, settings.validation, report) if photographs else None
        # the small generator does not show the finer styles: only codes that say nothing else there can be learned
        shown = renders.agree(self.slots - 1)
        self.renders, self.near = renders.chosen(shown), near and near.chosen(shown)  # one by one, still
        self.heldout = self.crops.heldout(self.unknown) if self.crops else None
        with torch.no_grad(), autocast(self.device):
            self.average_image = G.synthesize(G.w_avg.expand(1, G.n_styles, -1))[0].float()
        self.codes_scale = (self.renders.codes - G.w_avg.cpu()).std().item()

    @cached_property
    def whitening(self) -> Tensor:
        """Of the prior, [512, 512]; computed where a setting gives the prior a weight."""
        return losses.whitening(self.G)

    def unknown(self, n: int) -> Tensor:
        """The codes of n images that nobody knows."""
        return torch.full((n, self.G.n_styles, len(self.G.w_avg)), torch.nan, device=self.device)

    def pairs(self, rng: torch.Generator, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """n pairs (x, y, residual between their codes): y is w_avg's image, a render near x, or any other.

        By chance a third of each; for a one-pass encoder, which starts there, w_avg's image in all.
        Raises ValueError where near renders are needed and there are none.
        """
        i, kind = torch.randint(len(self.renders), (n,), generator=rng), torch.randint(3, (n,), generator=rng)
        x, x_codes = self._seen(self.renders, i), self.renders.codes[i]
        y, y_codes = x.roll(1, 0), x_codes.roll(1, 0)
        if self.settings.in_channels == 3:
            kind.zero_()
        elif not self.near:
            raise ValueError("pairs need near renders")
        else:
            y[kind == 1], y_codes[kind == 1] = self._seen(self.near, i[kind == 1]), self.near.codes[i[kind == 1]]
        y[kind == 0], y_codes[kind == 0] = self.average_image, self.G.w_avg.cpu()
        px = self._resolutions(rng, n)
        return detail.at(x, px), detail.at(y, px), (x_codes - y_codes).to(self.device)

    def batch(self, rng: torch.Generator, n: int, share: slice = slice(None)) -> Images:
        """n images, each by chance a photograph, a disturbed render, or a render as it is, whose code is known.

        share: of the n images, those of this process; all renders are made, since they depend on each other, which
        costs little beside learning from them, but only these photographs are decoded.
        """
        s = self.settings
        chance = torch.rand(2, n, generator=rng)
        photograph = chance[0] < s.photographs if self.crops else torch.zeros(n, dtype=torch.bool)
        strange = ~photograph & (chance[1] < s.disturbed)
        i, px = torch.randint(len(self.renders), (n,), generator=rng), self._resolutions(rng, n)
        x, codes = self._seen(self.renders, i), self.renders.codes[i].to(self.device)
        if strange.any():
            x[strange] = disturb(x, x.roll(1, 0), rng)[strange]
        codes[strange | photograph] = torch.nan
        x = detail.at(x, px)
        if self.crops:
            chosen = torch.randint(len(self.crops), (n,), generator=rng).tolist()
            mirrored = torch.rand(n, generator=rng) < 0.5
            for k in torch.arange(n)[share][photograph[share]].tolist():
                image, px[k] = self.crops[chosen[k]]
                x[k] = (image.flip(2) if mirrored[k] else image).to(self.device)
        return Images(x[share], codes[share], px[share])

    def goal(self, images: Images) -> Tensor:
        """The images themselves; of a toon generator, the cartoons that it makes of their codes."""
        if not self.settings.generator.startswith("toon"):
            return images.x
        with torch.no_grad(), autocast(self.device):
            return detail.at(self.G.synthesize(images.codes).float().clamp(-1, 1), images.px)

    def real_images(self, rng: torch.Generator, n: int) -> Tensor:
        """n images that a discriminator is to take for real: photographs where there are some, else renders."""
        if not self.crops:
            return self._seen(self.renders, torch.randint(len(self.renders), (n,), generator=rng))
        chosen = torch.randint(len(self.crops), (n,), generator=rng).tolist()
        return torch.stack([self.crops[i][0] for i in chosen]).to(self.device)

    def state_dict(self) -> dict:
        """What a checkpoint says of the photographs; renders follow from the settings."""
        return {"photographs": self.crops.usable.identity if self.crops else ""}

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError where a checkpoint is of other photographs."""
        must_agree(state["photographs"], self.state_dict()["photographs"], "other photographs")

    def _seen(self, renders: Renders, i: Tensor) -> Tensor:
        return downsample(to_float(renders.images[i].to(self.device)), self.settings.size)

    def _resolutions(self, rng: torch.Generator, n: int) -> Tensor:
        """At how many px n renders are seen [n]: more than half as they are."""
        sizes = torch.tensor([*(round(share * self.settings.size) for share in BLURRED), *[self.settings.size] * 5])
        return sizes[torch.randint(len(sizes), (n,), generator=rng)]
