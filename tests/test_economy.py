"""What saves memory and time in training changes no result."""

import copy

import pytest
import torch

import restyle_lib as rl
from restyle_lib import encoders
from restyle_lib.generators import stylegan2
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


@pytest.mark.parametrize("design", ["simplified", "ir_se50", "resnet34"])
def test_recomputed_encoders_learn_the_same_from_less_memory(design):
    """Gradients and the statistics of batch normalisations, which see the batch twice and count it once."""
    torch.manual_seed(0)
    plain = encoders.build(6, 6, 6, design)
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


@pytest.mark.parametrize("G", [rl.load_generator("faces-64"), stylegan2.StyleGAN2({4: 32, 8: 32, 16: 16}, layers=1)])
def test_recomputed_generators_pass_the_same_gradient_from_less_memory(G):
    torch.manual_seed(0)
    for p in G.parameters():
        if not p.abs().sum():
            torch.nn.init.normal_(p, std=0.1)
    G.requires_grad_(False)
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
