"""The settings of each named inverter, every default with its reason."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """One training run. Its cost is counted in encoder passes, so that methods can be given the same budget."""

    domain: str = "faces"
    """What is inverted; another domain than the embedded faces has its settings from training/full_scale.py."""
    generator: str = "faces-64"
    """The cut generator in the loop: 64 px costs 16 ms forward and backward on two cores, 128 px eight times that."""
    shown: str = ""
    """The generator whose images the encoder sees, where that is not the one in the loop: faces in, cartoons out."""
    init: str = ""
    """The one-pass inverter, shipped or a file, whose weights training starts from; none: random weights."""
    design: str = "simplified"
    """"simplified": all heads read the last map (ReStyle, section 4.2); "pyramid": three maps (pSp, section 3.1)."""
    progressive: bool = False
    """e4e: one style for all slots at first; the others' differences are set free one by one."""
    free_from: float = 0.25
    """Of a progressive encoder: the share of all passes after which slot 1 is set free."""
    free_every: float = 0.25 / 7
    """The share after which each further slot follows: all 8 are free after half."""
    in_channels: int = 6
    """6: the image beside the current reconstruction (ReStyle). 3: the image alone (one pass)."""
    steps: int = 5
    """N, refinement steps per batch, as in the paper; 1 for a one-pass encoder."""
    decay: float = 0.0
    """The residual of step t is scaled by 1 / t^decay, in training and by the finished encoder; 0 in the paper."""
    long_every: int = 3
    """Every 3rd batch runs 2N steps: with N alone the loop diverges soon after the steps it was trained on."""
    batch: int = 4
    """Half the paper's: each image gives N gradients, and few hours are better spent on more, smaller batches."""
    warmup_passes: int = 10_000
    """Encoder passes of the warm start, for heads that start anew: pairs of images with known codes, no generator."""
    replay_passes: int = 0
    """Encoder passes on states of the loop that are visited in turn (see training/replay.py)."""
    replay_states: int = 64
    """Images on their way at a time: an image's next turn comes after eight batches, so that batches differ."""
    replay_batch: int = 8
    loop_passes: int = 2_000
    """Encoder passes of the true loop. All phases together are as many passes for every method from `start` on."""
    warmup_batch: int = 32
    warmup_lr: float = 5e-4
    loop_lr: float = 4e-4
    """Falling as one cosine over replay and loop; the warm start has a cosine of its own."""
    lr_falls: bool = True
    """False: the learning rate of the loop stays as it is, as in the paper."""
    optimizer: str = "adam"
    """"adam", or "ranger", with which the paper trains (see training/optimizers.py)."""
    at_a_time: int = 0
    """Images of a batch that are learned from at a time: fewer take less memory; 0: all of them.

    They teach the same, except that batch normalisations (of the full-size encoders) see a piece at a time.
    """
    checkpointing: bool = False
    """Computes activations again instead of keeping them: less memory, more time (see training/economy.py)."""
    compile: bool = False
    """torch.compile of encoder and generator: a slow start, then faster batches."""
    lambda_l2: float = 1.0
    lambda_lpips: float = 0.8
    lpips_size: int = 0
    """Square images of more px are area-averaged to this before the perceptual network sees them; 0: never."""
    lambda_id: float = 0.1
    """The paper's weights for faces (section 5 and its code)."""
    lambda_moco: float = 0.0
    """Of MoCo features, which take the place of identity where there are no faces: 0.5 in the paper."""
    lambda_latent: float = 0.1
    """Small beside the image losses; keeps the codes near those that the generator knows."""
    lambda_prior: float = 0.1
    """Of disturbed images, whose codes are unknown: without it, late steps leave what the generator has ever met."""
    lambda_w_norm: float = 0.0
    """Of the distance of the whole code from w_avg, 0.025 for cartoons in pSp."""
    lambda_delta: float = 0.0
    """Of the differences between a code's styles, 2e-4 in e4e."""
    lambda_latent_adversarial: float = 0.0
    """Of the discriminator that tells codes from those of W, 0.1 in e4e."""
    lambda_image_adversarial: float = 0.0
    """Of the discriminator that tells reconstructions from images, 0.08 in IDInvert."""
    discriminator_lr: float = 1e-4
    """Five times e4e's: the run is short."""
    renders: int = 3000
    """Renders of the full generator in the pool; the other half of each batch are fresh cut-generator samples."""
    cut_samples: int = 4000
    """Cut-generator samples in the pool of the warm start."""
    disturb: bool = True
    """Every second image of a batch is made unlike any render (see sources/renders.py), since photographs are."""
    ema: float = 0.99
    """Decay per batch of the average of the weights, which is what is shipped and validated; short, since the
    learning rate falls to zero anyway."""
    validation: int = 50
    """Held-out renders for validation."""
    validate_every: int = 300
    checkpoint_every: int = 50
    """Batches: about a minute on two cores, so that at most that much is lost."""
    seed: int = 0


