"""The encoders at the paper's size: shapes, how one begins as another, what they are told, and OpenVINO's."""

import pytest
import torch

import restyle_lib as rl
from restyle_lib import compilation, encoders
from restyle_lib.faces.identity import MAP_CHANNELS, MAP_STRIDES, recognise_in_place
from restyle_lib.making.stand_ins import random_checkpoint

DESIGNS = ("simplified-256", "pyramid-256")


def trained(design: str, in_channels: int) -> torch.nn.Module:
    """An encoder whose heads say something."""
    torch.manual_seed(0)
    encoder = encoders.build(in_channels, 16, design).eval()
    for name, p in encoder.named_parameters():
        if "out.weight" in name:
            torch.nn.init.normal_(p, std=0.05)
    return encoder


@pytest.fixture(scope="module")
def images():
    return torch.rand(2, 6, 256, 256, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("design", DESIGNS)
@torch.no_grad()
def test_training_starts_from_no_change(design, images):
    encoder = encoders.build(6, 16, design)
    assert encoder(images).shape == (2, 16, 512) and not encoder(images).any()
    assert 6e6 < sum(p.numel() for p in encoder.parameters()) < 12e6


@pytest.mark.parametrize(("design", "progressive"), [("simplified-256", False), ("simplified-256", True)])
@torch.no_grad()
def test_one_begins_as_another(design, progressive, images):
    start = trained("simplified-256", 6)
    encoder = encoders.build(6, 16, design, progressive).eval()
    encoder.begin_as(start)
    expected = start(images)
    if progressive:  # the first head speaks for all
        expected = expected[:, :1].expand(-1, 16, -1)
    assert torch.allclose(encoder(images), expected, atol=1e-5)


@torch.no_grad()
def test_a_pyramid_begins_as_a_simplified_encoder(images):
    """Its coarse heads say the same; the finer ones see the same map, enlarged."""
    start = trained("simplified-256", 6)
    encoder = encoders.build(6, 16, "pyramid-256").eval()
    encoder.begin_as(start)
    found, expected = encoder(images), start(images)
    assert torch.allclose(found[:, :3], expected[:, :3], atol=1e-5)
    assert (found - expected).square().mean() < 0.1 * expected.var()


@torch.no_grad()
def test_a_one_pass_encoder_takes_what_sees_the_image(images):
    """Where the weights of the reconstruction are zero, nothing else is lost."""
    start = trained("simplified-256", 6)
    start.body.stem.weight[:, 48:] = 0
    for face, channels in zip(start.body.face, MAP_CHANNELS, strict=True):
        face.weight[:, channels:] = 0
    start.heads.person.weight[:, 128:] = 0
    encoder = encoders.build(3, 16, "simplified-256").eval()
    encoder.begin_as(start)
    assert torch.allclose(encoder(images[:, :3]), start(images), atol=1e-5)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="another design"):
        encoders.build(6, 16, "simplified-256").begin_as(encoders.build(6, 16, "pyramid-256"))
    with pytest.raises(ValueError, match="5 channels"):
        encoders.build(5, 16, "simplified-256")


@torch.no_grad()
def test_maps_of_the_face_lie_where_the_face_is(images):
    embeddings, maps = recognise_in_place(images[:, :3])
    assert embeddings.shape == (2, 128)
    for each, channels, stride in zip(maps, MAP_CHANNELS, MAP_STRIDES, strict=True):
        size = 256 // stride
        assert each.shape == (2, channels, size, size)
        assert not each[:, :, : size // 4].any() and not each[:, :, :, : size // 8].any()
        assert each[:, :, size // 2, size // 2].any()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """A small generator in the official format, with an encoder of the official size."""
    path = tmp_path_factory.mktemp("official") / "tiny.pt"
    torch.save(random_checkpoint("church", size=16, mapping=1), path)
    return rl.load_inverter(path, domain="own", input_size=(64, 64))


def test_openvino_finds_what_pytorch_finds(official):
    x = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    fast = rl.compiled(official)
    for images in (x, x[:1]):
        found, expected = fast.invert(images, 2), official.invert(images, 2)
        torch.testing.assert_close(found.latents, expected.latents, atol=1e-4, rtol=1e-3)
        torch.testing.assert_close(found.images, expected.images, atol=1e-4, rtol=1e-3)
    assert fast.steps_taken(5) == official.steps_taken(5) and not fast.one_pass


def test_a_compiled_generator_is_the_generator(official):
    G, fast = official.G, rl.compiled(official).G
    codes = G.map(torch.randn(2, 512, generator=torch.Generator().manual_seed(0)))
    assert torch.equal(fast.map(codes), G.map(codes)) and torch.equal(fast.w_avg, G.w_avg)
    torch.testing.assert_close(fast.synthesize(codes), G.synthesize(codes), atol=1e-4, rtol=1e-3)
    assert torch.equal(fast.synthesize(codes, "none"), G.synthesize(codes, "none"))
    sought = codes.clone().requires_grad_()
    assert torch.equal(fast.synthesize(sought), G.synthesize(sought))
    fast.synthesize(sought).square().mean().backward()  # so that a search goes through it
    assert sought.grad.any()
    with pytest.raises(ValueError, match=r"codes must be \[B, 512\] or"):
        fast.synthesize(codes[:, :8])


def test_what_cannot_be_compiled_is_named(official, monkeypatch):
    with pytest.raises(ValueError, match="SimplifiedEncoder is not compiled: only the encoders of official"):
        rl.compiled(rl.load_inverter("faces/restyle-psp"))
    monkeypatch.setattr(compilation, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="pip install"):
        rl.compiled(official)
