"""Ranger is RAdam with centralised gradients that looks ahead, and remembers all of it in a checkpoint."""

import copy

import pytest
import torch

from restyle_lib.training import optimizers
from restyle_lib.training.optimizers import Ranger
from restyle_lib.training.settings import SETTINGS


def gradients(n: int):
    rng = torch.Generator().manual_seed(0)
    return [(torch.randn(4, 3, generator=rng), torch.randn(4, generator=rng)) for _ in range(n)]


def descend(optimizer, parameters, steps) -> None:
    for pair in steps:
        for p, gradient in zip(parameters, pair, strict=True):
            p.grad = gradient.clone()
        optimizer.step()


def test_ranger_by_hand():
    """Twelve steps written out from the papers; RAdam takes plain momentum steps until its variance is known."""
    parameters = [torch.nn.Parameter(torch.ones(4, 3)), torch.nn.Parameter(torch.ones(4))]
    descend(Ranger(parameters, lr=0.1), parameters, gradients(12))
    beta1, beta2, longest = 0.95, 0.999, 2 / (1 - 0.999) - 1
    for i, p in enumerate(parameters):
        fast, m, v = torch.ones_like(p), torch.zeros_like(p), torch.zeros_like(p)
        slow = fast.clone()
        for t, pair in enumerate(gradients(12), start=1):
            g = pair[i] - pair[i].mean(1, keepdim=True) if p.ndim == 2 else pair[i]
            m, v = beta1 * m + (1 - beta1) * g, beta2 * v + (1 - beta2) * g.square()
            length = longest - 2 * t * beta2**t / (1 - beta2**t)
            step = m / (1 - beta1**t)
            if length > 5:
                rectified = (length - 4) * (length - 2) * longest / ((longest - 4) * (longest - 2) * length)
                step = step * rectified**0.5 * (1 - beta2**t) ** 0.5 / (v.sqrt() + 1e-5)
            fast = fast - 0.1 * step
            if t % 6 == 0:
                slow = fast = slow + 0.5 * (fast - slow)
        assert torch.allclose(p, fast, atol=1e-5)


def test_ranger_continues_to_the_bit():
    """From a state saved between two looks ahead, through a file that holds no objects."""
    parameters = [torch.nn.Parameter(torch.ones(4, 3)), torch.nn.Parameter(torch.ones(4))]
    optimizer = Ranger(parameters, lr=0.1)
    descend(optimizer, parameters, gradients(20)[:8])
    again = copy.deepcopy(parameters)
    other = Ranger(again, lr=0.1)
    other.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for each, its in ((optimizer, parameters), (other, again)):
        descend(each, its, gradients(20)[8:])
    assert all(torch.equal(a, b) for a, b in zip(parameters, again, strict=True))


def test_an_unknown_optimizer_is_refused():
    import dataclasses

    with pytest.raises(ValueError, match="no optimizer 'sgd'; there are adam, ranger"):
        optimizers.build(dataclasses.replace(SETTINGS["psp"], optimizer="sgd"), [])
