"""Optimization comes near its target, image by image, in the space it was told to."""

import pytest
import torch

import restyle_lib as rl
from restyle_lib import losses
from restyle_lib.evaluation import metrics, sets
from restyle_lib.inversion.optimize import hybrid, ramp


@pytest.fixture(scope="module")
def G():
    return rl.load_generator("faces-64")


@pytest.fixture(scope="module")
@torch.no_grad()
def target(G):
    codes = G.map(torch.randn(2, 512, generator=torch.Generator().manual_seed(5)), psi=0.7)
    return codes[:, None].expand(-1, 16, -1), G.synthesize(codes).clamp(-1, 1)


@pytest.mark.parametrize("space", ["W", "W+"])
def test_it_comes_nearer(G, target, space):
    _, x = target
    seen = []
    result = rl.optimize(G, x, space, steps=25, callback=lambda t, w, y: seen.append((t, w.shape)))
    error = (result.images - x[:, None]).square().mean((0, 2, 3, 4))
    assert error[1] < error[0] / 2
    assert seen == [(t, (2, 16, 512)) for t in range(1, 26)]
    assert torch.equal(result.latents[:, 0], G.w_avg.expand(2, 16, -1))
    styles_differ = (result.latents[:, 1] - result.latents[:, 1, :1]).abs().amax() > 0
    assert styles_differ == (space == "W+")
    assert torch.equal(result.latents[:, 1, 7], result.latents[:, 1, 15])  # the slots that 64 px do not show follow
    with torch.no_grad():
        assert torch.allclose(result.images[:, 0], G.synthesize(result.latents[:, 0]), atol=1e-5)
    assert not result.latents.requires_grad and result.final(G).shape == (2, 3, 64, 64)


def test_an_image_does_not_depend_on_its_batch(G, target):
    codes, x = target
    codes = torch.lerp(codes, G.w_avg, 0.5)  # at the goal all gradients are rounding, whose sign Adam would follow
    together = rl.optimize(G, x, steps=3, init=codes, lr=0.03)
    alone = rl.optimize(G, x[1:], steps=3, init=codes[1:], lr=0.03)
    assert (alone.latents[:, 1] - alone.latents[:, 0]).abs().mean() > 1e-2
    assert (together.latents[1:] - alone.latents).abs().mean() < 1e-4
    assert (together.images[1:] - alone.images).abs().max() < 5e-3


def test_nor_does_the_noise_at_its_start(G, target):
    _, x = target
    together, alone = rl.optimize(G, x, steps=2, lr=0.01), rl.optimize(G, x[1:], steps=2, lr=0.01)
    assert (together.latents[1:] - alone.latents).abs().mean() < 1e-4


def test_the_best_is_kept_and_not_the_last(G, target):
    codes, x = target
    result = rl.optimize(G, x, steps=4, init=codes, lr=1.0)  # every step leads away
    assert torch.equal(result.latents[:, 1], codes) and torch.equal(result.images[:, 1], result.images[:, 0])


def test_what_no_longer_improves_is_left(G, target):
    codes, x = target
    far = torch.stack([torch.lerp(codes[0], G.w_avg, 0.05), G.w_avg.expand(16, -1)])
    seen = []
    rl.optimize(G, x, steps=6, init=far, patience=3, callback=lambda t, w, y: seen.append(w))
    moves = [(a - b).abs().amax((1, 2)) > 0 for a, b in zip(seen, seen[1:], strict=False)]
    assert len(seen) == 6 and all(move[1] for move in moves) and moves[0][0] and not moves[-1][0]
    seen.clear()
    rl.optimize(G, x[:1], steps=9, init=codes[:1], patience=3, callback=lambda t, w, y: seen.append(w))
    assert len(seen) == 4


def test_ctrl_c_leaves_the_best_until_then(G, target):
    _, x = target

    def stop(t, w, y):
        if t == 8:
            raise KeyboardInterrupt

    result = rl.optimize(G, x, steps=500, callback=stop, schedule="cosine")
    error = (result.images - x[:, None]).square().mean((0, 2, 3, 4))
    assert error[1] < error[0]
    with pytest.raises(KeyboardInterrupt):
        rl.optimize(G, x, steps=500, callback=stop, interruptible=False)


