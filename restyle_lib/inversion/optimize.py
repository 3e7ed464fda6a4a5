"""Inversion by optimization: the projection of StyleGAN2 (Karras et al. 2020, appendix D), in W or W+."""

import math
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib import losses
from restyle_lib.faces.identity import shared
from restyle_lib.features.perceptual import st_lpips
from restyle_lib.generators.averaged import can_average
from restyle_lib.inversion import detail
from restyle_lib.inversion.inverter import Inverter, Viewed
from restyle_lib.inversion.refine import Callback
from restyle_lib.inversion.result import Inversion
from restyle_lib.precision import autocast

SPACES = ("W", "W+")
# Of the codes at the start, in units of sigma_w: lets the search leave the basin of the mean face. StyleGAN2's sigma_w
# is the whole distance from w_avg, sqrt(512) times ours; in the few steps given here, a search that is disturbed that
# much ends worse, in L2, perception and identity, so ours is the stronger one to compare with.
NOISE = 0.05
NOISE_UNTIL = 0.75  # share of the steps after which the codes are left alone
RAMP_UP = 0.05  # share of the steps in which the learning rate rises
RAMP_DOWN = {"projection": 0.25, "cosine": 1.0}  # schedule -> share of the steps in which it falls
LEAST_GAIN = 1e-3  # share of a loss by which it must fall to count as better for `patience`
HYBRID: dict[str, Any] = {  # of a photograph, from an encoder's code
    "space": "W+",
    "lr": 0.05,
    "lambda_lpips": 0.8,
    "lambda_id": 0.3,
    "lambda_prior": 0.1,
    "schedule": "cosine",
    "betas": (0.7, 0.9),  # few steps: what the first gradients were is soon forgotten
    "patience": 15,
}
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
    lambda_lpips: float = 1.0,
    schedule: str = "projection",
    betas: tuple[float, float] = (0.9, 0.999),
    patience: int = 0,
    interruptible: bool = True,
) -> Inversion:
    """Searches, for each image by itself, the code whose image is nearest in perception and in L2.

    images: [B, 3, h, w] in [-1, 1], aligned; compared at the generator's size, at most 256 px, with the detail of the
            smaller of the two
    space:  "W", one style for all slots, or "W+", a style for each
    init:   codes [B, k, 512] to start from, as an encoder gives them (the paper's hybrid); they are not disturbed by
            noise at first. Without it the start is w_avg.
    lambda_id, lambda_prior: weights of two terms that the projection has not: the identity of faces, and a prior that
            holds each style in W (`losses.prior`). `HYBRID` has those that make good inversions of photographs: what
            the prior forbids is what looks right at 256 px and wrong at 1024.
    schedule: of the learning rate, after its rise: "projection" is Karras et al.'s, constant and a cosine to 0 at the
            end; "cosine" falls from the beginning, which is better where the start is near
    betas:  of Adam
    patience: an image whose loss has not become lower for so many steps is left as it is; 0: all take all steps
    interruptible: whether Ctrl-C ends the search and what was found until then is returned; else it is raised
    callback(t, w_t, y_t) is called after each step with codes [B, k, 512] and what was rendered before the step.
    Returns the first codes and, for each image, those of the lowest loss: latents [B, 2, k, 512], and their images.
    The perceptual distance is ST-LPIPS; the noise maps of the generator stay as they are, so a result is a code and
    nothing else. The whole embedded generator computes in bf16 where that is fast.
    Raises ValueError for another space or schedule, steps < 1, patience < 0, images or codes of another shape, and
    images that `Inverter.invert` would refuse.
    """
    if space not in SPACES:
        raise ValueError(f"space must be {' or '.join(SPACES)}, not {space!r}")
    if schedule not in RAMP_DOWN:
        raise ValueError(f"schedule must be {' or '.join(RAMP_DOWN)}, not {schedule!r}")
    if steps < 1 or patience < 0:
        raise ValueError(f"needs at least 1 step and a patience of at least 0, not {steps} and {patience}")
    images = detail.checked(images, G.resolution)
    if init is not None and init.shape != (len(images), G.n_styles, len(G.w_avg)):
        raise ValueError(f"init must be [{len(images)}, {G.n_styles}, {len(G.w_avg)}], got {list(init.shape)}")
    shrink = max(1.0, max(G.resolution) / LARGEST)
    device, size = G.w_avg.device, tuple(round(side / shrink) for side in G.resolution)
    view = G if isinstance(G, Viewed) else Viewed(G, size, detail.own_px(images, size))
    x = detail.fitted(images.to(device), size)
    whole = can_average(view.G, size)
    precision = autocast(device) if whole else nullcontext()
    # One by one where the maps of several images would not fit a CPU's caches; one's search never sees the others.
    together = 1 if whole and device.type == "cpu" else len(x)
    distance = st_lpips().to(device)
    with torch.no_grad(), precision:
        target, sigma = distance.features(x), _spread(G) if init is None else 0.0
        embed = shared(device) if lambda_id else None
        identity = embed(x) if embed else None
        whitening = losses.whitening(G) if lambda_prior else None
        start = G.w_avg.expand(len(x), G.n_styles, -1) if init is None else init.to(device)
        first = view.synthesize(start).float()

    def compare(codes: Tensor, part: Tensor) -> tuple[Tensor, Tensor]:
        """Losses [b] and images of codes [b, k, 512], those of the images whose numbers are `part`."""
        with precision:
            y = view.synthesize(codes).float()
            loss = lambda_lpips * distance(y, [features[part] for features in target])
            loss = loss + lambda_l2 * (y - x[part]).square().mean((1, 2, 3))
            if embed and identity is not None:
                loss = loss + lambda_id * (1 - (embed(y) * identity[part]).sum(1))
        if lambda_prior:  # in fp32: its whitening spans three powers of ten
            loss = loss + lambda_prior * losses.priors(codes, G.w_avg, whitening, G.slots_read)
        return loss, y

    best = _Best(start.clone(), first.clone())
    w = start.mean(1, keepdim=True) if space == "W" else start[:, : G.slots_read]
    w = w.clone().requires_grad_()
    optimizer = torch.optim.Adam([w], lr=lr, betas=betas)
    rng, seen = torch.Generator().manual_seed(seed), first.clone()
    try:
        # who has a callback shows progress in a way of their own
        silent, doing = callback is not None, f"optimizing in {space}"
        with tqdm(range(1, steps + 1), desc=doing, unit="step", leave=False, disable=silent) as bar:
            for t in bar:
                progress, searched = (t - 1) / steps, (~best.left(patience)).nonzero().flatten()
                if not len(searched):
                    break
                optimizer.param_groups[0]["lr"] = lr * ramp(progress, schedule)
                optimizer.zero_grad()
                noise = NOISE * sigma * max(0.0, 1 - progress / NOISE_UNTIL) ** 2
                disturbed = noise * torch.randn(w[:1].shape, generator=rng).to(device)  # alike, whatever the batch
                for part in searched.split(together):
                    with torch.enable_grad():
                        codes = _all_slots(w[part] + disturbed, G.n_styles)
                        loss, y = compare(codes, part)
                        loss.sum().backward()
                    best.keep(part, codes.detach(), y.detach(), loss.detach())
                    seen[part] = y.detach()
                optimizer.step()
                with torch.no_grad():  # the optimizer's momentum would carry those away that are left
                    left = best.left(patience)
                    w[left] = best.codes[left, : w.shape[1]]
                bar.set_postfix(loss=f"{best.loss.mean():.3f}", refresh=False)
                if callback:
                    callback(t, _all_slots(w.detach(), G.n_styles), seen.clone())
        with torch.no_grad():
            for part in (~best.left(patience)).nonzero().flatten().split(together):
                codes = _all_slots(w[part], G.n_styles)
                loss, y = compare(codes, part)
                best.keep(part, codes, y, loss)
    except KeyboardInterrupt:
        if not interruptible:
            raise
    return Inversion(torch.stack([start, best.codes], 1).cpu(), torch.stack([first, best.images], 1).cpu())


