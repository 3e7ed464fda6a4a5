"""The settings of each named inverter, every default with its reason."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Settings:
    """One training run. Its cost is counted in encoder passes, so that methods can be given the same budget."""

    domain: str = "faces"
    """What is inverted; another domain than the embedded faces has its settings from training/full_scale.py."""
    generator: str = "faces-1024"
    """The generator in the loop, its images averaged to what the encoder sees; "toon-1024": faces in, cartoons out.

    "faces-64" is for lessons that take minutes: a pass of an encoder of 64 px is twenty times cheaper with it, and
    what it teaches are codes of that generator, not of the whole one.
    """
    size: int = 256
    """px of the images that encoder and losses see, as in the paper."""
    init: str = ""
    """The inverter, shipped or a file, whose weights training starts from; none: random weights."""
    design: str = "simplified-256"
    """"simplified-256": all heads read one map (ReStyle, section 4.2); "pyramid-256": three (pSp, section 3.1)."""
    progressive: bool = False
    """e4e: one style for all slots at first; the others' differences are set free one by one."""
    free_from: float = 0.15
    """Of a progressive encoder: the share of all passes after which slot 1 is set free."""
    free_every: float = 0.35 / 15
    """The share after which each further slot follows: all 16 are free after half."""
    in_channels: int = 6
    """6: the image beside the current reconstruction (ReStyle). 3: the image alone (one pass)."""
    steps: int = 5
    """N, refinement steps per batch, as in the paper; 1 for a one-pass encoder."""
    decay: float = 0.0
    """The residual of step t is scaled by 1 / t^decay, in training and by the finished encoder; 0 in the paper."""
    long_every: int = 2
    """Every second image makes 2N steps: with N alone the loop diverges soon after the steps it was trained on."""
    batch: int = 4
    """Half the paper's: each image gives N gradients, and few hours are better spent on more, smaller batches."""
    warmup_passes: int = 0
    """Encoder passes of the warm start, for heads that start anew: pairs of images with known codes, no generator."""
    replay_passes: int = 0
    """Encoder passes on states of the loop that are visited in turn (see training/replay.py)."""
    replay_states: int = 96
    """Size of the replay buffer: an image has its next turn after many batches, so that batches differ."""
    replay_batch: int = 4
    loop_passes: int = 0
    """Encoder passes of the loop as the paper trains it, all steps of a batch in a row."""
    warmup_batch: int = 64
    warmup_lr: float = 8e-4
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
    lambda_l2: float = 2.0
    lambda_lpips: float = 0.8
    """The paper's balance of 1 to 0.8: of the same images, ST-LPIPS is about twice LPIPS."""
    lpips_size: int = 0
    """Square images of more px are area-averaged to this before the perceptual network sees them; 0: never."""
    lambda_id: float = 0.3
    """Three times the paper's: this network is a small one."""
    lambda_moco: float = 0.0
    """Of MoCo features, which take the place of identity where there are no faces: 0.5 in the paper."""
    lambda_latent: float = 0.1
    """Small beside the image losses; keeps the codes near those that the generator knows."""
    lambda_prior: float = 0.05
    """Of images whose codes are unknown: without it, late steps leave the distribution of W."""
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
    photographs: float = 9 / 16
    """Where --images names photographs, their share of all images; the rest are renders."""
    renders: int = 1000
    """Renders of the whole generator to learn from: five minutes on two cores, once."""
    disturbed: float = 0.7
    """Share of the renders that is made unlike any (see sources/renders.py), since photographs are."""
    ema: float = 0.998
    """Decay per batch of the average of the weights, which is what is shipped and validated."""
    validation: int = 24
    """Images kept for validation: photographs where --images names some, else renders."""
    validate_every: int = 300
    checkpoint_every: int = 50
    """Batches: two minutes on two cores, so that at most that much is lost."""
    seed: int = 0


# Where the paper's encoders begin as one face-recognition network, these begin as the default encoder, of some
# 90,000 passes: on two cores nothing else comes near it in an hour. One that is to begin from nothing has init "".
BEGUN: dict[str, Any] = {"init": "faces/restyle-psp", "loop_lr": 1e-4}
RESTYLE: dict[str, Any] = BEGUN | {"replay_passes": 2_000}
ONE_PASS: dict[str, Any] = BEGUN | {"in_channels": 3, "steps": 1, "long_every": 0, "loop_passes": 2_000}
# Not progressive: e4e's heads say something else than those that these begin as, so all but one would begin anew, and
# 2,000 passes are too few for that (data/README.md). The delta loss pulls the styles together, with more weight.
E4E: dict[str, Any] = {
    "lambda_prior": 0.1,
    "lambda_delta": 5e-4,
    "lambda_latent_adversarial": 0.1,
}

SETTINGS = {
    # From random weights to where a loop can begin: residuals between renders with known codes.
    "start": Settings(warmup_passes=100_000, renders=4_000),
    # From here on, 2,000 passes for each.
    "psp": Settings(**ONE_PASS, design="pyramid-256"),
    "e4e": Settings(**ONE_PASS | E4E, design="pyramid-256"),
    # the published one has no identity loss
    "idinvert": Settings(**ONE_PASS, lambda_id=0.0, lambda_image_adversarial=0.08),
    "restyle-psp": Settings(**RESTYLE),
    "restyle-e4e": Settings(**RESTYLE | E4E),
    "restyle-psp-fpn": Settings(**RESTYLE, design="pyramid-256"),
    # The losses are between cartoons, which are known of renders alone.
    "toon-restyle-psp": Settings(**RESTYLE, generator="toon-1024", photographs=0.0, disturbed=0.0),
}
