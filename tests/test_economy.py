"""What saves memory and time in training changes no result."""

import copy
import os
import subprocess
import sys

import pytest
import torch

import restyle_lib as rl
from restyle_lib import encoders
from restyle_lib.generators import stylegan2
from restyle_lib.generators.frozen import Frozen, styled
from restyle_lib.training import economy


def kept_for_backward(network, work) -> tuple[torch.Tensor, int]:
    """What `work` returns, and the bytes that autograd keeps of it beside the weights."""
    kept, weights = {}, {p.untyped_storage().data_ptr() for p in network.parameters()}

    def pack(x):
        if x.untyped_storage().data_ptr() not in weights:
            kept[x.untyped_storage().data_ptr()] = x.untyped_storage().nbytes()
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        result = work()
    return result, sum(kept.values())


@pytest.mark.parametrize("design", ["simplified-256", "ir_se50", "resnet34"])
def test_recomputed_encoders_learn_the_same_from_less_memory(design):
    """Gradients and the statistics of batch normalisations, which see the batch twice and count it once."""
    torch.manual_seed(0)
    plain = encoders.build(6, 6, design)
    for p in plain.parameters():
        torch.nn.init.normal_(p, std=0.02)
    frugal, x, kept = copy.deepcopy(plain), torch.rand(2, 6, 64, 64) * 2 - 1, []
    for encoder, networks in ((plain, []), (frugal, [frugal])):
        with economy.recomputed(networks):
            residual, memory = kept_for_backward(encoder, lambda encoder=encoder: encoder(x))
            residual.square().sum().backward()
        kept.append(memory)
    assert kept[1] < 0.7 * kept[0]
    for (name, p), q in zip(plain.named_parameters(), frugal.parameters(), strict=True):
        assert torch.allclose(p.grad, q.grad, rtol=1e-3, atol=1e-4 * p.grad.abs().max()), name
    for (name, p), q in zip(plain.named_buffers(), frugal.buffers(), strict=True):
        assert "num_batches" in name or torch.equal(p, q), name


def test_a_recomputed_generator_passes_the_same_gradient_from_less_memory():
    torch.manual_seed(0)
    G = rl.load_generator("faces-64").requires_grad_(False)
    codes, gradients, kept = torch.randn(2, G.n_styles, 512), [], []
    for networks in ([], [G]):
        w = codes.clone().requires_grad_()
        with economy.recomputed(networks):
            image, memory = kept_for_backward(G, lambda w=w: G.synthesize(w))
            image.square().sum().backward()
        gradients.append(w.grad)
        kept.append(memory)
    assert kept[1] < 0.7 * kept[0]
    assert torch.allclose(*gradients, rtol=1e-3, atol=1e-4 * gradients[0].abs().max())
    assert "forward" not in vars(next(G.modules()))


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_memory_is_used_again():
    """A tensor of 100 MB needs new pages from the system each time, 25,600 of 4 KB, unless restyle_lib is imported."""
    code = """
import resource, sys, torch
if sys.argv[1] == "kept":
    import restyle_lib
for _ in range(4):  # one is not enough: something small may take a place in the middle of what the first has freed
    torch.zeros(25_000_000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    torch.zeros(25_000_000)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    usual_environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}

    def new_pages(way: str) -> int:
        command = [sys.executable, "-c", code, way]
        return int(subprocess.run(command, check=True, capture_output=True, text=True, env=usual_environment).stdout)

    kept, usual = new_pages("kept"), new_pages("usual")
    assert kept < usual / 10


def doubles(*shape):
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("images", [0, 1, 2])
@pytest.mark.parametrize("up", [False, True])
def test_frozen_layers_pass_on_the_gradients_of_autograd(images, up):
    """images: that have noise of their own, 1 a pattern for both, 0 none."""
    torch.manual_seed(images + 3 * up)
    size = 12 if up else 6
    given = doubles(2, 5, 6, 6), doubles(2, 5), doubles(2, 4).abs() + 0.3
    noise = doubles(images, 1, size, size) if images else None
    kept = doubles(4, 5, 3, 3), noise, doubles(4), stylegan2.blur_kernel().double().repeat(4, 1, 1, 1) if up else None
    results = []
    for layer in (styled, Frozen.apply):
        inputs = [x.clone().requires_grad_() for x in given]
        y = layer(*inputs, *kept)
        results.append([y, *torch.autograd.grad((y * y.detach().sin()).sum(), inputs)])
    for expected, found in zip(*results, strict=True):
        assert torch.allclose(found.double(), expected, rtol=1e-4, atol=1e-4)  # sums are returned in fp32


def test_a_frozen_generator_keeps_less_and_gives_the_same_gradient():
    torch.manual_seed(0)
    G = stylegan2.StyleGAN2({4: 16, 8: 16, 16: 16, 32: 8, 64: 8}, layers=1).to(memory_format=torch.channels_last)
    for p in G.parameters():
        torch.nn.init.normal_(p, std=0.3)
    codes = torch.randn(2, G.n_styles, 512).requires_grad_()
    results = []
    for learns in (True, False):
        G.requires_grad_(learns)
        image, kept = kept_for_backward(G, lambda: G.synthesize(codes))
        results.append((image, torch.autograd.grad(image.square().sum(), codes)[0], kept))
    (image, gradient, much), (same_image, same_gradient, little) = results
    assert torch.equal(image, same_image)
    assert torch.allclose(gradient, same_gradient, rtol=1e-3, atol=1e-4 * gradient.abs().max().item())
    assert little < much / 2


def test_weights_that_learn_have_gradients():
    G = stylegan2.StyleGAN2({4: 4, 8: 4}, layers=1)
    torch.nn.init.normal_(G.constant)
    for conv in G.convs:
        torch.nn.init.normal_(conv.weight)
    torch.nn.init.normal_(G.to_rgb[1].weight)
    G.synthesize(torch.randn(1, G.n_styles, 512)).sum().backward()
    assert all(conv.weight.grad.abs().sum() > 0 for conv in G.convs)
