"""What an encoder learns from: the networks that judge its images, and the loss of a batch."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from restyle_lib import losses
from restyle_lib.faces import identity
from restyle_lib.features.perceptual import st_lpips
from restyle_lib.precision import autocast
from restyle_lib.training.adversary import Adversary, image_discriminator, latent_discriminator
from restyle_lib.training.settings import Settings
from restyle_lib.training.sources import Source
from restyle_lib.training.states import States

Loss = Callable[[Tensor, Tensor], dict[str, Tensor]]  # (w_t, y_t) -> terms by name, and their weighted sum "total"


class Critics(NamedTuple):
    """The networks that losses look through: two frozen ones, and the discriminators that learn beside the encoder.

    embed: identity, or MoCo where there are no faces, or none
    """

    embed: nn.Module | None
    distance: nn.Module
    codes: Adversary | None = None
    images: Adversary | None = None

    @torch.no_grad()
    def see(self, x: Tensor) -> list[Tensor]:
        """What the losses compare of images x: their embeddings, and the perceptual network's layers."""
        with autocast(x.device):
            return [self.embed(x) if self.embed else x.new_empty(len(x), 0), *self.distance.features(x)]


def critics_of(settings: Settings, device: torch.device, embed: nn.Module | None = None) -> Critics:
    """The networks that the settings give a weight. embed: MoCo, which nobody can build without its file."""
    if embed is None and settings.lambda_id:
        embed = identity.shared(device)
    codes = Adversary(latent_discriminator(), settings, device) if settings.lambda_latent_adversarial else None
    images = Adversary(image_discriminator(), settings, device) if settings.lambda_image_adversarial else None
    return Critics(embed, st_lpips(settings.lpips_size).to(device), codes, images)


class Whole(NamedTuple):
    """The images of a batch, of which a process or piece sees a part, and those of them whose code is known."""

    n: int
    known: int


def known(x_codes: Tensor) -> Tensor:
    """Of which images [n] the code is known."""
    return ~x_codes.isnan().any(dim=(1, 2))


def batch_losses(settings: Settings, source: Source, critics: Critics, states: States, whole: Whole) -> Loss:
    """The loss of these states as a function of their next (w_t, y_t), as summands of the whole batch's loss.

    Each term is the mean over the images that it is about, of the whole batch; so terms and gradients of all parts add
    up to those of the batch, however it is divided.
    """
    x_codes, (x_embedding, *x_features) = states.x_codes, states.seen
    x = source.goal(states.images)
    mine = known(x_codes)
    part = len(x) / whole.n
    known_part = int(mine.sum()) / max(whole.known, 1)
    unknown_part = int((~mine).sum()) / max(whole.n - whole.known, 1)
    slots, nothing = source.slots, x.new_zeros(())
    weights = {
        "l2": settings.lambda_l2,
        "lpips": settings.lambda_lpips,
        "id": settings.lambda_id or settings.lambda_moco,
        "latent": settings.lambda_latent,
        "prior": settings.lambda_prior,
        "w_norm": settings.lambda_w_norm,
        "delta": settings.lambda_delta,
        "adversarial": settings.lambda_latent_adversarial,
        "realism": settings.lambda_image_adversarial,
    }

    def loss(codes: Tensor, y: Tensor) -> dict[str, Tensor]:
        terms = {
            "l2": part * losses.l2(y, x),
            "lpips": part * losses.perceptual(critics.distance, y, x_features),
        }
        if critics.embed:
            terms["id"] = part * losses.identity(critics.embed, y, x_embedding)
        if settings.lambda_latent and whole.known:  # a part, and even a batch, may hold disturbed images only
            error = losses.latent(codes[mine], x_codes[mine], source.codes_scale, slots) if known_part else nothing
            terms["latent"] = known_part * error
        if settings.lambda_prior and whole.known < whole.n:
            strangeness = (
                losses.prior(codes[~mine], source.G.w_avg, source.whitening, slots) if unknown_part else nothing
            )
            terms["prior"] = unknown_part * strangeness
        if settings.lambda_w_norm:
            terms["w_norm"] = part * losses.w_norm(codes, source.G.w_avg)
        if settings.lambda_delta:
            terms["delta"] = part * losses.delta(codes[:, :slots])
        if critics.codes:
            terms["adversarial"] = part * critics.codes.loss(codes[:, :slots].flatten(0, 1))
        if critics.images:
            terms["realism"] = part * critics.images.loss(y)
        return terms | {"total": sum(weights[name] * term for name, term in terms.items())}

    return loss
