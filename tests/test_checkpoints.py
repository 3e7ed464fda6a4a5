"""Official checkpoints open with one call and give the official result; hostile and broken files are refused."""

import argparse
import collections
import datetime
import io
import itertools
import json
import os
import pickle
import resource
import struct
import time
import zipfile
from pathlib import Path

import numpy as np
import per_sample
import pytest
import safetensors.torch
import stylegan3_published
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from official import (
    ada_tensors,
    as_modules,
    inputs,
    inverter_checkpoint,
    made_up,
    reference,
    small,
    state_dict,
    write_ada_pickle,
)

import restyle_lib as rl
from restyle_lib.checkpoints import generators as checkpoints
from restyle_lib.checkpoints import inert, state_dicts
from restyle_lib.checkpoints.generators import CheckpointError
from restyle_lib.generators import stylegan2, stylegan3
from restyle_lib.generators.frozen import double
from restyle_lib.images import downsample
from restyle_lib.inversion.inverter import Viewed, convert
from restyle_lib.inversion.refine import refine
from restyle_lib.making.stand_ins import generator_state, random_checkpoint
from restyle_lib.train import full_size_job
from restyle_lib.training.full_scale import Files


@pytest.mark.parametrize("name", ["psp_ffhq_16", "psp_church_64", "e4e_ffhq_64"])
def test_official_inverters_give_the_official_latents_and_images(name, tmp_path):
    checkpoint, expected, meta = inverter_checkpoint(name)
    torch.save(checkpoint, tmp_path / "official.pt")
    del checkpoint
    inverter = rl.load_inverter(tmp_path / "official.pt")
    x, share = inputs(meta["batch"], meta["seed"]), 1e-4 if name == "psp_church_64" else 1e-3
    result = inverter.invert(x, steps=5)
    assert (result.latents[:, 1:] - expected["latents"]).abs().max() < share * expected["latents"].std()
    for step in range(5):
        # each step of a random model multiplies what rounding did before it by about ten, so images are compared in
        # units of their own deviation, which is 17 at the last step of e4e_ffhq_64
        images = downsample(result.images[:, step + 1], inverter.G.resolution[0])  # the loop saw their pixels repeated
        images = images[..., :: meta["stride"], :: meta["stride"]]
        tolerance = share * max(expected["latents"].std(), expected["images"][:, step].std())
        assert (images - expected["images"][:, step]).abs().max() < tolerance

    # the converted file is the same inverter, to the bit
    assert convert(tmp_path / "official.pt", tmp_path / "converted.safetensors") == "inverter"
    again = rl.load_inverter(tmp_path / "converted.safetensors")
    assert again.domain == inverter.domain and again.one_pass == inverter.one_pass
    assert torch.equal(again.invert(x[:1], steps=2).latents, inverter.invert(x[:1], steps=2).latents)
    assert torch.equal(rl.load_generator(tmp_path / "converted.safetensors").constant, inverter.G.constant)
    del again

    # and one step at a time from the official codes, where nothing accumulates
    G = Viewed(inverter.G, inverter.input_size)
    for before, after in itertools.pairwise(expected["latents"].unbind(1)):
        with torch.no_grad():
            codes, _ = refine(inverter.encoder, G, x, before, G.synthesize(before), steps=1)
        assert (codes - after).abs().max() < 1e-4 * expected["latents"].std()


@pytest.mark.parametrize("size", [16, 64])
@torch.no_grad()
def test_rosinality_generators(size, tmp_path):
    expected, meta = reference(f"rosinality_{size}")
    keys = reference("psp_ffhq_16" if size == 16 else "e4e_ffhq_64")[1]["keys"]
    state = state_dict({key: shape for key, shape in keys.items() if key.startswith("decoder.")}, meta["seed"])
    state = {key.removeprefix("decoder."): tensor for key, tensor in state.items()}
    torch.save({"g_ema": state, "latent_avg": expected["latent_avg"].flatten()[:512]}, tmp_path / "g.pt")
    G = rl.load_generator(tmp_path / "g.pt")
    assert G.resolution == (size, size)
    close = lambda a, b: (a[..., :: meta["stride"], :: meta["stride"]] - b).abs().max() < 2e-4  # noqa: E731
    w = G.map(expected["z"])
    assert (w - expected["w"]).abs().max() < 1e-4
    assert close(G.synthesize(w), expected["img"])
    assert close(G.synthesize(expected["wplus"]), expected["img_wplus"])
    assert close(G.synthesize(G.map(expected["z"], psi=0.7)), expected["img_trunc07"])


@pytest.mark.parametrize(("size", "protocol"), [(16, 3), (64, 4)])
@torch.no_grad()
def test_nvidia_pickles_and_their_conversion(size, protocol, tmp_path):
    expected, meta = reference(f"ada_{size}")
    write_ada_pickle(tmp_path / "network.pkl", ada_tensors(meta), protocol)
    G = rl.load_generator(tmp_path / "network.pkl")
    assert convert(tmp_path / "network.pkl", tmp_path / "converted.safetensors") == "generator"
    with pytest.raises(ValueError, match="a generator alone"):
        convert(tmp_path / "network.pkl", tmp_path / "of-a-domain.safetensors", "cars")
    for model in (G, rl.load_generator(tmp_path / "converted.safetensors")):
        close = lambda a, b: (a[..., :: meta["stride"], :: meta["stride"]] - b).abs().max() < 2e-4  # noqa: E731
        w = model.map(expected["z"])
        assert (w - expected["ws"][:, 0]).abs().max() < 1e-4
        assert close(model.synthesize(w), expected["img"])
        assert close(model.synthesize(w, noise="none"), expected["img_nonoise"])
        assert close(model.synthesize(expected["wplus"]), expected["img_wplus"])
        assert close(model.synthesize(model.map(expected["z"], psi=0.7)), expected["img_trunc07"])


def test_half_precision_models_keep_their_clamp(tmp_path):
    _, meta = reference("ada_16")
    write_ada_pickle(tmp_path / "network.pkl", ada_tensors(meta), conv_clamp=256)
    assert rl.load_generator(tmp_path / "network.pkl").clamp == 256


def rosinality_16() -> dict[str, torch.Tensor]:
    keys = {k: s for k, s in reference("psp_ffhq_16")[1]["keys"].items() if k.startswith("decoder.")}
    return {key.removeprefix("decoder."): tensor for key, tensor in state_dict(keys, 1).items()}


