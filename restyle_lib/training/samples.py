"""Training images with known codes. Everything drawn depends on (seed, iteration) alone, so a resumed run is exact."""

import torch
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib import data
from restyle_lib.precision import autocast
from restyle_lib.training.distill import POOL_SEED
from restyle_lib.training.settings import Settings


def generator_for(seed: int, iteration: int) -> torch.Generator:
    """The random stream of one training iteration."""
    return torch.Generator().manual_seed(seed * 1_000_003 + iteration)


class Pool:
    """Images and codes that training draws from, kept on the CPU; what it draws is on the device of the generator.

    x: renders of the full generator and samples of the cut one; y: for each of them the cut generator's image of a
    nearby code, which is what a late refinement step sees beside x.
    """

    def __init__(self, full, cut, settings: Settings):
        """full: the 1024 px generator; cut: the one in the loop."""
        self.cut, self.size, self.device = cut, cut.resolution[0], cut.w_avg.device
        with torch.no_grad():
            self.average_image = cut.synthesize(cut.w_avg[None])[0]  # y_0 = G(w_avg), [3, s, s]
        renders = data.renders(full, "train", settings.renders, POOL_SEED, shard=100).agreeing(cut.slots_read - 1)
        self.n_full = len(renders)
        images = [data.to_uint8(data.downsample(data.to_float(x), self.size)) for x in renders.images.split(256)]
        sampled = data.training_codes(cut, settings.cut_samples, settings.seed + 1).cpu()
        self.codes = torch.cat([renders.codes, sampled])
        images.append(self._render(sampled, "sampling the cut generator"))
        self.images = torch.cat(images)
        self.codes_scale = (self.codes - cut.w_avg.cpu()).std().item()
        self.near_codes = self._near(settings.seed + 2)
        self.near_images = self._render(self.near_codes, "sampling near pairs")

    def _near(self, seed: int) -> Tensor:
        """Each code moved towards a random other one, in each slot by its own share: most moves are small."""
        rng = torch.Generator().manual_seed(seed)
        n = len(self.codes)
        other = self.codes[torch.randperm(n, generator=rng)]
        far = torch.rand(n, 1, 1, generator=rng).square() * 0.8
        share = (far * torch.rand(n, self.codes.shape[1], 1, generator=rng) * 2).clamp(max=1)
        share[:, self.cut.slots_read :] = share[:, self.cut.slots_read - 1, None]  # the finer slots stay one style
        return torch.lerp(self.codes, other, share)

    @torch.no_grad()
    def _render(self, codes: Tensor, what: str) -> Tensor:
        images = []
        with autocast(self.device):
            for part in tqdm(codes.split(16), desc=what, unit_scale=16, unit="image", leave=False):
                images.append(data.to_uint8(self.cut.synthesize(part.to(self.device))).cpu())
        return torch.cat(images)

    def pairs(self, rng: torch.Generator, n: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """n pairs (x, code of x, y, code of y): y is w_avg's image, far, or near, a third each, decided per pair."""
        i = torch.randint(len(self.codes), (n,), generator=rng)
        j = torch.randint(len(self.codes), (n,), generator=rng)
        kind = torch.randint(3, (n,), generator=rng)
        near, start = kind == 1, kind == 2
        # far partners come from the near set too: y is always the cut generator's work, as it is in the loop
        partner = torch.where(near, i, j)
        x, y = (data.to_float(images.to(self.device)) for images in (self.images[i], self.near_images[partner]))
        x_codes, y_codes = self.codes[i].to(self.device), self.near_codes[partner].to(self.device)
        y[start], y_codes[start] = self.average_image, self.cut.w_avg
        return x, x_codes, y, y_codes

    def batch(self, rng: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        """n images and codes for the true loop: half renders of the full generator, half fresh samples of the cut."""
        i = torch.randint(self.n_full, (n // 2,), generator=rng)
        seed = int(torch.randint(2**62, (1,), generator=rng))
        codes = data.training_codes(self.cut, n - n // 2, seed)
        with torch.no_grad(), autocast(self.device):
            fresh = self.cut.synthesize(codes).float().clamp(-1, 1)
        x = torch.cat([data.to_float(self.images[i].to(self.device)), fresh])
        return x, torch.cat([self.codes[i].to(self.device), codes])