def test_the_hybrid_brings_a_photograph_closer():
    """Through the whole generator, seen at 256 px, with a style for each of its slots."""
    inverter = rl.load_inverter("faces/psp")
    photos = sets.aligned_photographs()[1][:1]
    result = inverter.invert(photos, steps=1)
    better = hybrid(inverter, photos, result, steps=30)
    assert better.latents.shape == (1, 3, 16, 512) and torch.equal(better.latents[:, :2], result.latents)
    assert better.images.shape[2:] == (3, 256, 256)
    assert not torch.equal(better.latents[0, 2, 14], better.latents[0, 2, 15])
    before, after = (better.images[:, t].clamp(-1, 1) for t in (1, 2))
    assert (metrics.l2(after, photos) < 0.8 * metrics.l2(before, photos)).all()
    assert (metrics.st_lpips_distance(after, photos) < 0.7 * metrics.st_lpips_distance(before, photos)).all()
    assert (metrics.identity(after, photos) > metrics.identity(before, photos) + 0.1).all()


@torch.no_grad()
def test_there_too_an_image_does_not_depend_on_its_batch():
    G = rl.load_generator("faces-1024")
    start = G.w_avg.expand(2, 16, -1)
    photos = sets.aligned_photographs(256)[1][:2]
    together, alone = (rl.optimize(G, photos[i:], steps=2, init=start[i:], lr=0.02) for i in (0, 1))
    assert (alone.latents[:, 1] - alone.latents[:, 0]).abs().mean() > 5e-3
    assert (together.latents[1:] - alone.latents).abs().mean() < 1e-4


def test_a_good_start_stays_good(G, target):
    codes, x = target
    result = rl.optimize(G, x, steps=10, init=codes)
    error = (result.images.clamp(-1, 1) - x[:, None]).square().mean((0, 2, 3, 4))
    assert error[0] < 1e-4 and error[1] < 0.01


def test_the_learning_rate_rises_and_falls():
    factors = [ramp(t / 100) for t in range(100)]
    assert factors[0] < 0.1 and factors[20] == factors[70] == 1 and 0 < factors[99] < 0.01
    factors = [ramp(t / 100, "cosine") for t in range(100)]
    assert factors[0] < 0.1 and factors[10] > 0.9 and factors[50] == pytest.approx(0.5) and 0 < factors[99] < 0.01


@pytest.mark.parametrize(
    "wrong",
    [
        {"space": "Z"},
        {"steps": 0},
        {"schedule": "none"},
        {"patience": -1},
        {"init": torch.zeros(1, 16, 512)},
        {"images": torch.zeros(3, 64, 64)},
        {"images": torch.zeros(2, 3, 64, 128)},
        {"images": torch.full((2, 3, 64, 64), torch.nan)},
        {"images": torch.full((2, 3, 64, 64), 255.0)},
    ],
)
def test_wrong_arguments_say_so(G, target, wrong):
    with pytest.raises(ValueError):
        rl.optimize(G, **({"images": target[1]} | wrong))


def test_a_prior_holds_the_styles_in_w(G, target):
    """From a code astray, with an image as the only guide the code stays astray; the prior brings it back."""
    _, x = target
    astray = G.w_avg + torch.randn(2, 16, 512, generator=torch.Generator().manual_seed(1)) * 0.3
    whitening = losses.whitening(G)
    distance = {}
    for weight in (0.0, 0.1):
        found = rl.optimize(G, x, steps=15, init=astray, lambda_prior=weight).latents[:, 1]
        distance[weight] = losses.prior(found, G.w_avg, whitening, 8).item()
    assert distance[0.1] < 0.7 * distance[0.0]


def test_whitening_is_remembered_for_the_same_weights_only(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path))
    monkeypatch.setattr(losses, "_WHITENINGS", {})
    G = rl.load_generator("faces-64")
    first = losses.whitening(G)
    assert losses.whitening(G) is first
    losses._WHITENINGS.clear()  # as in another process, which finds it in the cache
    with monkeypatch.context() as patch:
        patch.setattr(torch.linalg, "eigh", lambda covariance: pytest.fail("it was done before"))
        assert torch.equal(losses.whitening(G), first)
    G.load_state_dict(G.state_dict() | {"mapping.bias": G.state_dict()["mapping.bias"] + 0.01})
    assert not torch.equal(losses.whitening(G), first)
