"""The paper's training of any domain, as named recipes: its own generator, encoder and losses, on photographs."""

from pathlib import Path
from typing import NamedTuple

from restyle_lib.checkpoints.domains import Domain
from restyle_lib.checkpoints.domains import named as domain_named  # noqa: F401 (where training looks for it)
from restyle_lib.training.settings import Settings

METHODS = {
    "psp": {"in_channels": 3, "steps": 1, "pyramid": True},
    "e4e": {"in_channels": 3, "steps": 1, "pyramid": True, "progressive": True},
    "restyle-psp": {},
    "restyle-e4e": {"progressive": True},
    "restyle-psp-fpn": {"pyramid": True},
}


class Files(NamedTuple):
    """What a user brings; see `restyle_lib.train.run`."""

    generator: Path | None = None
    images: Path | None = None
    backbone: Path | None = None
    moco: Path | None = None


BATCHES = 100_000  # the published models are from 40,000 to 150,000
# Cartoons are a small change to a face encoder: pSp trained them for 6,000 batches, with codes held near w_avg.
TOONIFY = {"batches": 6_000, "lambda_w_norm": 0.025}
# Slot 1 is set free after 20,000 batches, and one more every 2,000; and the discriminator of codes.
E4E = {"free_from": 0.2, "free_every": 0.02, "lambda_delta": 2e-4, "lambda_latent_adversarial": 0.1}
E4E |= {"discriminator_lr": 2e-5}


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
    kind = dict(METHODS[method])
    design = domain.backbone + "-pyramid" * kind.pop("pyramid", False)
    kind |= E4E if kind.get("progressive") else {}
    own = TOONIFY if domain.name == "toonify" else {"batches": BATCHES}
    passes = own["batches"] * 8 * kind.get("steps", 5)
    return Settings(
        **kind,
        generator=generator,
        init=backbone,
        domain=domain.name,
        design=design,
        long_every=0,
        batch=8,
        warmup_passes=0,
        loop_passes=passes,
        loop_lr=1e-4,
        optimizer="ranger",
        lr_falls=False,
        lambda_id=domain.lambda_id,
        lambda_moco=domain.lambda_moco,
        lambda_latent=0.0,
        lambda_prior=0.0,
        lambda_w_norm=own.get("lambda_w_norm", 0.0),
        renders=0,
        cut_samples=0,
        disturb=False,
        ema=0.999,
        validate_every=1000,
        checkpoint_every=500,
    )
