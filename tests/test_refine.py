"""The residual loop is the paper's, equation by equation."""

import pytest
import torch
from torch import nn

from restyle_lib.inversion.refine import refine


class LinearEncoder(nn.Module):
    """Residual = a linear map of what it sees, so that every iterate can be worked out by hand."""

    def __init__(self, in_channels=6):
        super().__init__()
        self.in_channels = in_channels
        self.linear = nn.Linear(in_channels * 4, 2 * 3)

    def forward(self, images):
        self.seen = images
        return self.linear(images.flatten(1)).reshape(-1, 2, 3)


class LinearGenerator:
    def synthesize(self, codes):
        return codes.flatten(1).repeat(1, 2).reshape(-1, 3, 2, 2)


@pytest.fixture
def case():
    torch.manual_seed(0)
    return LinearEncoder(), LinearGenerator(), torch.randn(5, 3, 2, 2), torch.randn(5, 2, 3), torch.randn(5, 3, 2, 2)


def test_iterates_follow_the_equations(case):
    encoder, G, x, w, y = case
    trail = []
    with torch.no_grad():
        end = refine(encoder, G, x, w, y, 4, lambda *state: trail.append(state))
        for _t, w_t, y_t in trail:
            w = w + encoder(torch.cat([x, y], dim=1))
            y = G.synthesize(w)
            assert torch.equal(w_t, w) and torch.equal(y_t, y)
    assert [t for t, _, _ in trail] == [1, 2, 3, 4]
    assert torch.equal(end[0], w) and torch.equal(end[1], y)


def test_no_gradient_flows_between_steps(case):
    """Each step's gradient equals that of the step run alone from the same, constant state."""
    encoder, G, x, w, y = case
    states, gradients = [(w, y)], []

    def learn(t, w_t, y_t):
        encoder.zero_grad()
        (y_t - x).square().sum().backward()
        gradients.append(encoder.linear.weight.grad.clone())
        states.append((w_t.detach(), y_t.detach()))

    end = refine(encoder, G, x, w, y, 3, learn)
    assert not end[0].requires_grad and not end[1].requires_grad
    for (w_t, y_t), gradient in zip(states, gradients, strict=False):
        encoder.zero_grad()
        (G.synthesize(w_t + encoder(torch.cat([x, y_t], 1))) - x).square().sum().backward()
        assert torch.allclose(encoder.linear.weight.grad, gradient)


def test_a_one_pass_encoder_sees_the_image_alone(case):
    _, G, x, w, y = case
    encoder = LinearEncoder(in_channels=3)
    calls: list[int] = []
    end, _ = refine(encoder, G, x, w, y, 3, lambda t, w_t, y_t: calls.append(t))
    assert calls == [1], "without feedback, a second step would see nothing new"
    assert torch.equal(encoder.seen, x)
    assert torch.equal(end, (w + encoder(x)).detach())


def test_no_graph_without_gradients(case):
    encoder, G, x, w, y = case
    with torch.no_grad():
        refine(encoder, G, x, w, y, 2, lambda t, w_t, y_t: check(w_t))


def check(w_t):
    assert not w_t.requires_grad


def test_a_decay_scales_residuals_by_the_number_of_their_step(case):
    encoder, G, x, w, y = case
    with torch.no_grad():
        end, _ = refine(encoder, G, x, w, y, 3, decay=0.5)
        expected, image = w, y
        for t in (1, 2, 3):
            expected = expected + encoder(torch.cat([x, image], dim=1)) / t**0.5
            image = G.synthesize(expected)
        assert torch.allclose(end, expected)
        # images at different steps, each as if it were alone
        number = torch.tensor([1, 2, 3, 4, 5])[:, None, None]
        mixed, _ = refine(encoder, G, x, w, y, 1, decay=1.0, first=number)
        assert torch.allclose(mixed, w + encoder(torch.cat([x, y], dim=1)) / number)
