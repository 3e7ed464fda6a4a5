"""A tuned generator's file: which of its weights differ from those of an embedded one, and by how much; 1.6 MB."""

from collections.abc import Sequence

import torch
from torch import Tensor

from restyle_lib.checkpoints.packing import pack, unpack
from restyle_lib.generators.mobile import MobileGenerator

FORMAT = "restyle-companion tuned 1"
BASES = ("faces-1024", "toon-1024")
CODES = "codes"  # name of the pivots' tensor, [B, 16, 512] in fp32, where they are in the file


def learning(G: MobileGenerator) -> list[str]:
    """Names of the weights that tuning changes: pointwise convolutions, biases, and the image head.

    Not the modulations, in whose terms codes are edited, nor the depthwise kernels, whose change shows as a grid.
    """
    layers = [f"blocks.{i}.{conv}" for i in range(len(G.blocks)) for conv in ("conv1", "conv2")]
    matrices = [f"{layer}.pointwise" for layer in layers]
    return [*matrices, "stem.bias", *(f"{layer}.bias" for layer in layers), "to_image.weight", "to_image.bias"]


@torch.no_grad()
def difference(base: MobileGenerator, tuned: MobileGenerator) -> dict[str, Tensor]:
    """What `add` needs to make `tuned` of `base`: matrices at 8 bits, biases in fp16.

    Raises ValueError where they differ in a weight that tuning leaves alone.
    """
    before, after = base.state_dict(), {name: value.cpu() for name, value in tuned.state_dict().items()}
    names = learning(base)
    if before.keys() != after.keys() or any(
        not torch.equal(before[name], after[name]) for name in before if name not in names
    ):
        raise ValueError("the generator differs from the embedded one in more than tuning changes")
    return pack({name: after[name] - before[name] for name in names})


@torch.no_grad()
def add(G: MobileGenerator, packed: dict[str, Tensor]) -> MobileGenerator:
    """Adds a difference to the weights of a generator, in place.

    Raises ValueError where it is not one of such a generator, or not of finite numbers.
    """
    changes = unpack({name: value for name, value in packed.items() if name != CODES})
    if changes.keys() != set(learning(G)):
        raise ValueError("its changes are not those of a tuned generator")
    for name, change in changes.items():
        if change.shape != G.get_parameter(name).shape or not change.isfinite().all():
            raise ValueError(f"its change of {name} is of another shape or not finite")
    for name, change in changes.items():
        G.get_parameter(name).add_(change)
    return G


@torch.no_grad()
def mix(G: MobileGenerator, generators: Sequence[MobileGenerator], shares: Tensor) -> MobileGenerator:
    """Makes G, in place, the mean of generators of its family, tuned or not, by their shares [n], which sum to 1.

    Raises ValueError where they are of several families.
    """
    if {each.family for each in generators} != {G.family}:
        raise ValueError(f"only generators tuned from {G.family}-1024 can be mixed with it")
    for name in learning(G):
        weights = [share * each.get_parameter(name) for each, share in zip(generators, shares.tolist(), strict=True)]
        G.get_parameter(name).copy_(torch.stack(weights).sum(0))
    return G