def small_generator(kind: str) -> dict[str, torch.Tensor]:
    """The tensors of a generator of 16 px and few channels, as each of the three programs names them."""
    if kind == "stylegan3":
        return stylegan3_published.tensors(16, num_layers=4, channel_base=256, channel_max=8, w_dim=8)
    if kind == "ada":
        return small(ada_tensors(reference("ada_16")[1]))
    return small(generator_state(16, 2, torch.Generator().manual_seed(0)))


BUILT = {"rosinality": stylegan2.from_rosinality, "ada": stylegan2.from_ada, "stylegan3": stylegan3.from_nvidia}


@torch.no_grad()
def assert_opens(path: Path, kind: str, tensors: dict[str, torch.Tensor]) -> None:
    """The file is a generator that draws what that of these tensors does; a mean that is not there is estimated."""
    G, expected = rl.load_generator(path), BUILT[kind](tensors)
    codes = torch.randn(1, expected.n_styles, 8)
    assert torch.equal(G.synthesize(codes), expected.synthesize(codes))
    assert G.w_avg.abs().max() > 0


@pytest.mark.filterwarnings("ignore:.*stores no latent_avg")
@pytest.mark.parametrize("kind", BUILT)
@pytest.mark.parametrize("key", [None, *state_dicts.NAMES])
def test_tensors_under_any_customary_key(key, kind, tmp_path):
    """In the file itself, or as its entry, or with the key before their names; also of training on several GPUs."""
    tensors = small_generator(kind)
    prefixed = {f"{key or 'module'}.{name}": x for name, x in tensors.items()}
    for content in ({key: tensors} if key else tensors, prefixed, {"state_dict": prefixed}):
        assert_opens(_saved(tmp_path, content), kind, tensors)


@pytest.mark.filterwarnings("ignore:.*stores no latent_avg")
@pytest.mark.parametrize("kind", BUILT)
def test_tensors_in_other_files(kind, tmp_path):
    """Safetensors of other programs, in fp16 too, bare pickles, and what our own errors advise."""
    tensors = small_generator(kind)
    safetensors.torch.save_file({f"module.{name}": x for name, x in tensors.items()}, tmp_path / "theirs.safetensors")
    assert_opens(tmp_path / "theirs.safetensors", kind, tensors)
    for name in ("G_ema", "params_ema"):
        (tmp_path / "pickled.pkl").write_bytes(pickle.dumps({name: tensors}))
        assert_opens(tmp_path / "pickled.pkl", kind, tensors)
    if kind != "stylegan3":  # whose filters are compared with those of their design
        half = {name: x.half() for name, x in tensors.items()}
        safetensors.torch.save_file(half, tmp_path / "half.safetensors", {"format": "pt"})
        assert_opens(tmp_path / "half.safetensors", kind, {name: x.float() for name, x in half.items()})
    G = rl.load_generator(_saved(tmp_path, {"g_ema": tensors, "latent_avg": torch.full((8,), 0.5)}))
    assert (G.w_avg == 0.5).all() and "g_ema" in checkpoints.AS_TENSORS and "latent_avg" in checkpoints.AS_TENSORS


def test_of_several_generators_the_average_of_training_opens(tmp_path):
    tensors = small_generator("ada")
    other = {name: torch.zeros_like(x) for name, x in tensors.items()}
    for content in (
        {"G": other, "D": {}, "G_ema": tensors},
        {"generator": other, "ema": tensors},
        other | _under("ema"),
    ):
        assert_opens(_saved(tmp_path, content), "ada", tensors)


def _under(name: str) -> dict[str, torch.Tensor]:
    return {f"{name}.{key}": x for key, x in small_generator("ada").items()}