class _Best:
    """The codes of the lowest losses so far, image by image; at first those of the start, whatever its loss."""

    def __init__(self, codes: Tensor, images: Tensor):
        self.codes, self.images = codes, images
        self.loss = codes.new_full((len(codes),), torch.inf)
        self.gained = self.loss.clone()  # the loss that must be undercut by LEAST_GAIN
        self.waited = torch.zeros(len(codes), dtype=torch.long, device=codes.device)

    def keep(self, part: Tensor, codes: Tensor, images: Tensor, loss: Tensor) -> None:
        """Takes over what is better; `part` are the numbers of the images that these are of."""
        better = loss < self.loss[part]
        improved = part[better]
        self.codes[improved], self.images[improved], self.loss[improved] = codes[better], images[better], loss[better]
        gained = loss < (1 - LEAST_GAIN) * self.gained[part]
        self.gained[part] = torch.where(gained, loss, self.gained[part])
        self.waited[part] = torch.where(gained, 0, self.waited[part] + 1)

    def left(self, patience: int) -> Tensor:
        """Which images are no longer searched, [B]."""
        return self.waited >= patience if patience else torch.zeros_like(self.waited, dtype=torch.bool)


def hybrid(
    inverter: Inverter,
    images: Tensor,
    result: Inversion,
    steps: int,
    callback: Callback | None = None,
    interruptible: bool = True,
) -> Inversion:
    """An inversion with one step more: the code that `optimize` finds from its last one, held in W.

    images: as `inverter.invert` took them, [B, 3, h, w]; result: what it returned; the others as for `optimize`
    The paper's hybrid (section 5.1) starts plain optimization from an encoder's code; see `HYBRID` for what is added.
    Raises ValueError as `Inverter.invert` and `optimize` do.
    """
    x, settings = inverter.prepare(images), {**HYBRID, "interruptible": interruptible}
    if not inverter.domain.faces:
        settings["lambda_id"] = 0.0
    init = result.latents[:, -1]
    found = optimize(inverter.view(images), x, steps=steps, init=init, callback=callback, **settings)
    latents, seen = ((a, b[:, 1:]) for a, b in ((result.latents, found.latents), (result.images, found.images)))
    return Inversion(torch.cat(latents, dim=1), torch.cat(seen, dim=1))


def ramp(progress: float, schedule: str = "projection") -> float:
    """Factor of the learning rate: linear rise, then constant for a while or not at all, then a cosine to zero."""
    down = min(1.0, (1 - progress) / RAMP_DOWN[schedule])
    return (1 - math.cos(math.pi * down)) / 2 * min(1.0, (progress + 1e-3) / RAMP_UP)


def _spread(G, n: int = 10_000) -> Tensor:
    """sigma_w, the root mean square distance of w from w_avg in each dimension; see NOISE."""
    rng = torch.Generator().manual_seed(0)
    z = torch.randn(n, len(G.w_avg), generator=rng).to(G.w_avg.device)
    return (G.map(z) - G.w_avg).square().mean().sqrt()


def _all_slots(codes: Tensor, n: int) -> Tensor:
    """Codes [B, j, 512] -> [B, n, 512]: the last style, repeated in the slots that a small generator leaves out."""
    return torch.cat([codes, codes[:, -1:].expand(-1, n - codes.shape[1], -1)], dim=1)
