"""The paper's training of any domain, as named recipes: its own generator, encoder and losses, on photographs."""

from pathlib import Path
from typing import Any, NamedTuple

from restyle_lib.checkpoints.domains import Domain
from restyle_lib.checkpoints.domains import named as domain_named  # noqa: F401 (where training looks for it)
from restyle_lib.training.settings import Settings


class Method(NamedTuple):
    """What a method is, whatever its domain: whether the encoder sees reconstructions, and what its heads read."""

    in_channels: int = 6
    pyramid: bool = False
    progressive: bool = False


METHODS = {
    "psp": Method(in_channels=3, pyramid=True),
    "e4e": Method(in_channels=3, pyramid=True, progressive=True),
    "restyle-psp": Method(),
    "restyle-e4e": Method(progressive=True),
    "restyle-psp-fpn": Method(pyramid=True),
}


class Files(NamedTuple):
    """What a user brings; see `restyle_lib.train.run`."""

    generator: Path | None = None
    images: Path | None = None
    backbone: Path | None = None
    moco: Path | None = None


BATCHES = 100_000  # the published models are from 40,000 to 150,000
# Cartoons are a small change to a face encoder: pSp trained them for 6,000 batches, with codes held near w_avg.
TOONIFY_BATCHES = 6_000
# Slot 1 is set free after 20,000 batches, and one more every 2,000; and the discriminator of codes.
E4E: dict[str, Any] = {
    "free_from": 0.2,
    "free_every": 0.02,
    "lambda_delta": 2e-4,
    "lambda_latent_adversarial": 0.1,
    "discriminator_lr": 2e-5,
}


def settings_of(method: str, domain: Domain, generator: str, backbone: str = "") -> Settings:
    """The official settings of a method in a domain (the paper's section 5 and its code).

    generator: file of the domain's StyleGAN2
    backbone:  file of the pretrained network that the encoder begins as; none: random weights

    Losses and backbone are the domain's; e4e's terms are the method's. Two things differ from the official code:
    gradients are clipped at norm 1, and an average of the weights (EMA) is what is kept.
    Raises ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r} at full scale; there are {', '.join(METHODS)}")
    kind = METHODS[method]
    steps, batch = 1 if kind.in_channels == 3 else 5, 8
    cartoons = domain.name == "toonify"
    return Settings(
        **(E4E if kind.progressive else {}),
        in_channels=kind.in_channels,
        progressive=kind.progressive,
        steps=steps,
        generator=generator,
        init=backbone,
        domain=domain.name,
        size=domain.input_size[0],
        design=f"{domain.backbone}-pyramid" if kind.pyramid else domain.backbone,
        long_every=0,
        batch=batch,
        loop_passes=(TOONIFY_BATCHES if cartoons else BATCHES) * batch * steps,
        loop_lr=1e-4,
        optimizer="ranger",
        lr_falls=False,
        lambda_l2=1.0,
        lambda_id=domain.lambda_id,
        lambda_moco=domain.lambda_moco,
        lambda_latent=0.0,
        lambda_prior=0.0,
        lambda_w_norm=0.025 if cartoons else 0.0,
        renders=0,
        disturbed=0.0,
        ema=0.999,
        validation=50,
        validate_every=1000,
        checkpoint_every=500,
    )
