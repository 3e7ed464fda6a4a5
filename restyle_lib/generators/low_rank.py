"""Small changes of a network's weights: what turns one generator into another, in a file of a few hundred kilobytes.

A large matrix W changes by a product of two thin ones, W + U D (as LoRA does, Hu et al. 2022); what is small anyway
changes as a whole. A changed generator costs nothing more to run: the changes are added when it is loaded.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class LowRank(nn.Module):
    """A parametrization: weight + U D with U [rows, rank], D [rank, columns], in units of the weight's own size."""

    def __init__(self, weight: Tensor, rank: int):
        super().__init__()
        self.unit = rms(weight)
        self.up = nn.Parameter(torch.zeros(len(weight), rank))
        self.down = nn.Parameter(torch.randn(rank, weight[0].numel()))

    def forward(self, weight: Tensor) -> Tensor:
        return weight + (self.unit * self.up @ self.down).view_as(weight)


def rms(weight: Tensor) -> float:
    """Root mean square, at least 0.01."""
    return max(weight.detach().square().mean().sqrt().item(), 0.01)


def let_change(network: nn.Module, names: Iterable[str], rank: int) -> dict[str, nn.Parameter]:
    """Lets the named parameters of a network learn, the large ones by a low rank; returns what learns, by name."""
    learning = {}
    for name in list(names):
        path, _, leaf = name.rpartition(".")
        module, weight = network.get_submodule(path), network.get_parameter(name)
        if weight.ndim > 1 and rank * (len(weight) + weight[0].numel()) < weight.numel():
            change = LowRank(weight, rank)
            parametrize.register_parametrization(module, leaf, change)
            learning |= {f"{name}.up": change.up, f"{name}.down": change.down}
        else:
            learning[name] = weight.requires_grad_(True)
    return learning


def changes(network: nn.Module, learning: dict[str, nn.Parameter]) -> dict[str, Tensor]:
    """What `change` needs to make the same network again, in fp16; `learning` is what `let_change` returned."""
    tensors = {}
    for name, value in learning.items():
        path, _, part = name.rpartition(".")
        if part == "up":
            owner, _, leaf = path.rpartition(".")
            value = value * network.get_submodule(owner).parametrizations[leaf][0].unit
        tensors[name] = value.detach().half().contiguous()
    return tensors


@torch.no_grad()
def change(network: nn.Module, tensors: dict[str, Tensor]) -> nn.Module:
    """Adds changes to the weights of a network, in place. Raises ValueError where they are of another network."""
    state = dict(network.named_parameters())
    for name, value in tensors.items():
        path, _, part = name.rpartition(".")
        target = state.get(path if part in ("up", "down") else name)
        if target is None:
            raise ValueError(f"a change of {name}, which this network does not have")
        if part == "up":
            target += (value.float() @ tensors[f"{path}.down"].float()).view_as(target)
        elif part != "down":
            target.copy_(value)
    return network
