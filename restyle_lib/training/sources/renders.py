"""Renders for training: near ones, and ones that no code makes."""

import torch
import torch.nn.functional as F
from torch import Tensor

from restyle_lib.generators.render_sets import training_codes


def near_codes(G, n: int, seed: int) -> Tensor:
    """For each of `training_codes(G, n, seed)` one nearby, [n, k, 512]: what a late refinement step starts from."""
    return scatter(training_codes(G, n, seed), G.slots_read, torch.Generator().manual_seed(seed))


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
    # a smooth warp makes faces and hair of shapes that the generator does not know
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
