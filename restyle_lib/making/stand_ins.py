"""Checkpoints in the official ReStyle format with random weights, of any geometry.

They invert nothing, but they are read, run and timed exactly as the published ones: benchmarks, tests and 09_full_scale
use them where nobody has downloaded a checkpoint.
"""

import math

import torch
from torch import Tensor

from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.encoders.backbones import IRSE50, ResNet34

DATASETS = {"faces": "ffhq_encode", "cars": "cars_encode", "church": "church_encode", "horse": "horse_encode"}
DATASETS |= {"wild": "afhq_wild_encode", "toonify": "toonify"}


def random_checkpoint(domain: str = "faces", size: int | None = None, mapping: int = 8, seed: int = 0) -> dict:
    """The content of a ReStyle-pSp checkpoint: {"state_dict", "opts", "latent_avg"}, ready for `torch.save`.

    domain: a name in DOMAINS, which decides the backbone, and the output size where `size` is not given
    size:   of the generator in pixels, a power of two >= 8
    """
    rng = torch.Generator().manual_seed(seed)
    size = size or DOMAINS[domain].output_size
    n_styles = 2 * int(math.log2(size)) - 2
    state = {f"encoder.{k}": v for k, v in _encoder(DOMAINS[domain].backbone, n_styles, rng).items()}
    state |= {f"decoder.{k}": v for k, v in generator_state(size, mapping, rng).items()}
    opts = {"dataset_type": DATASETS[domain], "output_size": size, "input_nc": 6, "n_iters_per_batch": 5}
    opts |= {"encoder_type": "BackboneEncoder" if DOMAINS[domain].backbone == "ir_se50" else "ResNetBackboneEncoder"}
    return {"state_dict": state, "opts": opts, "latent_avg": torch.zeros(n_styles, 512)}


def _normal(rng: torch.Generator, *shape: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(shape, generator=rng)


def _encoder(backbone: str, n_styles: int, rng: torch.Generator) -> dict[str, Tensor]:
    """Backbone and simplified heads; the heads are scaled down so that the residuals stay small."""
    module = (IRSE50 if backbone == "ir_se50" else ResNet34)(in_channels=6)
    state = {}
    for name, value in module.state_dict().items():
        spread = 0.5 / math.sqrt(max(1, value[0].numel())) if value.ndim == 4 else 0  # norms keep their defaults
        state[name] = _normal(rng, *value.shape, scale=spread) if spread else value
    # heads that differ in their last layer alone, so that a file holds the large ones once
    convs = [_normal(rng, 512, 512, 3, 3, scale=math.sqrt(2 / (512 * 9))) for _ in range(4)]
    for i in range(n_styles):
        for j, conv in enumerate(convs):
            state[f"styles.{i}.convs.{2 * j}.weight"] = conv
            state[f"styles.{i}.convs.{2 * j}.bias"] = torch.zeros(512)
        state[f"styles.{i}.linear.weight"] = _normal(rng, 512, 512, scale=0.05)
        state[f"styles.{i}.linear.bias"] = torch.zeros(512)
    return state


def generator_state(size: int, mapping: int, rng: torch.Generator, multiplier: float = 2) -> dict[str, Tensor]:
    """A `g_ema` of rosinality's converter, initialised as StyleGAN2 is; multiplier: of the channels from 64 px on."""
    channels = {s: min(512, int(multiplier * 16384) // s) for s in (2**i for i in range(2, int(math.log2(size)) + 1))}
    state = {"input.input": _normal(rng, 1, 512, 4, 4)}
    for i in range(1, mapping + 1):
        state |= {f"style.{i}.weight": _normal(rng, 512, 512, scale=100), f"style.{i}.bias": torch.zeros(512)}

    def modulated(name: str, c_in: int, c_out: int, kernel: int) -> None:
        state[f"{name}.conv.weight"] = _normal(rng, 1, c_out, c_in, kernel, kernel)
        state[f"{name}.conv.modulation.weight"] = _normal(rng, c_in, 512)
        state[f"{name}.conv.modulation.bias"] = torch.ones(c_in)

    def styled(name: str, c_in: int, c_out: int) -> None:
        modulated(name, c_in, c_out, 3)
        state[f"{name}.noise.weight"] = torch.zeros(1)
        state[f"{name}.activate.bias"] = torch.zeros(c_out)

    def to_rgb(name: str, c_in: int) -> None:
        modulated(name, c_in, 3, 1)
        state[f"{name}.bias"] = torch.zeros(1, 3, 1, 1)

    styled("conv1", 512, 512)
    to_rgb("to_rgb1", 512)
    state["noises.noise_0"] = _normal(rng, 1, 1, 4, 4)
    for i, s in enumerate(list(channels)[1:]):
        styled(f"convs.{2 * i}", channels[s // 2], channels[s])
        styled(f"convs.{2 * i + 1}", channels[s], channels[s])
        to_rgb(f"to_rgbs.{i}", channels[s])
        for j in (1, 2):
            state[f"noises.noise_{2 * i + j}"] = _normal(rng, 1, 1, s, s)
    return state
