"""Training images with known codes. Everything drawn depends on (seed, iteration) alone, so a resumed run is exact."""

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib import losses
from restyle_lib.generators import load_generator, render_sets
from restyle_lib.images import downsample, to_float, to_uint8
from restyle_lib.inversion.inverter import load_inverter
from restyle_lib.precision import autocast
from restyle_lib.training.settings import Settings


class Pool:
    """A `Source` of images with known codes, kept on the CPU; what is drawn is on the device of the generator.

    x: renders of the full generator and samples of the one in the loop; y: for each of them the image that the latter
    makes of a nearby code, which is what a late refinement step sees beside x.
    """

    def __init__(self, full, cut, settings: Settings):
        """full: the 1024 px generator; cut: the one in the loop."""
        self.G, self.size, self.device = cut, cut.resolution[0], cut.w_avg.device
        if settings.shown and (settings.disturb or settings.warmup_passes):
            raise ValueError("what another generator shows can only be learned from its codes: no disturb, no warm-up")
        self.shown = load_generator(settings.shown).to(self.device) if settings.shown else cut
        self.start = load_inverter(settings.init).encoder.to(self.device) if settings.init else None
        # slots that a head of the encoder speaks for; the finer ones follow the last, in all codes that it learns from
        self.slots = self.start.n_heads if self.start else cut.slots_read
        with torch.no_grad():
            self.average_image = cut.synthesize(cut.w_avg[None])[0]  # y_0 = G(w_avg), [3, s, s]
        renders = render_sets.renders(full, "train", settings.renders, render_sets.POOL_SEED, shard=100).agreeing(
            self.slots - 1
        )
        self.n_full = len(renders)
        images = [to_uint8(downsample(to_float(x), self.size)) for x in renders.images.split(256)]
        sampled = render_sets.training_codes(cut, settings.cut_samples, settings.seed + 1, self.slots).cpu()
        self.codes = torch.cat([renders.codes, sampled])
        images.append(self._render(sampled, "sampling the cut generator"))
        self.images = torch.cat(images)
        self.codes_scale = (self.codes - cut.w_avg.cpu()).std().item()
        self.whitening = losses.whitening(cut)
        self.disturbs, self.one_pass = settings.disturb, settings.in_channels == 3  # pairs for an encoder of one pass
        if settings.warmup_passes:
            rng = torch.Generator().manual_seed(settings.seed + 2)
            self.near_codes = scatter(self.codes, self.slots, rng)
            self.near_images = self._render(self.near_codes, "sampling near pairs")

    @torch.no_grad()
    def _render(self, codes: Tensor, what: str) -> Tensor:
        images = []
        with autocast(self.device):
            for part in tqdm(codes.split(16), desc=what, unit_scale=16, unit="image", leave=False):
                images.append(to_uint8(self.G.synthesize(part.to(self.device))).cpu())
        return torch.cat(images)

    def pairs(self, rng: torch.Generator, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """n pairs (x, y, residual between their codes): y is near x, or w_avg's image.

        The latter in a third of the pairs, by chance; for a one-pass encoder, which starts there, in all.
        """
        i = torch.randint(len(self.codes), (n,), generator=rng)
        first = torch.full((n,), True) if self.one_pass else torch.randint(3, (n,), generator=rng) == 0
        x, y = (to_float(images[i].to(self.device)) for images in (self.images, self.near_images))
        y_codes = self.near_codes[i]
        y[first], y_codes[first] = self.average_image, self.G.w_avg.cpu()
        return x, y, (self.codes[i] - y_codes).to(self.device)

    def batch(self, rng: torch.Generator, n: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """n images and codes for the true loop: half renders of the full generator, half fresh samples of the cut.

        Of disturbed images no code is known: it is NaN. share: of the n images, those of this process; all are made,
        since they depend on each other, which costs little beside learning from them.
        """
        i = torch.randint(self.n_full, (n // 2,), generator=rng)
        seed = int(torch.randint(2**62, (1,), generator=rng))
        codes = scatter(render_sets.training_codes(self.G, n - n // 2, seed, self.slots), self.slots, rng)
        with torch.no_grad(), autocast(self.device):
            fresh = self.shown.synthesize(codes).float().clamp(-1, 1)
        x = torch.cat([to_float(self.images[i].to(self.device)), fresh])
        codes = torch.cat([self.codes[i].to(self.device), codes])
        if self.disturbs:
            x[1::2], codes[1::2] = disturb(x[1::2], x.roll(1, dims=0)[1::2], rng), torch.nan
        return x[share], codes[share]

    def real_images(self, rng: torch.Generator, n: int) -> Tensor:
        """Renders of the full generator, [n, 3, s, s]."""
        return to_float(self.images[torch.randint(self.n_full, (n,), generator=rng)].to(self.device))

    def state_dict(self) -> dict:
        """Nothing: all images follow from the settings."""
        return {}

    def load_state_dict(self, state: dict) -> None:
        """Nothing to compare."""

    def goal(self, x: Tensor, codes: Tensor) -> Tensor:
        """What a reconstruction should look like: x itself, or its code drawn by the generator in the loop.

        The latter for bootstrapping, where the encoder is shown the images [n, 3, s, s] of a source generator
        (`Settings.shown`) and reconstructs the image that its own generator makes of their codes [n, k, 512].
        """
        if self.shown is self.G:
            return x
        with torch.no_grad(), autocast(self.device):
            return self.G.synthesize(codes).float().clamp(-1, 1)


def disturb(x: Tensor, other: Tensor, rng: torch.Generator) -> Tensor:
    """Images [n, 3, s, s] in [-1, 1] that no code makes: warped, mirrored, recoloured, and in part another image.

    Photographs differ from renders in such ways, and refinement must learn to come as near as it can.
    """
    n, _, size, _ = x.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return (low + (high - low) * torch.rand(n, *shape, generator=rng, device=rng.device)).to(x.device)

    angle, zoom, mirror = uniform(-0.08, 0.08), uniform(0.92, 1.05), uniform(-1, 1).sign()
    shift_x, shift_y = uniform(-0.06, 0.06), uniform(-0.06, 0.06)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    affine = torch.stack([cos * mirror, -sin, shift_x, sin * mirror, cos, shift_y], dim=1).view(n, 2, 3)
    # a smooth warp makes faces and hair of shapes that the generator does not know: up to a few pixels of 64
    warp = uniform(0, 0.07, 1, 1, 1) * torch.randn(n, 2, 5, 5, generator=rng, device=rng.device).to(x.device)
    warp = F.interpolate(warp, (size, size), mode="bicubic").permute(0, 2, 3, 1)
    grid = F.affine_grid(affine, list(x.shape), align_corners=False) + warp
    x = F.grid_sample(x, grid, padding_mode="reflection", align_corners=False)

    def ellipse(centre: float, smallest: float, largest: float) -> Tensor:
        axis = torch.linspace(-1, 1, size, device=x.device)
        across = (axis - uniform(-centre, centre, 1)) / uniform(smallest, largest, 1)
        down = (axis - uniform(-centre, centre, 1)) / uniform(smallest, largest, 1)
        return (across[:, None].square() + down[:, :, None].square() < 1)[:, None]

    # an ellipse of the other image in every second one, anywhere: hats, hands, glasses
    x = torch.where(ellipse(1, 0.1, 0.7) & (uniform(0, 1, 1, 1, 1) < 0.5), other, x)
    # a plain background, shaded from one colour to another, behind every fourth
    colours = uniform(-1, 1, 1, 2, 2) + uniform(-0.4, 0.4, 3, 1, 1)
    plain = F.interpolate(colours, (size, size), mode="bilinear", align_corners=True)
    x = torch.where(~ellipse(0.1, 0.7, 1.1) & (uniform(0, 1, 1, 1, 1) < 0.25), plain, x)
    brightness = ((x + 1) / 2).clamp(1e-4, 1) ** uniform(-0.4, 0.4, 1, 1, 1).exp()  # gamma, then contrast and tint
    return ((brightness * 2 - 1) * uniform(0.75, 1.25, 3, 1, 1) + uniform(-0.15, 0.15, 3, 1, 1)).clamp(-1, 1)


def scatter(codes: Tensor, slots: int, rng: torch.Generator) -> Tensor:
    """Codes [n, k, 512], each moved towards a random other one, in each slot by its own share: most moves are small.

    The slots from `slots` on follow the last before them.
    """
    n, k, _ = codes.shape
    other = codes[torch.randperm(n, generator=rng).to(codes.device)]
    far = torch.rand(n, 1, 1, generator=rng).square() * 0.8
    share = (far * torch.rand(n, k, 1, generator=rng) * 2).clamp(max=1)
    share[:, slots:] = share[:, slots - 1, None]
    return torch.lerp(codes, other, share.to(codes.device))
