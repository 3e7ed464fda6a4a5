"""StyleGAN3, T and R, as published: layers, files, encoders, and what its name promises of shifts and turns."""

import argparse
import re
from pathlib import Path

import numpy as np
import pytest
import stylegan3_published as published
import torch
import torch.nn.functional as F
from official import as_modules, made_up, write_ada_pickle
from stylegan3_published import R, T

import restyle_lib as rl
from restyle_lib.checkpoints import domains
from restyle_lib.checkpoints.generators import CheckpointError
from restyle_lib.commands import cli, dry_run
from restyle_lib.faces.align import between, cut_square, landmarks_transform
from restyle_lib.generators import filters, stylegan3
from restyle_lib.inversion.inverter import convert
from restyle_lib.making.stand_ins import random_checkpoint
from restyle_lib.train import full_size_job
from restyle_lib.training.full_scale import Files

SMALL = {"num_layers": 4, "channel_base": 256, "channel_max": 8}  # of 16 px, which have six styles
TURNED = torch.tensor([[0.8, 0.3, 0.1], [-0.3, 0.8, -0.2], [0, 0, 1]])


@pytest.fixture(scope="module")
def photograph():
    from PIL import Image
    from skimage.data import astronaut

    return Image.fromarray(astronaut())


@pytest.mark.parametrize("kind", [T, R], ids="TR")
@pytest.mark.parametrize(
    ("size", "settings"),
    [
        (16, SMALL),
        (32, SMALL | {"num_layers": 5, "channel_base": 300}),
        (64, {"channel_base": 1024, "channel_max": 12}),  # 14 layers, as all the published ones
        (128, SMALL),  # in so few layers, some samples are four times as dense as before
        (32, SMALL | {"num_critical": 1, "margin_size": 6, "filter_size": 4, "conv_clamp": 3, "output_scale": 1}),
        (32, SMALL | {"first_cutoff": 3, "first_stopband": 7, "last_stopband_rel": 1.4, "lrelu_upsampling": 4}),
    ],
)
@torch.no_grad()
def test_synthesis_is_the_published_one(kind, size, settings):
    settings = settings | kind
    state = published.tensors(size, **settings)
    G = stylegan3.from_nvidia(state, settings)
    codes = torch.randn(2, settings.get("num_layers", 14) + 2, 512, generator=torch.Generator().manual_seed(0))
    assert G.resolution == (size, size) and G.n_styles == G.slots_read == codes.shape[1]
    for transform in (None, TURNED):
        expected = published.synthesize(state, size, codes, transform, **settings)
        assert (G.synthesize(codes, transform=transform) - expected).abs().max() < 3e-5 * expected.abs().max()
    each = torch.stack([torch.eye(3), TURNED])
    images = G.synthesize(codes, transform=each)
    assert torch.allclose(images[1:], G.synthesize(codes[1:], transform=TURNED), atol=1e-4 * images.abs().max())
    assert torch.equal(G.synthesize(codes, "none"), G.synthesize(codes, "random"))


@pytest.mark.parametrize("radial", [False, True])
@pytest.mark.parametrize(
    ("taps", "cutoff", "width", "rate"), [(12, 2, 6.0, 32), (24, 100, 57.0, 1024), (6, 4, 1.0, 16)]
)
def test_filters_are_those_of_scipy(radial, taps, cutoff, width, rate):
    own = (filters.radial_lowpass if radial else filters.lowpass)(taps, cutoff, width / 2, rate)
    expected = published.lowpass(taps, cutoff, width, rate, radial)
    assert np.abs(own.numpy() - expected).max() < 1e-6 * np.abs(expected).max()


