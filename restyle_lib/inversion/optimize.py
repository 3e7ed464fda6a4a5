"""Inversion by optimization: the projection of StyleGAN2 (Karras et al. 2020, appendix D), in W or W+."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib import losses
from restyle_lib.encoders.simplified import all_slots
from restyle_lib.faces.identity import shared
from restyle_lib.features.perceptual import st_lpips
from restyle_lib.inversion.inverter import Inverter, Viewed
from restyle_lib.inversion.refine import Callback
from restyle_lib.inversion.result import Inversion

SPACES = ("W", "W+")
# Of the codes at the start, in units of sigma_w: lets the search leave the basin of the mean face. StyleGAN2's sigma_w
# is the whole distance from w_avg, sqrt(512) times ours; in the few steps given here, a search that is disturbed that
# much ends worse, in L2, perception and identity, so ours is the stronger one to compare with.
NOISE = 0.05
NOISE_UNTIL = 0.75  # share of the steps after which the codes are left alone
RAMP_UP, RAMP_DOWN = 0.05, 0.25  # shares of the steps in which the learning rate rises and falls
HYBRID = {"space": "W+", "lr": 0.05, "lambda_id": 0.1, "lambda_prior": 0.1}  # of a photograph, from an encoder's code
LARGEST = 256  # px at which images are compared, as in the paper


def optimize(
    G,
    images: Tensor,
    space: str = "W+",
    steps: int = 500,
    init: Tensor | None = None,
    lr: float = 0.1,
    lambda_l2: float = 1.0,
    lambda_id: float = 0.0,
    lambda_prior: float = 0.0,
    callback: Callback | None = None,
    seed: int = 0,
) -> Inversion:
    """Searches, for each image by itself, the code whose image is nearest in perception and in L2.

    images: [B, 3, h, w] in [-1, 1], aligned; compared at the generator's size, at most 256 px
    space:  "W", one style for all slots, or "W+", a style for each
    init:   codes [B, k, 512] to start from, as an encoder gives them (the paper's hybrid); they are not disturbed by
            noise at first. Without it the start is w_avg.
    lambda_id, lambda_prior: weights of two terms that the projection has not: the identity of faces, and a prior that
            holds each style in W (`losses.prior`). `HYBRID` has those that make good inversions of photographs: what
            the prior forbids is what looks right at 64 px and wrong at 1024.
    callback(t, w_t, y_t) is called after each step with codes [B, k, 512] and what was rendered before the step.
    Returns the first and the last codes and images, latents [B, 2, k, 512]. The perceptual distance is ST-LPIPS; the
    noise maps of the generator stay as they are, so a result is a code and nothing else.
    Raises ValueError for another space, steps < 1, and images or codes of another shape.
    """
    if space not in SPACES:
        raise ValueError(f"space must be {' or '.join(SPACES)}, not {space!r}")
    if steps < 1 or images.ndim != 4 or images.shape[1] != 3:
        raise ValueError(f"needs images [B, 3, h, w] and at least 1 step, got {list(images.shape)} and {steps}")
    if init is not None and init.shape != (len(images), G.n_styles, len(G.w_avg)):
        raise ValueError(f"init must be [{len(images)}, {G.n_styles}, {len(G.w_avg)}], got {list(init.shape)}")
    device, size = G.w_avg.device, tuple(min(side, LARGEST) for side in G.resolution)
    x, view = F.adaptive_avg_pool2d(images.to(device), size), Viewed(G, size)
    distance = st_lpips().to(device)
    with torch.no_grad():
        target, sigma = distance.features(x), _spread(G)
        embed = shared(device) if lambda_id else None
        identity = embed(x) if embed else None
        whitening = losses.whitening(G) if lambda_prior else None
        start = G.w_avg.expand(len(x), G.n_styles, -1) if init is None else init.to(device)
        trail = [(start, view.synthesize(start))]
    w = start.mean(1, keepdim=True) if space == "W" else start[:, : G.slots_read]
    w = w.clone().requires_grad_()
    optimizer = torch.optim.Adam([w], lr=lr)
    rng = torch.Generator().manual_seed(seed)
    with torch.enable_grad():
        for t in tqdm(range(1, steps + 1), desc=f"optimizing in {space}", unit="step", leave=False):
            progress = (t - 1) / steps
            optimizer.param_groups[0]["lr"] = lr * _ramp(progress)
            noise = 0 if init is not None else NOISE * sigma * max(0.0, 1 - progress / NOISE_UNTIL) ** 2
            codes = all_slots(w + noise * torch.randn(w.shape, generator=rng).to(device), G.n_styles)
            y = view.synthesize(codes)
            # summed over images: what one image's search does must not depend on the others
            loss = distance(y, target).mean() + lambda_l2 * losses.l2(y, x)
            if embed:
                loss = loss + lambda_id * losses.identity(embed, y, identity)
            if lambda_prior:
                loss = loss + lambda_prior * losses.prior(codes, G.w_avg, whitening, G.slots_read)
            optimizer.zero_grad()
            (len(x) * loss).backward()
            optimizer.step()
            if callback:
                callback(t, all_slots(w.detach(), G.n_styles), y.detach())
    with torch.no_grad():
        codes = all_slots(w.detach(), G.n_styles)
        trail.append((codes, view.synthesize(codes)))
    latents, images = zip(*trail, strict=True)
    return Inversion(torch.stack(latents, 1).cpu(), torch.stack(images, 1).cpu())


def hybrid(inverter: Inverter, images: Tensor, result: Inversion, steps: int, callback: Callback | None = None):
    """An inversion with one step more: the code that `optimize` finds from its last one, held in W.

    images: as `inverter.invert` took them, [B, 3, h, w]; result: what it returned
    The paper's hybrid (section 5.1) starts plain optimization from an encoder's code; see `HYBRID` for what is added.
    """
    view, settings = Viewed(inverter.G, inverter.input_size), dict(HYBRID)
    if not inverter.domain.faces:
        settings["lambda_id"] = 0.0
    init = result.latents[:, -1]
    found = optimize(view, inverter.prepare(images), steps=steps, init=init, callback=callback, **settings)
    latents, seen = ((a, b[:, 1:]) for a, b in ((result.latents, found.latents), (result.images, found.images)))
    return Inversion(torch.cat(latents, dim=1), torch.cat(seen, dim=1))


def _ramp(progress: float) -> float:
    """Factor of the learning rate: linear rise, then constant, then a cosine to zero."""
    down = min(1.0, (1 - progress) / RAMP_DOWN)
    return (1 - math.cos(math.pi * down)) / 2 * min(1.0, (progress + 1e-3) / RAMP_UP)


def _spread(G, n: int = 10_000) -> Tensor:
    """sigma_w, the root mean square distance of w from w_avg in each dimension; see NOISE."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(n, len(G.w_avg), generator=rng).to(G.w_avg.device)
    return (G.map(z) - G.w_avg).square().mean().sqrt()
