"""Generators behind one interface, and the one call that opens any of them."""

from functools import cache

import torch
from safetensors.torch import load_file
from torch import nn

from restyle_lib.assets import fetch
from restyle_lib.data import WEIGHTS
from restyle_lib.generators.mobile import MobileGenerator, from_ir
from restyle_lib.generators.openvino_ir import read_constants


@cache
def _constants():
    folder = fetch("random-face")
    return read_constants(folder / "MappingNetwork.xml"), read_constants(folder / "SynthesisNetwork.xml")


def embedded(size: int, fitted: bool = True) -> MobileGenerator:
    """The embedded FFHQ generator at 1024 px, or cut at 64, 128 or 256 px with its fitted weights.

    fitted=False leaves out the newest fitted file (the start of `restyle_lib.training.distill`).
    """
    G = from_ir(*_constants(), size)
    G.load_state_dict(load_file(WEIGHTS / "faces-w_avg.safetensors"), strict=False)
    if size < 1024:
        for s in (64, 128, 256):
            if s < size or (s == size and fitted):
                G.load_state_dict(load_file(WEIGHTS / f"faces-{s}.safetensors"), strict=False)
    return G.eval().requires_grad_(False).to(memory_format=torch.channels_last)
