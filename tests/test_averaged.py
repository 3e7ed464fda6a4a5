"""The whole generator seen at 256 px without its image of 1024: the same images and gradients."""

import pytest
import torch
import torch.nn.functional as F

import restyle_lib as rl
from restyle_lib.generators.averaged import averaged, can_average, shifted
from restyle_lib.images import downsample
from restyle_lib.inversion.inverter import Viewed


@pytest.fixture(scope="module")
def G():
    return rl.load_generator("faces-1024")


@pytest.fixture(scope="module")
def codes(G):
    """Of W+, two styles that meet, as encoders' codes are no samples of W."""
    z = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
    return torch.cat([G.map(z[:1]).repeat(7, 1), G.map(z[1:]).repeat(9, 1)])[None]


@pytest.mark.parametrize("size", [64, 256, 512])
@torch.no_grad()
def test_it_is_the_average_of_the_image_of_1024_px(G, codes, size):
    assert torch.allclose(averaged(G, codes, size), downsample(G.synthesize(codes), size), atol=1e-4)


def test_gradients_are_those_of_the_average(G, codes):
    gradients = []
    for see in (lambda w: averaged(G, w), lambda w: downsample(G.synthesize(w), 256)):
        w = codes.clone().requires_grad_()
        gradients += torch.autograd.grad(see(w).square().mean(), w)
    assert (gradients[0] - gradients[1]).norm() < 1e-3 * gradients[1].norm()


@torch.no_grad()
def test_the_formulation_for_compilers_is_the_same_up_to_bf16(G, codes):
    y = averaged(G, codes)
    assert (averaged(G, codes, compiled=True) - y).square().mean() < 1e-3 * y.var()
    x, kernel = torch.randn(1, 4, 5, 6), torch.randn(4, 1, 3, 3)
    assert torch.allclose(shifted(x, kernel), F.conv2d(x, kernel, padding=1, groups=4), atol=1e-5)


@torch.no_grad()
def test_views_use_it_where_they_can(G, codes):
    assert can_average(G, (256, 256)) and not can_average(G, (1024, 1024)) and not can_average(G, (192, 256))
    assert not can_average(rl.load_generator("faces-64"), (256, 256))
    assert torch.equal(Viewed(G, (256, 256)).synthesize(codes), averaged(G, codes))
    with pytest.raises(ValueError, match="codes must be"):
        averaged(G, codes[:, :3])
