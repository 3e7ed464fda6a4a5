"""The embedded generator equals the original; the small one draws good faces of samples of W."""

import copy
import json

import openvino
import pytest
import torch

import restyle_lib as rl
from restyle_lib.assets import fetch
from restyle_lib.checkpoints.openvino_ir import read_constants
from restyle_lib.evaluation.metrics import identity, psnr
from restyle_lib.generators.mobile import inverse_haar
from restyle_lib.images import downsample, to_float
from restyle_lib.paths import WEIGHTS


@pytest.fixture(scope="module")
def z():
    return torch.randn(2, 512, generator=torch.Generator().manual_seed(0))


def original(name: str, x: torch.Tensor) -> torch.Tensor:
    """What OpenVINO makes of one input of the original network, in fp32."""
    model = openvino.Core().compile_model(
        fetch("random-face") / f"{name}.xml", "CPU", {"INFERENCE_PRECISION_HINT": "f32"}
    )
    return torch.from_numpy(model(x.numpy())[0].copy())


@pytest.mark.parametrize("seed", [2, 3])
@torch.no_grad()
def test_mapping_and_synthesis_match_openvino(seed):
    z = torch.randn(2, 512, generator=torch.Generator().manual_seed(seed))[:1]
    G = rl.load_generator("faces-1024")
    assert (G.map(z) - original("MappingNetwork", z)).abs().max() < 1e-4
    w = G.map(z, psi=0.7)
    image = G.synthesize(w)
    assert image.shape == (1, 3, 1024, 1024)
    assert (image - original("SynthesisNetwork", w)).abs().max() < 1e-4


@torch.no_grad()
def test_synthesis_is_nearer_to_exact_arithmetic_than_the_original(z):
    """Where the two differ more, on extreme codes (2e-4 on this one), it is the original's rounding, not ours."""
    G = rl.load_generator("faces-1024")
    w = G.map(z)[:1]
    exact = copy.deepcopy(G).double().synthesize(w.double())
    ours, theirs = ((image - exact).abs() for image in (G.synthesize(w), original("SynthesisNetwork", w)))
    assert ours.mean() < 1e-6 and ours.max() < 2e-4
    assert ours.max() < theirs.max() and ours.mean() < theirs.mean()


@torch.no_grad()
def test_w_avg_is_the_mean_code():
    G = rl.load_generator("faces-1024")
    w = G.map(torch.randn(4000, 512, generator=torch.Generator().manual_seed(1)))
    standard_error = w.std(0) / 4000**0.5
    assert ((w.mean(0) - G.w_avg).abs() / standard_error).mean() < 1.5  # 0.8 for the true mean


@torch.no_grad()
def test_truncation(z):
    G = rl.load_generator("faces-64")
    w = G.map(z)
    assert torch.equal(G.map(z, psi=1.0), w)
    assert torch.allclose(G.map(z, psi=0.0), G.w_avg.expand(2, -1))
    assert torch.allclose(G.map(z, psi=0.7), G.w_avg + 0.7 * (w - G.w_avg), atol=1e-6)


@torch.no_grad()
def test_the_small_generator_reads_the_first_slots_of_a_code(z):
    G = rl.load_generator("faces-64")
    assert G.resolution == (64, 64) and G.n_styles == 16 and G.slots_read == 8
    w = G.map(z, psi=0.7)
    codes = w[:, None].repeat(1, 16, 1)
    image = G.synthesize(codes)
    assert image.shape == (2, 3, 64, 64)
    assert torch.allclose(image, G.synthesize(w), atol=1e-5)
    finer = codes.clone()
    finer[:, G.slots_read :] = 5.0
    assert torch.equal(G.synthesize(finer), image)
    for slot in range(G.slots_read):
        changed = codes.clone()
        changed[:, slot] += 0.5
        assert not torch.allclose(G.synthesize(changed), image, atol=1e-3), slot


def test_the_small_generator_is_as_good_as_its_recipe_says(heldout):
    """The recipe's figures are means over 200 held-out renders; here twenty of them are measured again."""
    recipe = json.loads((WEIGHTS / "faces-64.json").read_text())["heldout"]
    assert recipe["n"] == 200
    G = rl.load_generator("faces-64")
    target = downsample(to_float(heldout.images), G.resolution[0])
    with torch.no_grad():
        images = G.synthesize(heldout.codes).clamp(-1, 1)
    assert psnr(images, target).mean() == pytest.approx(recipe["psnr"], abs=1.0)
    assert identity(images, target).mean() == pytest.approx(recipe["identity"], abs=0.06)
    assert recipe["psnr"] > 24 and recipe["identity"] > 0.8


@torch.no_grad()
def test_noise_is_fixed_unless_random(z):
    G = rl.load_generator("faces-64")
    w = G.map(z)
    assert torch.equal(G.synthesize(w, noise="none"), G.synthesize(w, noise="none"))
    assert not torch.equal(G.synthesize(w, noise="none"), G.synthesize(w))
    with pytest.raises(ValueError, match="'frozen'"):
        G.synthesize(w, noise="frozen")
    fixed = G.synthesize(w)
    assert torch.equal(fixed, G.synthesize(w))
    random = G.synthesize(w, noise="random")
    assert not torch.equal(random, G.synthesize(w, noise="random"))
    assert 0 < (random - fixed).abs().mean() < 0.2


def test_gradients_reach_the_codes_and_not_the_weights(z):
    G = rl.load_generator("faces-64")
    codes = G.w_avg.repeat(1, 16, 1).requires_grad_(True)
    G.synthesize(codes).sum().backward()
    assert codes.grad[:, :8].abs().sum() > 0 and codes.grad[:, 8:].abs().sum() == 0
    assert all(p.grad is None for p in G.parameters())


@pytest.mark.parametrize("shape", [(2, 511), (2, 7, 512), (2, 17, 512), (512,), (1, 1, 16, 512)])
def test_wrong_codes_are_refused(shape):
    with pytest.raises(ValueError, match="codes must be"):
        rl.load_generator("faces-64").synthesize(torch.zeros(shape))


def test_unknown_generator_is_refused():
    with pytest.raises(ValueError, match="faces-1024"):
        rl.load_generator("faces-512")


def test_inverse_haar_averages_back_to_the_low_band():
    """Area-averaging a transformed image gives half its low band, whatever the high bands are."""
    bands = torch.randn(2, 12, 5, 5)
    image = inverse_haar(bands)
    assert image.shape == (2, 3, 10, 10)
    assert torch.allclose(downsample(image, 5), bands[:, :3] / 2, atol=1e-6)
    assert torch.allclose(image.square().sum(), bands.square().sum())  # the transform is orthonormal


def test_altered_graph_is_refused(tmp_path):
    (tmp_path / "m.xml").write_text(
        '<net><layer name="a" type="Const"><data element_type="f32" shape="4" offset="0" size="16"/></layer></net>'
    )
    (tmp_path / "m.bin").write_bytes(b"\0" * 8)
    with pytest.raises(ValueError, match="does not fit"):
        read_constants(tmp_path / "m.xml")
    (tmp_path / "m.xml").write_text("<net><layer>")
    with pytest.raises(ValueError, match="not an OpenVINO graph"):
        read_constants(tmp_path / "m.xml")
