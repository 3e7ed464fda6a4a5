"""Layer swapping (Pinkney and Adler 2020): a generator with the coarse layers of one and the fine ones of another."""

import copy

import torch
from torch import nn

from restyle_lib.generators.mobile import CHANNELS, MobileGenerator


def swap(coarse: MobileGenerator, fine: MobileGenerator, size: int) -> MobileGenerator:
    """Layer swapping (Pinkney and Adler 2020): blocks below `size` px from one generator, the others from another.

    Shape comes from the first, texture and colour from the second. Both of one size, and of one W.
    Raises ValueError where they are not, and where no block begins at `size`.
    """
    if coarse.resolution != fine.resolution or not torch.equal(coarse.w_avg, fine.w_avg):
        raise ValueError("layers can be swapped between generators of one size that share their W")
    sizes = list(CHANNELS)[1 : 1 + len(fine.blocks)]
    if size not in sizes:
        raise ValueError(f"no block begins at {size} px; there are {', '.join(map(str, sizes))}")
    mixed, n = copy.copy(fine), sizes.index(size)
    mixed._modules = dict(fine._modules) | {
        "stem": coarse.stem,
        "blocks": nn.ModuleList([*coarse.blocks[:n], *fine.blocks[n:]]),
    }
    return mixed