# Gentle: what they start from is good already, and 4e-4 spoils more of it at first than such runs make up for. Identity
# has three times the paper's weight, since 64 px show so little of it.
FROM_START: dict[str, Any] = {
    "init": "faces/start",
    "warmup_passes": 0,
    "cut_samples": 0,
    "loop_lr": 1.5e-4,
    "lambda_id": 0.3,
}
ONE_PASS = FROM_START | {"in_channels": 3, "steps": 1, "long_every": 0, "batch": 8}
# A decay of 1 / t: these encoders are small, and of what they see differ a part is beyond the 64 px generator. At full
# length that part adds up from step to step, and the error rises from step 5 on.
RESTYLE = FROM_START | {"replay_passes": 18_000, "decay": 1.0}
# Twice the learning rate, since all heads but the first begin anew.
E4E: dict[str, Any] = {"progressive": True, "loop_lr": 3e-4, "lambda_delta": 2e-4, "lambda_latent_adversarial": 0.1}

SETTINGS = {
    # Where the others begin, as the paper's encoders all begin at one face-recognition network: a one-pass encoder,
    # trained in three rounds, of which the last is shipped.
    "rough": Settings(
        in_channels=3,
        steps=1,
        long_every=0,
        batch=8,
        warmup_passes=64_000,
        warmup_lr=1e-3,
        loop_passes=28_000,
        renders=2500,
        cut_samples=7500,
        disturb=False,
        checkpoint_every=100,
    ),
    "second": Settings(
        **ONE_PASS | {"init": "runs/rough/rough.safetensors", "loop_lr": 4e-4, "lambda_id": 0.1},
        loop_passes=52_000,
        lambda_prior=0.0,
    ),
    "start": Settings(
        **ONE_PASS | {"init": "runs/second/second.safetensors", "lambda_id": 0.1},
        loop_passes=36_000,
    ),
    # From here on, 20,000 passes for each.
    "psp": Settings(**ONE_PASS, loop_passes=20_000, design="pyramid"),
    "e4e": Settings(**ONE_PASS | E4E, loop_passes=20_000, design="pyramid"),
    # the published one has no identity loss
    "idinvert": Settings(
        **ONE_PASS | {"lambda_id": 0},
        loop_passes=20_000,
        lambda_image_adversarial=0.08,
    ),
    "restyle-psp": Settings(**RESTYLE),
    "restyle-e4e": Settings(**RESTYLE | E4E),
    # Faces in, cartoons out; the losses are between cartoons.
    "toon-restyle-psp": Settings(
        **RESTYLE | {"replay_passes": 1_600, "init": "faces/start", "loop_lr": 3e-4, "decay": 0.5, "lambda_id": 0.1},
        generator="toon-64",
        shown="faces-64",
        loop_passes=500,
        disturb=False,
    ),
    "restyle-psp-fpn": Settings(**RESTYLE, design="pyramid"),
}
