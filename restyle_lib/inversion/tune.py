"""Pivotal tuning (Roich, Mokady, Bermano and Cohen-Or 2021): the generator comes to the image, the code stays."""

import copy
import math
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib import losses
from restyle_lib.checkpoints import generators as checkpoints
from restyle_lib.faces.identity import shared
from restyle_lib.features.perceptual import PerceptualDistance, st_lpips
from restyle_lib.generators import load_generator, tuned
from restyle_lib.generators.averaged import averaged, can_average
from restyle_lib.generators.low_rank import rms
from restyle_lib.generators.mobile import MobileGenerator
from restyle_lib.images import downsample
from restyle_lib.inversion import detail
from restyle_lib.inversion.refine import Callback
from restyle_lib.paths import save_atomically
from restyle_lib.precision import autocast

# Of each tensor's root mean square, a step. With seven times as much all distances are lower still and the generator is
# broken: a grid over the image, edits that fall apart.
LR = 0.003
LARGEST = 512  # px at which L2 is taken; perception and identity see 256
REACH = 5.0  # how far from the pivot locality is asked for: half the mean distance of w from w_avg, as edits go
LOCALITY_EVERY = 4  # steps; it costs as much as the rest, and counts the more when it comes, as lazy regularisers do


def tune(
    G: MobileGenerator,
    codes: Tensor,
    images: Tensor,
    steps: int = 60,
    strength: float = 1.0,
    callback: Callback | None = None,
    lambda_l2: float = 1.0,
    lambda_lpips: float = 0.8,
    lambda_id: float = 0.1,
    lambda_locality: float = 0.1,
    seed: int = 0,
    interruptible: bool = True,
) -> MobileGenerator:
    """A generator whose images of `codes` are nearer to `images` than those of `G`, which is left as it is.

    G:        the whole embedded generator, "faces-1024" or "toon-1024", or one that was tuned before
    codes:    the pivots, [B, 16, 512] or [B, 512], as `optimize` finds them; they do not change
    images:   [B, 3, s, s] in [-1, 1], aligned, what the codes were found for; 512 px or more is best; smaller
              ones are compared at their own resolution
    strength: of the change, a factor of the learning rates; what tuning does to edits was measured at 1
    lambda_l2, lambda_lpips, lambda_id: weights of L2 at 512 px, ST-LPIPS at 256, and 1 - the identity cosine (Roich et
              al. eq. 2 has the first two)
    lambda_locality: weight of their locality regularisation (eq. 4 and 5): between the pivot and random w, the images
              of both generators shall be the same. 0: none
    interruptible: whether Ctrl-C ends the tuning and the best until then is returned; else it is raised
    callback(t, codes, y_t) is called after each step with what was rendered before it, [B, 3, 256, 256].
    Of the weights, those of `generators.tuned.learning` change. Returns the generator of the least loss, frozen.
    Raises ValueError for another generator, codes or images of another shape, images that `Inverter.invert` would
    refuse, steps < 1, and strength <= 0.
    """
    if not isinstance(G, MobileGenerator) or not can_average(G, (256, 256)):
        raise ValueError(f"only the whole embedded generator ({' or '.join(tuned.BASES)}) can be tuned")
    if steps < 1 or not strength > 0:
        raise ValueError(f"needs at least 1 step and a strength above 0, not {steps} and {strength}")
    if len(detail.checked(images, G.resolution)) != len(codes):
        raise ValueError(f"needs an image for each code, got {len(images)} of {len(codes)}")
    G.styles(codes)  # raises for codes of another shape
    device = G.w_avg.device
    codes = codes.detach().to(device)
    codes = codes[:, None].expand(-1, G.n_styles, -1) if codes.ndim == 2 else codes
    # where they are compared: at 512 px, at 256 where they have no more, and with their own detail where it is less
    size = LARGEST if images.shape[-1] > 256 else 256
    px, x = detail.own_px(images, (size, size)), detail.fitted(images.to(device), (size, size))
    distance, embed = st_lpips().to(device), shared(device) if lambda_id else None
    with torch.no_grad(), autocast(device):
        small = downsample(x, 256)
        features = [distance.features(image) for image in small.split(1)]
        identity = embed(small) if embed else None

    T = copy.deepcopy(G)
    weights = [T.get_parameter(name).requires_grad_(True) for name in tuned.learning(T)]
    rates = [LR * strength * rms(weight) for weight in weights]
    optimizer = torch.optim.Adam([{"params": [weight], "lr": lr} for weight, lr in zip(weights, rates, strict=True)])
    rng = torch.Generator().manual_seed(seed)
    least, best = math.inf, [weight.detach().clone() for weight in weights]

    def compare() -> Tensor:
        """Gradients of the loss, where they are wanted; keeps the weights where it is the least so far."""
        nonlocal least, best
        total, seen = 0.0, []
        for i in range(len(x)):  # one by one: what their maps take of memory does not grow with their number
            with autocast(device):
                y = averaged(T, codes[i : i + 1], size)
                y = detail.at(y, torch.tensor([px])) if px else y
                y_small = downsample(y, 256)
                loss = lambda_l2 * losses.l2(y, x[i : i + 1])
                loss = loss + lambda_lpips * losses.perceptual(distance, y_small, features[i])
                if embed and identity is not None:
                    loss = loss + lambda_id * losses.identity(embed, y_small, identity[i : i + 1])
            if torch.is_grad_enabled():
                (loss / len(x)).backward()
            total += loss.item() / len(x)
            seen.append(y_small.detach())
        if total < least:
            least, best = total, [weight.detach().clone() for weight in weights]
        return torch.cat(seen)

    try:
        with tqdm(range(1, steps + 1), desc="tuning", unit="step", leave=False, disable=callback is not None) as bar:
            for t in bar:
                optimizer.zero_grad()
                with torch.enable_grad():
                    y = compare()
                    if lambda_locality and t % LOCALITY_EVERY == 0:  # not at first, when both are the same
                        near = near_code(G, codes[t // LOCALITY_EVERY % len(codes)], rng)
                        with autocast(device):
                            apart = locality(G, T, near, distance)
                        (LOCALITY_EVERY * lambda_locality * apart).backward()
                for group, lr in zip(optimizer.param_groups, rates, strict=True):
                    group["lr"] = lr * (1 + math.cos(math.pi * (t - 1) / steps)) / 2
                optimizer.step()
                bar.set_postfix(loss=f"{least:.3f}", refresh=False)
                if callback:
                    callback(t, codes, y)
        with torch.no_grad():
            compare()
    except KeyboardInterrupt:
        if not interruptible:
            raise
    T.zero_grad()
    with torch.no_grad():
        for weight, kept in zip(weights, best, strict=True):
            weight.copy_(kept)
    return T.requires_grad_(False)


def locality(G: MobileGenerator, T: MobileGenerator, codes: Tensor, distance: PerceptualDistance) -> Tensor:
    """L_R = LPIPS(G(w_r), T(w_r)) + L2 (Roich et al. eq. 5), of codes w_r [B, 16, 512], both at 256 px."""
    with torch.no_grad():
        before = averaged(G, codes)
        features = distance.features(before)
    after = averaged(T, codes)
    return losses.perceptual(distance, after, features) + losses.l2(after, before)


@torch.no_grad()
def near_code(G: MobileGenerator, code: Tensor, rng: torch.Generator) -> Tensor:
    """w_r = w_p + a (w_z - w_p) / |w_z - w_p|, [1, 16, 512], each style moved by REACH (Roich et al. eq. 4)."""
    w = G.map(torch.randn(1, code.shape[-1], generator=rng).to(code.device))
    away = w - code
    return (code + REACH * away / away.norm(dim=-1, keepdim=True))[None]


def save_tuned(
    path: Path | str, generator: MobileGenerator, codes: Tensor | None = None, note: dict[str, str] | None = None
) -> None:
    """Writes what tuning changed, about 1.6 MB of safetensors that `load_generator` opens; with its codes [B, 16, 512].

    note: more entries of the file's metadata

    Raises ValueError for a generator that differs from the embedded one of its family in more than that.
    """
    base = f"{getattr(generator, 'family', None)}-1024"
    if base not in tuned.BASES:
        raise ValueError(f"only what `tune` returned can be saved, not a generator of {base}")
    tensors = tuned.difference(load_generator(base), generator)
    if codes is not None:
        tensors[tuned.CODES] = codes.detach().float().cpu().contiguous()
    metadata = {"format": tuned.FORMAT, "base": base} | (note or {})
    save_atomically(lambda temporary: save_file(tensors, temporary, metadata), Path(path))


def saved_codes(path: Path | str) -> Tensor | None:
    """The codes in a file of `save_tuned`, [B, 16, 512], or None where it has none. Raises `CheckpointError`."""
    kind, content = checkpoints.read(Path(path))
    if kind != "safetensors" or content["metadata"].get("format") != tuned.FORMAT:
        raise checkpoints.CheckpointError(f"{path}: not a tuned generator")
    return content["tensors"].get(tuned.CODES)