@pytest.mark.parametrize("kind", [T, R], ids="TR")
def test_parts_of_the_channels_give_the_same_images_and_gradients(kind, monkeypatch):
    """Maps at the higher rate are made in parts, and made again for the gradients."""
    settings = {"num_layers": 4, "channel_base": 600, "channel_max": 40} | kind
    G = stylegan3.from_nvidia(published.tensors(16, **settings)).double()
    found = []
    for largest in (2**30, 1):
        monkeypatch.setattr(filters, "LARGEST", largest)
        codes = torch.randn(1, 6, 512, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        codes.requires_grad_()
        image = G.synthesize(codes)
        image.square().sum().backward()
        found.append((image.detach(), codes.grad))
    for a, b in zip(*found, strict=True):
        assert (a - b).abs().max() < 1e-9 * a.abs().max()
    codes, steepest = codes.detach(), found[0][1]
    step = 1e-3 * steepest / steepest.norm()
    with torch.no_grad():
        ahead, behind = (G.synthesize(codes + sign * step).square().sum() for sign in (1, -1))
    assert ((ahead - behind) / 2).item() == pytest.approx((steepest * step).sum().item(), rel=1e-2)


def smooth(kind: dict) -> stylegan3.StyleGAN3:
    """A random generator of 64 px that is upright by itself, with little but what the Fourier features bring."""
    state = published.tensors(64, channel_base=1024, channel_max=32, num_layers=6, **kind)
    state = {k: x * 0.1 if re.search(r"L\d_\w+\.bias", k) else x for k, x in state.items()}
    state["synthesis.input.affine.weight"].zero_()
    state["synthesis.input.affine.bias"] = torch.tensor([1.0, 0, 0, 0])
    return stylegan3.from_nvidia(state)


def relative(a: torch.Tensor, b: torch.Tensor, margin: int = 8) -> float:
    """The difference of two images but for their edges, as a share of the first one's deviation."""
    a, b = (x[..., margin:-margin, margin:-margin] for x in (a, b))
    return ((a - b).square().mean() / a.var()).sqrt().item()


@pytest.mark.parametrize("kind", [T, R], ids="TR")
@torch.no_grad()
def test_an_image_moves_with_its_transform(kind):
    """By whole pixels: right and down for places to the left and above. It is no repetition of the other pixels."""
    G, w = smooth(kind), torch.randn(1, 512, generator=torch.Generator().manual_seed(1))
    image = G.synthesize(w)
    moved = G.synthesize(w, transform=torch.tensor([[1, 0, -3 / 64], [0, 1, -5 / 64], [0, 0, 1]]))
    assert relative(image.roll((5, 3), (2, 3)), moved) < 0.01 < 0.1 < relative(image, moved)


@torch.no_grad()
def test_only_r_turns_with_its_transform():
    quarter = torch.tensor([[0.0, -1, 0], [1, 0, 0], [0, 0, 1]])  # what was at the bottom is to the right
    w = torch.randn(1, 512, generator=torch.Generator().manual_seed(1))
    for kind, turns in ((R, True), (T, False)):
        G = smooth(kind)
        error = relative(G.synthesize(w).rot90(1, (2, 3)), G.synthesize(w, transform=quarter))
        assert error < 1e-3 if turns else error > 0.3


@torch.no_grad()
def test_w_avg_truncation_and_wrong_arguments():
    G = stylegan3.from_nvidia(published.tensors(16, **SMALL))
    z = torch.randn(3, 512)
    assert torch.allclose(G.map(z, psi=0), G.w_avg.expand(3, -1))
    with pytest.raises(ValueError, match="codes must be"):
        G.synthesize(torch.zeros(1, 16, 512))
    with pytest.raises(ValueError, match="transform must be"):
        G.synthesize(z, transform=torch.zeros(2, 3, 3))
    with pytest.raises(ValueError, match="frozen"):
        G.synthesize(z, noise="frozen")


@torch.no_grad()
def test_bf16_is_near():
    G, w = smooth(R), torch.randn(2, 512)
    exact = G.synthesize(w)
    with torch.autocast("cpu", torch.bfloat16):
        image = G.synthesize(w)
    assert image.dtype == torch.float32 and relative(exact, image, 1) < 0.05


@pytest.mark.parametrize("kind", [T, R], ids="TR")
@torch.no_grad()
def test_nvidias_pickles_and_their_conversion(kind, tmp_path):
    settings = SMALL | {"margin_size": 8, "magnitude_ema_beta": 0.99} | kind
    state = published.tensors(16, **settings)
    paths = [tmp_path / name for name in ("network.pkl", "tuned.pt")]
    write_ada_pickle(paths[0], state, protocol=4, settings=settings)
    write_ada_pickle(paths[1], state, tuned={}, settings=settings)  # as pivotal tuning saves it
    assert convert(paths[0], tmp_path / "converted.safetensors") == "generator"
    codes = torch.randn(1, 6, 512)
    expected = published.synthesize(state, 16, codes, **settings)
    for path in (*paths, tmp_path / "converted.safetensors"):
        G = rl.load_generator(path)
        assert (G.synthesize(codes) - expected).abs().max() < 3e-5 * expected.abs().max(), path
        assert torch.equal(G.w_avg, state["mapping.w_avg"])
    z = torch.randn(2, 512)
    x = z * torch.rsqrt(z.square().mean(1, keepdim=True))
    for i in range(2):
        x = F.linear(x, state[f"mapping.fc{i}.weight"] / 100 / 512**0.5, state[f"mapping.fc{i}.bias"] / 100)
        x = F.leaky_relu(x, 0.2) * 2**0.5
    assert (G.map(z) - x).abs().max() < 1e-4


def test_a_generator_of_several_classes(tmp_path):
    state = published.tensors(16, classes=3, **SMALL)
    write_ada_pickle(tmp_path / "classes.pkl", state, settings=SMALL | {"c_dim": 3})
    with pytest.warns(UserWarning, match="of 3 classes"):
        G = rl.load_generator(tmp_path / "classes.pkl")
    assert G.map(torch.randn(4, 512)).shape == (4, 512) and torch.equal(G.w_avg, state["mapping.w_avg"])


@pytest.mark.parametrize("name", [None, "g_ema", "G_ema", "state_dict"])
def test_bare_tensors(name, tmp_path):
    """As stylegan3-editing saves its generators, and under the usual names; a batch's transforms are left alone."""
    state = published.tensors(16, **SMALL, **R)
    other = state | {"synthesis.input.transform": torch.zeros(2, 3, 3)}
    torch.save({name: other} if name else other, tmp_path / "sg3.pt")
    G, w = rl.load_generator(tmp_path / "sg3.pt"), torch.randn(1, 512)
    assert torch.equal(G.synthesize(w), stylegan3.from_nvidia(state).synthesize(w))
    with pytest.raises(CheckpointError, match="opens with load_generator"):
        rl.load_inverter(tmp_path / "sg3.pt")


def without(state: dict, part: str) -> dict:
    return {name: x for name, x in state.items() if part not in name}


def test_what_does_not_fit_is_said(tmp_path):
    state = published.tensors(16, **SMALL)
    grey = published.tensors(16, **SMALL)
    grey["synthesis.L4_16_3.weight"] = grey["synthesis.L4_16_3.weight"][:1].clone()
    up = {"synthesis.L1_36_8.up_filter": torch.ones(12) / 12}
    wide = {name.replace("L1_36_8", "L1_40_8"): x for name, x in state.items()}
    for content, settings, words in (
        (without(state, "synthesis.L2_"), {}, "L0, L1, … are not all there"),
        (without(state, "L1_36_8.bias"), {}, "L1_36_8.bias"),
        (grey, {}, "1 channels, not 3"),
        (state | up, {}, "L1_36_8.up_filter is not the filter of its settings"),
        (state, {"first_cutoff": 2.5}, "not the filter of its settings"),
        (wide, {}, "L1_40_8 is of a design that is not known"),
        (state, {"margin_size": 10**9}, "margin_size is 1000000000, not a number from 0 to 64"),
        (state, {"filter_size": "6"}, "filter_size is '6'"),
        (state, {"first_cutoff": 50}, "no filters"),
        (state | {"mapping.fc0.weight": torch.zeros(512, 64)}, {}, "z has 64 dimensions"),
    ):
        write_ada_pickle(tmp_path / "wrong.pkl", content, settings=settings)
        with pytest.raises(CheckpointError, match=words) as caught:
            rl.load_generator(tmp_path / "wrong.pkl")
        assert "\n" not in str(caught.value) and "refused" not in str(caught.value)


def editing_checkpoint(progressive: bool, mean: bool = True) -> dict:
    """As stylegan3-editing's training writes it: an encoder of six channels, a StyleGAN3-R, options with paths."""
    content = random_checkpoint("faces", size=16, mapping=1)  # its encoder has six heads
    state = {name: x for name, x in content["state_dict"].items() if name.startswith("encoder.")}
    decoder = published.tensors(16, **SMALL, **R) | {"synthesis.input.transform": torch.eye(3).repeat(2, 1, 1)}
    opts = {"dataset_type": "ffhq_encode", "input_nc": 6, "n_iters_per_batch": 3, "output_size": 16}
    opts |= {"encoder_type": "ProgressiveBackboneEncoder" if progressive else "BackboneEncoder"}
    opts |= {"stylegan_weights": Path("pretrained_models/sg3-r-ffhq-1024.pt"), "start_from_latent_avg": True}
    content = {"state_dict": state | {f"decoder.{k}": x for k, x in decoder.items()}, "opts": opts, "global_step": 7}
    return content | ({"latent_avg": decoder["mapping.w_avg"] + 1} if mean else {})


@torch.no_grad()
def test_encoders_of_stylegan3_editing(tmp_path):
    content = editing_checkpoint(progressive=True)
    torch.save(content, tmp_path / "restyle.pt")
    inverter = rl.load_inverter(tmp_path / "restyle.pt")
    G = inverter.G
    assert inverter.domain.name == "faces" and not inverter.one_pass and inverter.encoder.progressive
    assert torch.equal(G.w_avg, content["latent_avg"])
    x = torch.rand(1, 3, 256, 256) * 2 - 1
    result = inverter.invert(x, steps=2)
    w, y = G.w_avg.expand(1, 6, -1), F.adaptive_avg_pool2d(G.synthesize(G.w_avg[None]), 256)
    for step in (1, 2):  # the published loop: aligned images come back to the encoder, at its size
        w = w + inverter.encoder(torch.cat([x, y], 1))
        y = F.adaptive_avg_pool2d(G.synthesize(w), 256)
        assert torch.allclose(result.latents[:, step], w, atol=1e-4)
    decoder = {k.removeprefix("decoder."): v for k, v in content["state_dict"].items() if k.startswith("decoder.")}
    expected = published.synthesize(decoder, 16, w, **SMALL, **R)
    assert (result.final(G) - expected).abs().max() < 1e-3 * expected.abs().max()

    assert convert(tmp_path / "restyle.pt", tmp_path / "converted.safetensors") == "inverter"
    again = rl.load_inverter(tmp_path / "converted.safetensors")
    assert torch.equal(again.invert(x, steps=2).latents, result.latents)
    assert torch.equal(rl.load_generator(tmp_path / "converted.safetensors").w_avg, G.w_avg)


def test_the_generator_knows_the_mean_that_a_checkpoint_lacks(tmp_path, recwarn):
    content = editing_checkpoint(progressive=False, mean=False)
    torch.save(content | {"opts": argparse.Namespace(**content["opts"])}, tmp_path / "restyle.pt")
    inverter = rl.load_inverter(tmp_path / "restyle.pt")
    assert torch.equal(inverter.G.w_avg, content["state_dict"]["decoder.mapping.w_avg"])
    assert not inverter.encoder.progressive and inverter.from_mean
    assert not [w for w in recwarn if "estimated" in str(w.message)]


def test_networks_pickled_whole(tmp_path):
    content = editing_checkpoint(True)
    with made_up("inversion.models.e4e3.e4e") as (kind,):
        whole = as_modules(kind, content["state_dict"])
        whole.opts, whole.latent_avg = content["opts"], content["latent_avg"]
        torch.save(whole, tmp_path / "whole.pt")
    inverter = rl.load_inverter(tmp_path / "whole.pt")
    assert inverter.encoder.progressive and torch.equal(inverter.G.w_avg, content["latent_avg"])
    with pytest.raises(ValueError, match="of StyleGAN3, whose W has other directions than smile"):
        cli.edit([tmp_path], tmp_path, ["smile"], model=str(tmp_path / "whole.pt"))


def test_a_search_goes_on_from_the_code():
    G = stylegan3.from_nvidia(published.tensors(32, **SMALL, **R))
    z = torch.randn(1, 512, generator=torch.Generator().manual_seed(0))
    target, losses = G.synthesize(G.map(z)).detach().clamp(-1, 1), []
    rl.optimize(G, target, steps=20, callback=lambda t, w, y: losses.append((y - target).square().mean().item()))
    assert min(losses) < losses[0]


@pytest.mark.parametrize("angle", [0, 25])
def test_a_face_comes_back_to_its_place(angle, photograph):
    """The level square, against the aligned one drawn by the transform, which a generator takes."""
    tilted = photograph.rotate(angle, resample=3, center=(225, 120))
    level, transform = landmarks_transform(tilted, 256)
    aligned = rl.to_tensor(rl.align(tilted, 256))
    assert torch.allclose(transform[2], torch.tensor([0.0, 0, 1])) and transform[:2, 2].abs().max() < 1e-6
    assert torch.rad2deg(torch.atan2(transform[0, 1], transform[0, 0])).item() == pytest.approx(-angle, abs=6)
    drawn = F.grid_sample(
        aligned, F.affine_grid(transform[None, :2], aligned.shape, align_corners=False), align_corners=False
    )
    inside = slice(64, -64)
    difference = (drawn - rl.to_tensor(level))[..., inside, inside]
    assert difference.abs().mean() < 0.03


def test_transforms_between_squares(photograph):
    corners = np.array([(100, 50), (100, 150), (200, 150), (200, 50)], float)
    there = between(corners, corners + (25, 0))
    assert torch.allclose(there, torch.tensor([[1, 0, -0.25], [0, 1, 0], [0, 0, 1]]))
    assert torch.allclose(between(corners, 2 * corners)[:2, :2], torch.eye(2) / 2)
    assert cut_square(photograph, corners, 64).size == (64, 64)


def test_an_encoder_is_trained_through_it(tmp_path):
    """One batch of a dry run: what `restyle train --generator stylegan3.pkl --dry-run` makes of a published file."""
    write_ada_pickle(tmp_path / "network.pkl", published.tensors(32, **SMALL, **R), settings=SMALL | R)
    files = dry_run.with_stand_ins(Files(generator=tmp_path / "network.pkl"), domains.named("own"), tmp_path)
    override = {"batch": 1, "steps": 1, "lambda_moco": 0}
    job = full_size_job("restyle-psp", "own", override, files, 0, torch.device("cpu"))
    assert job.source.G.n_styles == 6
    found = dry_run.probe(job.settings, job.source, "loop", batches=2)
    assert found.batches == 2 and found.seconds_per_pass > 0
