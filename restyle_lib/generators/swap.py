"""Layer swapping (Pinkney and Adler 2020): a generator with the coarse layers of one and the fine ones of another."""

import copy

import torch
from torch import nn

from restyle_lib.generators.mobile import CHANNELS, MobileGenerator


def swap(coarse: MobileGenerator, fine: MobileGenerator, size: int) -> MobileGenerator:
    """Layer swapping (Pinkney and Adler 2020): blocks below `size` px from one generator, the others from another.

    Shape comes from the first, texture and colour from the second. Both of one size, and of one W. The result has
    tensors of its own: what is done to it, or to one of the two, changes neither of the others.
    Raises ValueError where they are not, and where no block begins at `size`.
    """
    if coarse.resolution != fine.resolution or not torch.equal(coarse.w_avg, fine.w_avg):
        raise ValueError("layers can be swapped between generators of one size that share their W")
    sizes = list(CHANNELS)[1 : 1 + len(fine.blocks)]
    if size not in sizes:
        raise ValueError(f"no block begins at {size} px; there are {', '.join(map(str, sizes))}")
    mixed, n = copy.deepcopy(fine), sizes.index(size)
    mixed.stem = copy.deepcopy(coarse.stem)
    mixed.blocks = nn.ModuleList([*copy.deepcopy(coarse.blocks[:n]), *mixed.blocks[n:]])
    return mixed