def published_ada(tensors: dict[str, torch.Tensor], codes: torch.Tensor, clamp: float | None) -> torch.Tensor:
    """StyleGAN2's synthesis from NVIDIA's tensors, as stylegan2-ada-pytorch defines it, in float64 and image by image.

    codes [B, k, w] -> [B, 3, s, s]
    """
    t, images = {name: x.double() for name, x in tensors.items()}, []
    row = torch.tensor([1.0, 3, 3, 1], dtype=torch.float64)
    blur = (torch.outer(row, row) / 16)[None, None]
    bounded = (lambda x: x) if clamp is None else (lambda x: x.clamp(-clamp, clamp))

    def enlarged(x):
        wide = torch.zeros(1, x.shape[1], 2 * x.shape[2], 2 * x.shape[3], dtype=x.dtype)
        wide[:, :, ::2, ::2] = x
        return F.conv2d(F.pad(wide, (2, 1, 2, 1)), blur.repeat(x.shape[1], 1, 1, 1), groups=x.shape[1])

    def style(name, w):
        weight = t[f"{name}.affine.weight"]
        return weight @ w / weight.shape[1] ** 0.5 + t[f"{name}.affine.bias"]

    def layer(name, x, w, up):
        kernel = t[f"{name}.weight"] * style(name, w)[None, :, None, None]
        kernel = kernel / (kernel.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        if up:  # zeros between the pixels, the kernel, the blur
            x = F.conv_transpose2d(x, kernel.transpose(0, 1), stride=2)
            x = F.conv2d(F.pad(x, (1, 1, 1, 1)), blur.repeat(len(kernel), 1, 1, 1), groups=len(kernel))
        else:
            x = F.conv2d(x, kernel, padding=1)
        if f"{name}.noise_const" in t:
            x = x + t[f"{name}.noise_const"] * t[f"{name}.noise_strength"]
        return bounded(F.leaky_relu(x + t[f"{name}.bias"][:, None, None], 0.2) * 2**0.5)

    for w in codes.double():
        x, image, size, slot = t["synthesis.b4.const"][None], 0, 4, 0
        while f"synthesis.b{size}.conv1.weight" in t:
            for name in ("conv0", "conv1") if size > 4 else ("conv1",):
                x, slot = layer(f"synthesis.b{size}.{name}", x, w[slot], up=name == "conv0"), slot + 1
            rgb = f"synthesis.b{size}.torgb"
            kernel = t[f"{rgb}.weight"] * (style(rgb, w[slot]) / x.shape[1] ** 0.5)[None, :, None, None]
            image = bounded(F.conv2d(x, kernel) + t[f"{rgb}.bias"][:, None, None]) + (
                enlarged(image) if slot > 1 else 0
            )
            size *= 2
        images.append(image)
    return torch.cat(images)


@pytest.mark.parametrize("clamp", [None, 0.5])
@pytest.mark.parametrize("noise", [True, False])
@torch.no_grad()
def test_nvidias_generators_of_few_channels(clamp, noise, tmp_path):
    """A channel base that is narrow throughout, with and without noise and clamp, against a formulation in float64."""
    tensors = {}
    for name, x in ada_tensors(reference("ada_16")[1]).items():
        place = int(name.split(".")[1][1:]) if name.startswith("synthesis.b") else 0
        own, before = {0: 512, 4: 24, 8: 12, 16: 6}[place], {0: 512, 4: 24, 8: 24, 16: 12}[place]
        c_in = before if ".conv0." in name else own
        if place and not name.endswith((".noise_const", ".noise_strength")):
            if ".affine." in name:
                x = x[:c_in]
            elif name.endswith(".weight"):
                x = x[: 3 if ".torgb." in name else own, :c_in]
            elif ".torgb." not in name:
                x = x[:own]
        if noise or ".noise" not in name:
            tensors[name] = x.clone().contiguous()
    write_ada_pickle(tmp_path / "narrow.pkl", tensors, conv_clamp=clamp)
    G = rl.load_generator(tmp_path / "narrow.pkl")
    codes = torch.randn(2, G.n_styles, 512)
    expected = published_ada(tensors, codes, clamp)
    assert (G.synthesize(codes) - expected).abs().max() < 1e-4 * expected.std()
    assert (per_sample.synthesize(G, codes) - expected).abs().max() < 1e-4 * expected.std()
    assert torch.equal(G.synthesize(codes, "none"), G.synthesize(codes)) != noise


def test_the_clamp_of_the_layers_counts(tmp_path):
    """Theirs is what NVIDIA's code uses; stylegan3's repository keeps it among the arguments of G itself."""
    tensors, path = small_generator("ada"), tmp_path / "network.pkl"
    for words, clamp in (
        ({"attributes": {"conv_clamp": 256}}, 256),
        ({"attributes": {"conv_clamp": 256}, "conv_clamp": 1}, 256),
        ({"attributes": {"conv_clamp": None}, "conv_clamp": 1}, None),
        ({"settings": {"conv_clamp": 256}}, 256),
        ({"conv_clamp": 256}, 256),
        ({}, None),
    ):
        write_ada_pickle(path, tensors, **words)
        assert rl.load_generator(path).clamp == clamp
    write_ada_pickle(path, tensors, tuned={}, attributes={"conv_clamp": 256})
    assert rl.load_generator(path).clamp == 256


@pytest.mark.parametrize("kind", ["ada", "stylegan3"])
def test_nvidias_generators_without_a_mean(kind, tmp_path):
    tensors = small_generator(kind)
    del tensors["mapping.w_avg"]
    write_ada_pickle(tmp_path / "network.pkl", tensors)
    with pytest.warns(UserWarning, match="estimated from 100,000 samples"):
        G = rl.load_generator(tmp_path / "network.pkl")
    with torch.no_grad():
        w = G.map(torch.randn(10_000, 8))
    assert ((w.mean(0) - G.w_avg).abs() < 6 * w.std(0) / 100).all()


@pytest.mark.parametrize("kind", ["ada", "rosinality"])
def test_images_of_one_channel_are_named(kind, tmp_path):
    rgb = "torgb.weight" if kind == "ada" else "to_rgb"
    cut = {"ada": lambda x: x[:1], "rosinality": lambda x: x[:, :1]}[kind]
    tensors = {
        name: cut(x).clone() if rgb in name and name.endswith(("conv.weight", "torgb.weight")) else x
        for name, x in small_generator(kind).items()
    }
    with pytest.raises(CheckpointError, match="its images have 1 channels, not 3") as caught:
        rl.load_generator(_saved(tmp_path, tensors))
    assert "\n" not in str(caught.value)


STRANGERS = {
    "hypernetwork": ({"hypernet.x.weight", "decoder.conv1.conv.weight", "encoder.conv1.weight"}, "a HyperStyle"),
    "encoder": ({"encoder.conv1.weight", "encoder.styles.0.linear.weight"}, "an encoder without its generator; save"),
    "of several GPUs": ({"module.encoder.conv1.weight"}, "an encoder without its generator"),
    "pSp's encoder": ({"input_layer.0.weight", "styles.0.linear.weight"}, "an encoder without its generator"),
    "W encoder": ({"input_layer.0.weight", "linear.weight"}, "an encoder without its generator"),
    "ir_se50": ({"input_layer.0.weight", "output_layer.3.weight"}, "a face recognition network .*--backbone"),
    "resnet34": ({"conv1.weight", "layer1.0.conv1.weight", "fc.weight"}, "a ResNet of torchvision's .*--backbone"),
    "moco": ({"module.encoder_q.conv1.weight"}, "a MoCo network, .*--moco"),
    "anything": ({"lstm.weight"}, "the entries"),
}


@pytest.mark.parametrize("key", [None, "state_dict", "model"])
@pytest.mark.parametrize("name", STRANGERS)
def test_other_networks_are_called_by_their_names(name, key, tmp_path):
    names, words = STRANGERS[name]
    tensors = {name: torch.zeros(1) for name in names}
    path = _saved(tmp_path, {key: tensors, "opts": {}} if key else tensors)
    for load in (rl.load_generator, rl.load_inverter):
        if name == "hypernetwork" and load is rl.load_generator:
            continue  # its generator opens
        with pytest.raises(CheckpointError, match=f"(no generator in it|not an inverter); it holds {words}") as caught:
            load(path)
        assert "\n" not in str(caught.value) and "refused" not in str(caught.value)


def test_the_generator_of_a_hypernetwork_opens(tmp_path):
    state = {f"decoder.{name}": x for name, x in small_generator("rosinality").items()}
    state["hypernet.refinement_blocks.0.weight"] = torch.zeros(1)
    opts = {"dataset_type": "ffhq_hypernet_encode", "output_size": 16}
    path = _saved(tmp_path, {"state_dict": state, "opts": opts, "latent_avg": torch.full((6, 8), 0.5)})
    assert (rl.load_generator(path).w_avg == 0.5).all()
    with pytest.raises(CheckpointError, match="not an inverter; it holds a HyperStyle hypernetwork"):
        rl.load_inverter(path)


def test_official_inverters_under_other_keys(tmp_path):
    """Of several GPUs, as "model", and as a bare state dict, which cannot say whether it is e4e's."""
    content = one_pass(start_from_latent_avg=True) | {"latent_avg": torch.full((6, 512), 0.25)}
    state, opts, x = content["state_dict"], content["opts"], torch.rand(1, 3, 256, 256) * 2 - 1
    expected = rl.load_inverter(_saved(tmp_path, content)).invert(x, 1).latents
    of_gpus = {f"module.{name}": value for name, value in state.items()}
    beside = {"opts": opts, "latent_avg": content["latent_avg"]}
    for other in ({"state_dict": of_gpus} | beside, {"model": state} | beside, of_gpus | beside):
        assert torch.equal(rl.load_inverter(_saved(tmp_path, other)).invert(x, 1).latents, expected)
    tensors = {name: value.clone().contiguous() for name, value in state.items()}
    safetensors.torch.save_file(tensors | {"latent_avg": content["latent_avg"]}, tmp_path / "theirs.safetensors")
    with pytest.warns(UserWarning, match="taken for pSp's"):
        inverter = rl.load_inverter(tmp_path / "theirs.safetensors")
    assert torch.equal(inverter.invert(x, 1).latents, expected) and inverter.domain.name == "own"


@pytest.mark.parametrize("kind", ["ada", "rosinality"])
def test_decoders_of_cars_keep_their_rows(kind, tmp_path):
    state = {f"decoder.{name}": x for name, x in small_generator(kind).items()}
    content = {"state_dict": state, "opts": {"dataset_type": "cars_encode"}, "latent_avg": torch.ones(8)}
    G = rl.load_generator(_saved(tmp_path, content))
    assert G.resolution == (12, 16) and (G.w_avg == 1).all()
    assert G.synthesize(torch.randn(1, 8)).shape == (1, 3, 12, 16)


def test_hyperstyles_w_encoder_adds_the_mean_whatever_its_options_say():
    content = {"state_dict": {}, "opts": {"encoder_type": "WEncoder", "start_from_latent_avg": False}}
    assert checkpoints.adds_mean(content)
    content["opts"]["encoder_type"] = "BackboneEncoderUsingLastLayerIntoW"
    assert not checkpoints.adds_mean(content)


def test_a_missing_mean_code_is_estimated_with_a_notice(tmp_path):
    torch.save({"g_ema": rosinality_16()}, tmp_path / "g.pt")
    with pytest.warns(UserWarning, match="estimated from 100,000 samples"):
        G = rl.load_generator(tmp_path / "g.pt")
    with torch.no_grad():
        w = G.map(torch.randn(4000, 512, generator=torch.Generator().manual_seed(1)))
    assert ((w.mean(0) - G.w_avg).abs() / (w.std(0) / 4000**0.5)).mean() < 1.5


def test_cars_are_cropped_to_their_proportions(tmp_path):
    G = rl.load_generator(_saved(tmp_path, {"g_ema": rosinality_16(), "latent_avg": torch.zeros(512)}))
    cropped = type(G)({4: 512, 8: 512, 16: 512}, crop=(2, 14))
    cropped.load_state_dict(G.state_dict())
    codes = torch.randn(1, 6, 512)
    with torch.no_grad():
        assert cropped.resolution == (12, 16)
        assert torch.allclose(cropped.synthesize(codes), G.synthesize(codes)[:, :, 2:14], atol=1e-4)


@pytest.mark.parametrize(("size", "multiplier", "mapping", "seed"), [(256, 2, 8, 1), (128, 1, 2, 2), (32, 2, 4, 3)])
@torch.no_grad()
def test_shared_kernels_give_what_a_kernel_per_image_gives(size, multiplier, mapping, seed, tmp_path):
    state = generator_state(size, mapping, torch.Generator().manual_seed(seed), multiplier)
    for name in [name for name in state if name.endswith((".noise.weight", "activate.bias"))]:
        state[name] = state[name] + 0.3  # strengths and biases that start at zero must count too
    G = rl.load_generator(_saved(tmp_path, {"g_ema": state, "latent_avg": torch.zeros(512)}))
    assert G.resolution == (size, size) and len(G.mapping.weight) == mapping
    codes = G.map(torch.randn(2, 512))[:, None] + 0.3 * torch.randn(2, G.n_styles, 512)
    usual = per_sample.synthesize(G, codes)
    assert (G.synthesize(codes) - usual).abs().max() < 1e-4 * usual.std()


@given(st.integers(1, 9), st.integers(1, 9), st.integers(1, 3), st.integers(0, 2**31))
@settings(max_examples=20, deadline=None)
def test_four_convolutions_are_one_transposed_convolution(height, width, batch, seed):
    rng = torch.Generator().manual_seed(seed)
    x, weight = torch.randn(batch, 5, height, width, generator=rng), torch.randn(7, 5, 3, 3, generator=rng)
    expected = torch.nn.functional.conv_transpose2d(x, weight.transpose(0, 1), stride=2)
    assert torch.allclose(double(x, weight), expected, atol=1e-4)


def test_cars_at_full_size(tmp_path):
    inverter = rl.load_inverter(_saved(tmp_path, random_checkpoint("cars", mapping=1)))
    assert inverter.G.resolution == (384, 512) and inverter.input_size == (192, 256)
    result = inverter.invert(torch.zeros(1, 3, 384, 512), steps=1)
    assert result.images.shape == (1, 2, 3, 192, 256) and result.latents.shape == (1, 2, 16, 512)
    assert result.latents.isfinite().all() and result.images.isfinite().all()


@pytest.mark.parametrize("noise", ["none", "fixed", "random"])
@torch.no_grad()
def test_noise(noise, tmp_path):
    state = rosinality_16()
    G = rl.load_generator(_saved(tmp_path, {"g_ema": state, "latent_avg": torch.zeros(512)}))
    codes = torch.randn(1, 6, 512)
    once, twice = G.synthesize(codes, noise), G.synthesize(codes, noise)
    assert torch.equal(once, twice) == (noise != "random")
    assert (G.synthesize(codes, "none") - once).abs().max() > 0 or noise == "none"


def _saved(folder, content):
    torch.save(content, folder / "file.pt")
    return folder / "file.pt"


class Evil:
    """Pickles to a call of os.system that would leave a file behind."""

    def __init__(self, path):
        self.command = f"touch {path}"

    def __reduce__(self):
        return os.system, (self.command,)


class Evaluates(Evil):
    def __reduce__(self):
        return eval, (f"__import__('os').system({self.command!r})",)


class StorageFromBytes:
    """Pickles to a tensor's storage that is read from other bytes."""

    def __init__(self, data):
        self.data = data

    def __reduce__(self):
        return torch.storage._load_from_bytes, (self.data,)


def modules_within_modules(levels: int) -> bytes:
    """A small pickle of modules that each hold the next three times: 3 ** levels in all, if one counts."""
    module = torch.nn.Sequential()
    for _ in range(levels):
        outer = torch.nn.Sequential()
        outer._modules.update(a=module, b=module, c=module)
        module = outer
    return pickle.dumps({"G_ema": module}, protocol=3)


def hostile(folder) -> dict[str, bytes]:
    """Files that are broken or that mean harm, by name."""
    trace = folder / "executed"
    good, bomb, other, claim = io.BytesIO(), io.BytesIO(), io.BytesIO(), io.BytesIO()
    torch.save({"g_ema": rosinality_16(), "latent_avg": torch.zeros(512)}, good)
    evil = io.BytesIO()
    torch.save({"g_ema": Evil(trace)}, evil)
    legacy = io.BytesIO()
    torch.save({"state_dict": Evaluates(trace)}, legacy, _use_new_zipfile_serialization=False)
    with zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 50_000_000)
    with zipfile.ZipFile(other, "w") as archive:
        archive.writestr("holiday.txt", "not a checkpoint")
    torch.save({"g_ema": {"a": torch.zeros(1).expand(10**12)}}, claim)
    state = rosinality_16()
    fewer = {key: tensor for key, tensor in state.items() if "convs.1.conv.weight" not in key}
    wrong = state | {"convs.0.conv.weight": torch.zeros(1, 512, 99, 3, 3)}
    return {
        "empty.pt": b"",
        "page.pt": b"<!DOCTYPE html><html><body>Quota exceeded</body></html>",
        "text.pt": b"this is not a checkpoint, whatever its name says " * 10,
        "truncated.pt": good.getvalue()[: len(good.getvalue()) // 2],
        "system.pt": evil.getvalue(),
        "legacy-eval.pt": legacy.getvalue(),
        "system.pkl": pickle.dumps({"G_ema": Evil(trace)}),
        "nested-eval.pkl": pickle.dumps({"G_ema": [{"a": (Evaluates(trace),)}]}),
        "getattr.pkl": b"\x80\x04cbuiltins\ngetattr\n.",
        "global.pkl": b"\x80\x04csubprocess\nPopen\n.",
        "stack-global.pkl": b"\x80\x04\x8c\x02os\x8c\x06system\x93.",
        "persistent.pkl": b"\x80\x04Pwhatever\n.",
        "memo.pkl": b"\x80\x04]r" + struct.pack("<I", 2**31 - 1) + b".",
        "recursive.pkl": b"\x80\x04]q\x00h\x00a.",
        "claims.pkl": b"\x80\x04\x8e" + struct.pack("<Q", 10**11) + b"abc.",
        "truncated.pkl": pickle.dumps({"G_ema": list(range(1000))})[:500],
        "plain.pkl": pickle.dumps({"weights": [1, 2, 3]}),
        "bomb.pt": bomb.getvalue(),
        "archive.pt": other.getvalue(),
        "expanded.pt": claim.getvalue(),
        "header.safetensors": struct.pack("<Q", 10**9) + b'{"a": 1}',
        "damaged.safetensors": struct.pack("<Q", 40) + b'{"a": {"dtype": "F32", "shape": [1], "d' + b"x" * 60,
        "bad-settings.safetensors": _safetensors({"format": "restyle-companion stylegan2 1", "geometry": "{oops"}),
        "huge-settings.safetensors": _safetensors(
            {
                "format": "restyle-companion stylegan2 1",
                "geometry": '{"channels": {"4": 100000000}, "layers": 8, "latent": 512, "crop": null, "clamp": null}',
            }
        ),
        "unbounded.safetensors": _safetensors(
            {
                "format": "restyle-companion stylegan2 1",
                "geometry": '{"channels": {"4": 20000}, "layers": 8, "latent": 512, "crop": null, "clamp": null}',
            }
        ),
        "list-of-weights.pt": _bytes({"g_ema": [1, 2]}),
        "list-of-options.pt": _bytes({"state_dict": {"decoder.conv1.conv.weight": torch.zeros(1)}, "opts": [1]}),
        "shared-modules.pkl": modules_within_modules(levels=16),
        "archive-in-pickle.pkl": pickle.dumps({"G_ema": StorageFromBytes(good.getvalue())}, protocol=3),
        "missing-keys.pt": _bytes({"g_ema": fewer}),
        "wrong-shapes.pt": _bytes({"g_ema": wrong}),
        "wrong-size.pt": _bytes(
            {"state_dict": {f"decoder.{key}": tensor for key, tensor in state.items()}, "opts": {"output_size": 1024}}
        ),
        "a-list.pt": _bytes([1, 2, 3]),
    }


def _safetensors(metadata: dict[str, str]) -> bytes:
    return safetensors.torch.save({"a": torch.zeros(1)}, metadata)


def _bytes(content) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


@pytest.fixture(scope="module")
def hostile_files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    for name, data in hostile(folder).items():
        (folder / name).write_bytes(data)
    return folder


SAYS = {
    "empty.pt": "empty",
    "page.pt": "web page",
    "text.pt": "not a checkpoint of any known format",
    "truncated.pt": "truncated",
    "system.pt": "refused",
    "legacy-eval.pt": "refused",
    "system.pkl": r"refused.*(posix|os)\.system",
    "nested-eval.pkl": r"refused.*builtins\.eval",
    "getattr.pkl": r"refused.*builtins\.getattr",
    "global.pkl": r"refused.*subprocess\.Popen",
    "stack-global.pkl": r"refused.*os\.system",
    "persistent.pkl": "refused.*outside the file",
    "memo.pkl": "a pickled object .list., not a network",
    "recursive.pkl": "a pickled object .list., not a network",
    "claims.pkl": "truncated",
    "truncated.pkl": "truncated",
    "plain.pkl": "holds the entries weights",
    "bomb.pt": ": a compressed archive.*unpack it",
    "archive.pt": "not a checkpoint",
    "expanded.pt": "larger than its data",
    "header.safetensors": "not a checkpoint|damaged",
    "damaged.safetensors": "damaged",
    "bad-settings.safetensors": "fit no known network",
    "huge-settings.safetensors": "fit no known network",
    "unbounded.safetensors": "fit no known network .larger than any StyleGAN2",
    "list-of-weights.pt": "holds the entries g_ema",
    "list-of-options.pt": "fit no known network",
    "shared-modules.pkl": "contain one another",
    "archive-in-pickle.pkl": "not made of plain bytes",
    "missing-keys.pt": "fit no known network",
    "wrong-shapes.pt": "fit no known network",
    "wrong-size.pt": "says 1024 px, but its generator makes 16 px",
    "a-list.pt": "holds a list",
}


def test_other_numbers_of_channels_are_refused(tmp_path):
    content = random_checkpoint("church", size=16, mapping=1)
    content["state_dict"]["encoder.conv1.weight"] = torch.zeros(64, 19, 7, 7)  # pSp's segmentation maps
    with pytest.raises(CheckpointError, match="19 input channels"):
        rl.load_inverter(_saved(tmp_path, content))


def test_options_may_be_a_namespace_and_cars_of_any_size_are_cropped(tmp_path):
    content = random_checkpoint("cars", size=16, mapping=1)
    content["opts"] = argparse.Namespace(**content["opts"])
    inverter = rl.load_inverter(_saved(tmp_path, content))
    assert inverter.domain.name == "cars" and inverter.G.resolution == (12, 16)
    assert inverter.invert(torch.zeros(1, 3, 12, 16), steps=1).final(inverter.G).shape == (1, 3, 12, 16)


def one_pass(**opts) -> dict:
    """A pSp checkpoint of 16 px with random weights, without latent_avg; opts replace options, None removes one."""
    content = random_checkpoint("church", size=16, mapping=1)
    del content["latent_avg"]
    content["state_dict"]["encoder.conv1.weight"] = content["state_dict"]["encoder.conv1.weight"][:, :3].clone()
    for name, value in ({"input_nc": 3} | opts).items():
        content["opts"].pop(name, None)
        content["opts"] |= {} if value is None else {name: value}
    return content


def test_an_encoder_of_whole_codes_is_not_given_the_mean(tmp_path, recwarn):
    """Trained without start_from_latent_avg: the code is E(x), nothing is estimated that matters, and it converts."""
    path = _saved(tmp_path, one_pass(start_from_latent_avg=False))
    inverter = rl.load_inverter(path)
    assert not inverter.from_mean and not [w for w in recwarn if "latent_avg" in str(w.message)]
    x = torch.rand(2, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        expected = inverter.encoder(x)
    assert inverter.G.w_avg.abs().max() > 0.01, "an estimate, which is not to be added"
    assert torch.equal(inverter.invert(x, 2).latents[:, 1:], expected[:, None].expand(-1, 2, -1, -1))
    convert(path, tmp_path / "converted.safetensors")
    again = rl.load_inverter(tmp_path / "converted.safetensors")
    assert torch.equal(again.invert(x, 1).latents, inverter.invert(x, 1).latents)


@pytest.mark.parametrize("stored", [True, False])
def test_the_option_decides_and_without_it_what_is_stored(stored, tmp_path):
    mean = {"latent_avg": torch.ones(512)} if stored else {}
    for option, added in ((True, True), (False, False), (None, stored)):
        content = one_pass(start_from_latent_avg=option) | mean
        assert checkpoints.adds_mean(content) == added
    loop = random_checkpoint("church", size=16, mapping=1)
    loop["opts"]["start_from_latent_avg"] = False
    assert checkpoints.adds_mean(loop), "ReStyle does not ask"


def test_an_own_domain_under_the_default_name(tmp_path):
    """`dataset_type` is ffhq_encode unless set; the caller's word counts more, and stays in a converted file."""
    content = random_checkpoint("church", size=16, mapping=1)
    content["opts"]["dataset_type"] = "ffhq_encode"
    path = _saved(tmp_path, content)
    assert rl.load_inverter(path).domain.name == "faces"
    inverter = rl.load_inverter(path, domain="own", input_size=(192, 256))
    assert inverter.domain.name == "own" and not inverter.domain.faces
    assert inverter.input_size == inverter.domain.input_size == (192, 256)
    assert rl.load_inverter(path, domain="cars").G.resolution == (12, 16)
    convert(path, tmp_path / "own.safetensors", "own", (192, 256))
    again = rl.load_inverter(tmp_path / "own.safetensors")
    assert again.domain == inverter.domain
    assert rl.load_inverter(tmp_path / "own.safetensors", domain="church").input_size == (256, 256)


def test_styles_that_no_encoder_finds_are_one_line(tmp_path):
    """A generator of 256-dimensional styles opens; where an encoder is needed, its dimensions are said at once."""
    state = {}
    for name, x in generator_state(16, 2, torch.Generator().manual_seed(0)).items():
        x = x[:256, :256] if name.startswith("style.") and x.ndim == 2 else x[:256] if name.startswith("style.") else x
        state[name] = x[:, :256].clone() if name.endswith("modulation.weight") else x.clone()
    path = _saved(tmp_path, {"g_ema": state, "latent_avg": torch.zeros(256)})
    G = rl.load_generator(path)
    with torch.no_grad():
        assert G.synthesize(G.map(torch.randn(1, 256))).shape == (1, 3, 16, 16)
    message = "styles have 256 dimensions, those of all encoders 512"
    with pytest.raises(ValueError, match=f"file.pt: .*{message}"):
        full_size_job("restyle-psp", "own", {"lambda_moco": 0}, Files(path, tmp_path), 0, torch.device("cpu"))
    content = random_checkpoint("church", size=16, mapping=1) | {"latent_avg": torch.zeros(256)}
    parts = {k: x for k, x in content["state_dict"].items() if k.startswith("encoder.")}
    content["state_dict"] = parts | {f"decoder.{k}": x for k, x in state.items()}
    with pytest.raises(CheckpointError, match=message):
        rl.load_inverter(_saved(tmp_path, content))


@pytest.mark.parametrize("length", [0x180, 0x4B50])
def test_safetensors_whose_header_is_as_long_as_a_pickle_or_archive_begins(length, tmp_path):
    """The first bytes are a length: one file in 32 begins with that of a pickle."""
    G = rl.load_generator(_saved(tmp_path, {"g_ema": rosinality_16(), "latent_avg": torch.zeros(512)}))
    metadata = {"format": checkpoints.FORMATS[type(G)], "geometry": json.dumps(stylegan2.geometry(G)), "padding": ""}
    tensors = {name: value.contiguous() for name, value in G.state_dict().items()}

    def begun(padding: int) -> bytes:
        return safetensors.torch.save(tensors, metadata | {"padding": " " * padding})

    shortest = struct.unpack("<Q", begun(0)[:8])[0]
    content = begun((length - shortest) % 0x10000 if length > 0x1000 else (length - shortest) % 256)
    assert content.startswith(b"PK" if length > 0x1000 else b"\x80")
    (tmp_path / "begun.safetensors").write_bytes(content)
    assert rl.load_generator(tmp_path / "begun.safetensors").n_styles == G.n_styles


def test_paths_of_any_length(tmp_path):
    folder = tmp_path
    for _ in range(6):
        folder = folder / ("d" * 60)
    folder.mkdir(parents=True)
    path = folder / ("n" * 240 + ".pt")
    torch.save(random_checkpoint("church", size=16, mapping=1), path)
    assert rl.load_inverter(path).G.n_styles == rl.load_inverter(str(path)).G.n_styles == 6
    assert rl.load_generator(path).n_styles == 6
    assert convert(path, folder / ("c" * 240 + ".safetensors")) == "inverter"


OLD = {"_use_new_zipfile_serialization": False}


@pytest.mark.parametrize("options", [{}, OLD, {"pickle_protocol": 4}])
@torch.no_grad()
def test_generators_that_pivotal_tuning_pickled_whole(options, tmp_path):
    """torch.save(G): NVIDIA's persistent class, whose code is not here and is not run."""
    expected, meta = reference("ada_16")
    write_ada_pickle(tmp_path / "model_person.pt", ada_tensors(meta), tuned=options, conv_clamp=256)
    G = rl.load_generator(tmp_path / "model_person.pt")
    assert G.clamp == 256
    G.clamp = None
    assert (G.synthesize(expected["wplus"]) - expected["img_wplus"]).abs().max() < 2e-4


@pytest.mark.parametrize("options", [{}, OLD])
@torch.no_grad()
def test_networks_pickled_whole_are_their_tensors(options, tmp_path):
    """rosinality's generator, alone, in a dictionary, of several GPUs; and a whole pSp with its options."""
    state, mean, codes = rosinality_16(), torch.full((512,), 0.1), torch.randn(1, 6, 512)
    plain = rl.load_generator(_saved(tmp_path, {"g_ema": state, "latent_avg": mean}))
    path = tmp_path / "pickled.pt"
    with made_up("models.stylegan2.model.Generator", "models.psp.pSp", "torch_extra.Parallel") as (kind, net, parallel):
        G = as_modules(kind, state)
        for content in (
            G,
            {"g_ema": G, "latent_avg": mean},
            as_modules(parallel, {f"module.{k}": x for k, x in state.items()}),
        ):
            torch.save(content, path, **options)
            opened = rl.load_generator(path)
            assert torch.equal(opened.synthesize(codes), plain.synthesize(codes))
            assert torch.equal(opened.w_avg, plain.w_avg) or not isinstance(content, dict)
        inverter = one_pass(start_from_latent_avg=True)
        whole = as_modules(net, inverter["state_dict"])
        whole.opts, whole.latent_avg = argparse.Namespace(**inverter["opts"]), mean.repeat(6, 1)
        torch.save(whole, path, **options)
    opened = rl.load_inverter(path)
    assert opened.from_mean and opened.domain.name == "church" and torch.equal(opened.G.w_avg, mean)


def test_pickled_objects_without_a_network_say_how_to_save_tensors(tmp_path):
    with made_up("somewhere.Trainer", "somewhere.G") as (trainer, kind):
        torch.save(trainer.__new__(trainer), tmp_path / "trainer.pt")
        torch.save(as_modules(kind, {"a.weight": torch.zeros(3)}), tmp_path / "other.pt")
    for name, words in {
        "trainer.pt": "somewhere.Trainer.*save its tensors",
        "other.pt": "somewhere.G, but no StyleGAN2 or 3",
    }.items():
        with pytest.raises(CheckpointError, match=words) as caught:
            rl.load_generator(tmp_path / name)
        assert "refused" not in str(caught.value) and "\n" not in str(caught.value)


def conditional(tensors: dict, classes: int = 3) -> dict:
    """The tensors of a generator of several classes: an embedding, and a first layer that reads it too."""
    rng = torch.Generator().manual_seed(0)
    more = {"mapping.embed.weight": torch.randn(512, classes, generator=rng), "mapping.embed.bias": torch.ones(512)}
    first = torch.cat([tensors["mapping.fc0.weight"], 100 * torch.randn(512, 512, generator=rng)], 1)
    return tensors | more | {"mapping.fc0.weight": first}


@torch.no_grad()
def test_a_generator_of_several_classes(tmp_path):
    """Its images are those of its codes; what it samples, under a notice, is of the first class."""
    expected, meta = reference("ada_16")
    tensors = conditional(ada_tensors(meta))
    write_ada_pickle(tmp_path / "classes.pkl", tensors)
    with pytest.warns(UserWarning, match="of 3 classes"):
        G = rl.load_generator(tmp_path / "classes.pkl")
    assert (G.synthesize(expected["wplus"]) - expected["img_wplus"]).abs().max() < 2e-4
    assert torch.equal(G.w_avg, tensors["mapping.w_avg"])
    norm = lambda x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-8)  # noqa: E731
    z = torch.randn(4, 512)
    label = torch.tensor([[1.0, 0, 0]]) @ tensors["mapping.embed.weight"].T / 3**0.5 + tensors["mapping.embed.bias"]
    x = torch.cat([norm(z), norm(label).expand(4, -1)], 1)  # as the published code computes it
    for i in range(len(G.mapping.weight)):
        weight = tensors[f"mapping.fc{i}.weight"]
        x = x @ weight.T * 0.01 / weight.shape[1] ** 0.5 + 0.01 * tensors[f"mapping.fc{i}.bias"]
        x = torch.nn.functional.leaky_relu(x, 0.2) * 2**0.5
    assert (G.map(z) - x).abs().max() < 1e-4


def test_other_networks_of_nvidias_are_called_by_their_names(tmp_path):
    tensors = ada_tensors(reference("ada_16")[1])
    write_ada_pickle(tmp_path / "narrow.pkl", tensors | {"mapping.fc0.weight": torch.zeros(512, 64)})
    write_ada_pickle(tmp_path / "orig.pkl", {k: x for k, x in tensors.items() if ".b4.torgb" not in k})
    write_ada_pickle(tmp_path / "else.pkl", {"triplane.weight": torch.zeros(1)})
    with made_up("dnnlib.tflib.network.Network") as (kind,):
        (tmp_path / "tensorflow.pkl").write_bytes(pickle.dumps((kind(), kind(), kind()), protocol=4))
    says = {"narrow": "z has 64 dimensions, styles 512", "orig": "architecture"}
    says |= {
        "else": "a network Generator, but no StyleGAN2 or 3",
        "tensorflow": "NVIDIA's TensorFlow code; open what legacy.py",
    }
    for name, words in says.items():
        with pytest.raises(CheckpointError, match=words) as caught:
            rl.load_generator(tmp_path / f"{name}.pkl")
        assert "refused" not in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("start", [True, False])
def test_encoders_into_w(start, tmp_path):
    """pSp's and e4e's: one style for all slots, linear in the mean over the last map."""
    content = random_checkpoint("faces", size=16, mapping=1)
    state = {k: x for k, x in content["state_dict"].items() if ".styles." not in k}
    state["encoder.input_layer.0.weight"] = state["encoder.input_layer.0.weight"][:, :3].clone()
    state |= {"encoder.linear.weight": torch.randn(512, 512), "encoder.linear.bias": torch.randn(512)}
    content["state_dict"], content["latent_avg"] = state, torch.full((6, 512), 0.3)
    content["opts"] |= {"encoder_type": "BackboneEncoderUsingLastLayerIntoW", "start_from_latent_avg": start}
    inverter = rl.load_inverter(_saved(tmp_path, content))
    x = torch.rand(2, 3, 256, 256) * 2 - 1
    with torch.no_grad():
        pooled = inverter.encoder.backbone.maps(x)[-1].mean((2, 3))
    expected = pooled @ state["encoder.linear.weight"].T / 512**0.5 + state["encoder.linear.bias"] + 0.3 * start
    found = inverter.invert(x, 1).latents[:, 1]
    assert found.shape == (2, 6, 512) and torch.allclose(found, expected[:, None].expand(-1, 6, -1), atol=1e-4)
    convert(tmp_path / "file.pt", tmp_path / "w.safetensors")
    assert torch.equal(rl.load_inverter(tmp_path / "w.safetensors").invert(x, 1).latents[:, 1], found)
    state["encoder.output_layer_2.0.weight"] = torch.ones(512)
    with pytest.raises(CheckpointError, match="from the last layer into W\\+ .BackboneEncoderUsing.*not supported"):
        rl.load_inverter(_saved(tmp_path, content))


class Marker:
    """An object of a script of ours, such as options that are a class."""


@pytest.mark.parametrize("options", [{}, OLD])
def test_plain_data_beside_the_tensors_is_harmless(options, tmp_path):
    """Paths, numbers and arrays of NumPy, dates and classes of the training script, in the options or beside them."""
    content = random_checkpoint("church", size=16, mapping=1)
    content["opts"] |= {"exp_dir": Path("/home/me/run"), "lr": np.float64(1e-4), "batch": np.int64(8)}
    content["opts"] |= {"begun": datetime.datetime(2024, 5, 1), "marker": Marker(), "names": {"a", "b"}}
    content["opts"]["output_size"] = np.int32(16)
    content |= {"latent_avg": content["latent_avg"].numpy() + 0.5, "best": collections.defaultdict(list, a=[1])}
    torch.save(content, tmp_path / "rich.pt", **options)
    inverter = rl.load_inverter(tmp_path / "rich.pt")
    assert inverter.domain.name == "church" and (inverter.G.w_avg == 0.5).all()
    opts = checkpoints.read(tmp_path / "rich.pt")[1]["opts"]
    assert opts["exp_dir"] == "/home/me/run" and opts["lr"] == 1e-4 and opts["batch"] == 8
    content["opts"] = argparse.Namespace(**content["opts"])
    torch.save(content, tmp_path / "rich.pt", **options)
    assert rl.load_inverter(tmp_path / "rich.pt").domain.name == "church"


def test_tensors_stay_within_their_storages():
    storage = torch.zeros(10).storage()
    assert (
        inert._tensor(storage, 2, (2, 3), (3, 1)).shape == (2, 3) and inert._tensor(storage, 0, (0,), (1,)).numel() == 0
    )
    for wrong in ((0, (10**12,), (1,)), (5, (6,), (1,)), (-1, (2,), (1,)), (0, (10**12,), (0,)), (0, (2, 2), (9, 1))):
        with pytest.raises(inert.UnsafePickle, match="larger than its data"):
            inert._tensor(storage, *wrong)


def test_stand_ins_change_nothing_of_this_program(tmp_path):
    """A pickle may set attributes of what it names: of a stand-in only."""
    for name in ("torch._utils\n_rebuild_tensor_v2", "dnnlib.util\nEasyDict", "argparse\nNamespace"):
        (tmp_path / "sets.pkl").write_bytes(b"\x80\x02c" + name.encode() + b"\nN}X\x05\x00\x00\x00mineqK\x01s\x86b.")
        with pytest.raises(CheckpointError):
            rl.load_generator(tmp_path / "sets.pkl")
        with pytest.raises(inert.UnsafePickle, match="changes what it did not make"):
            inert.load(io.BytesIO(b"\x80\x02c" + name.encode() + b"\nN}\x86b."))


@pytest.mark.parametrize("name", SAYS)
def test_bad_files_end_in_one_clear_error(hostile_files, name):
    path = hostile_files / name
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(CheckpointError, match=SAYS[name]) as caught:
        rl.load_generator(path)
    assert name in str(caught.value) and "\n" not in str(caught.value)
    assert time.monotonic() - start < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # kilobytes: less than 1 GB more
    assert not (hostile_files / "executed").exists()
    with pytest.raises(CheckpointError):
        rl.load_inverter(path)
    assert not (hostile_files / "executed").exists()


def test_every_bad_file_is_tested(hostile_files):
    assert {path.name for path in hostile_files.iterdir()} == set(SAYS) and len(SAYS) >= 12
