"""The cartoons, the generators that draw them, layers swapped, and the encoder of one domain begun by another's."""

import json

import pytest
import torch

import restyle_lib as rl
from restyle_lib.evaluation.cartoons import measure
from restyle_lib.evaluation.metrics import psnr
from restyle_lib.generators import low_rank, render_sets
from restyle_lib.generators.render_sets import heldout_codes
from restyle_lib.generators.swap import swap
from restyle_lib.images import downsample, to_float
from restyle_lib.inversion import bootstrap as bootstrapping
from restyle_lib.inversion.inverter import Viewed
from restyle_lib.making import cartoon as cartoons
from restyle_lib.making import toon as fitting
from restyle_lib.paths import WEIGHTS
from restyle_lib.training.settings import SETTINGS
from restyle_lib.training.sources.faces import Faces


@pytest.fixture(scope="module")
def faces(heldout):
    return to_float(heldout.images[:4])


@pytest.fixture(scope="module")
def inverters():
    return rl.load_inverter("faces/restyle-psp"), rl.load_inverter("toon/restyle-psp")


def roughness(x):
    """Mean absolute difference of neighbouring pixels."""
    return x.diff(dim=-1).abs().mean()


# the cartoon


def test_a_cartoon_has_larger_eyes_and_a_smaller_nose_and_is_flatter(faces):
    drawn = cartoons.cartoon(faces)
    assert drawn.shape == faces.shape and drawn.min() >= -1 and drawn.max() <= 1
    before, after = cartoons.landmarks(faces), cartoons.landmarks(drawn)

    def size(points, part):
        across, down = (points[:, part].amax(1) - points[:, part].amin(1)).unbind(1)
        return across * down

    eyes = size(after, cartoons.LEFT_EYE) / size(before, cartoons.LEFT_EYE)
    nose = size(after, cartoons.NOSE_TIP) / size(before, cartoons.NOSE_TIP)
    assert eyes.mean() > 1.1 and nose.mean() < 0.95  # the landmark network expects faces as they are, and corrects
    forehead = (slice(None), slice(None), slice(60, 90), slice(100, 156))
    assert roughness(drawn[forehead]) < 0.7 * roughness(faces[forehead])


def test_the_warp_never_folds_and_leaves_far_corners(faces):
    grid = cartoons.warp_grid(cartoons.landmarks(faces), 128)
    assert grid[..., 0].diff(dim=2).min() > 0 and grid[..., 1].diff(dim=1).min() > 0
    corner = torch.tensor([-1 + 1 / 128, 1 - 1 / 128])
    assert torch.allclose(grid[:, -1, 0], corner, atol=0.02)


def test_a_warp_of_any_size_is_the_same_warp(faces):
    """What the shape is learned by: a warped small map is the small warped map."""
    points = cartoons.landmarks(faces)
    large, small = (cartoons.warp_grid(points, size).permute(0, 3, 1, 2) for size in (128, 32))
    assert (downsample(large, 32) - small).abs().max() < 0.01


@pytest.mark.parametrize("radius", [1, 5])
def test_smoothing_keeps_constants_and_edges_and_removes_small_noise(radius):
    constant = torch.full((1, 3, 32, 32), 0.3)
    assert torch.allclose(cartoons.smooth(constant, radius, 0.01), constant, atol=1e-4)
    edge = torch.ones(1, 3, 32, 32)
    edge[..., :16] = -1
    assert (cartoons.smooth(edge, radius, 0.001) - edge).abs().max() < 0.05
    noisy = edge + 0.02 * torch.randn(edge.shape, generator=torch.Generator().manual_seed(0))
    assert roughness(cartoons.smooth(noisy, radius, 0.01)[..., :12]) < 0.5 * roughness(noisy[..., :12])


# changes of low rank


def test_changes_are_kept_and_made_again_to_half_precision():
    def network():
        torch.manual_seed(0)
        return torch.nn.Sequential(torch.nn.Linear(40, 30), torch.nn.Linear(30, 2))

    net = network()
    learning = low_rank.let_change(net, ["0.weight", "0.bias", "1.weight"], rank=3)
    assert set(learning) == {"0.weight.up", "0.weight.down", "0.bias", "1.weight"}  # the last is too small for a rank
    x = torch.randn(5, 40)
    assert torch.allclose(net(x), network()(x))  # nothing has changed yet
    optimizer = torch.optim.Adam(learning.values(), lr=0.02)
    for _ in range(20):
        optimizer.zero_grad()
        net(x).square().sum().backward()
        optimizer.step()
    again = low_rank.change(network(), low_rank.changes(net, learning))
    assert not torch.allclose(net(x), network()(x), atol=0.05)
    assert torch.allclose(net(x), again(x), atol=0.01)
    assert torch.equal(again[1].bias, network()[1].bias)


def test_changes_of_another_network_are_refused():
    with pytest.raises(ValueError, match="2.weight.up, which this network does not have"):
        low_rank.change(torch.nn.Linear(3, 3), {"2.weight.up": torch.zeros(3, 1), "2.weight.down": torch.zeros(1, 3)})


# the toon generators


@torch.no_grad()
def test_a_window_is_learned_as_it_will_be_drawn(heldout):
    """The fine blocks see a part of the map only; within the margin their image is that of the whole."""
    G, code = rl.load_generator("faces-1024"), heldout.codes[:1]
    corner = [3, 9]
    first, image = fitting.fine_window(G, fitting.maps(G, code, fitting.COARSE)[-1], code, corner)
    whole = fitting.maps(G, code, fitting.COARSE + 1)[-1]
    assert torch.allclose(fitting.inside(first, 2), fitting.window(whole, corner, 2, fitting.MARGIN), atol=1e-4)
    full = fitting.window(G.synthesize(code), corner, 32, fitting.MARGIN)
    assert torch.allclose(fitting.inside(image, 32), full, atol=1e-3)


@torch.no_grad()
def test_the_toon_generator_draws_cartoons_of_the_same_codes(heldout, faces):
    """The recipe's figures are of twenty held-out renders; here four of them are measured again."""
    recipe = json.loads((WEIGHTS / "toon-drawing.json").read_text())["heldout"]
    assert recipe["psnr"] > recipe["psnr_of_the_faces"] + 2
    G = rl.load_generator("toon-1024")
    assert torch.equal(G.w_avg, rl.load_generator("faces-64").w_avg)
    wanted = downsample(cartoons.cartoon(faces), 64)
    images = torch.cat([downsample(G.synthesize(code).clamp(-1, 1), 64) for code in heldout.codes[:4].split(1)])
    assert psnr(images, wanted).mean() == pytest.approx(recipe["psnr"], abs=2)
    assert psnr(images, wanted).mean() > psnr(downsample(faces, 64), wanted).mean() + 1


def pair():
    """A small generator of faces, and another that shares its mapping but draws otherwise."""
    face, other = (rl.load_generator("faces-64") for _ in range(2))
    with torch.no_grad():
        other.stem.constant *= 1.2
        for block in other.blocks:
            block.conv1.pointwise *= 0.9
            block.conv2.bias += 0.1
    return face, other


def test_the_mapping_is_the_faces():
    z = torch.randn(2, 512, generator=torch.Generator().manual_seed(0))
    face, toon = (rl.load_generator(name) for name in ("faces-1024", "toon-1024"))
    assert torch.equal(face.map(z, 0.7), toon.map(z, 0.7))


@torch.no_grad()
def test_layers_are_swapped_at_a_block():
    face, toon = pair()
    w = heldout_codes(face, 2, 0)
    images = {size: swap(toon, face, size).synthesize(w) for size in (8, 16, 32)}
    for size, image in images.items():
        assert not torch.equal(image, face.synthesize(w)) and not torch.equal(image, toon.synthesize(w)), size
    assert not torch.equal(images[8], images[16])
    assert torch.equal(swap(face, face, 16).synthesize(w), face.synthesize(w))
    assert torch.equal(face.synthesize(w), rl.load_generator("faces-64").synthesize(w))  # it is left as it was


@torch.no_grad()
def test_swapped_layers_are_copies():
    face, toon = pair()
    w = heldout_codes(face, 1, 0)
    mixed, before = swap(toon, face, 16), face.synthesize(w)
    for tensor in mixed.state_dict().values():
        tensor.zero_()
    assert torch.equal(face.synthesize(w), before)
    theirs = {x.data_ptr() for G in (face, toon) for x in G.state_dict().values()}
    assert not theirs & {x.data_ptr() for x in mixed.state_dict().values() if x.numel()}


def test_swaps_that_make_no_sense_are_refused():
    face, toon = pair()
    with pytest.raises(ValueError, match="no block begins at 64 px; there are 8, 16, 32"):
        swap(toon, face, 64)
    with pytest.raises(ValueError, match="of one size"):
        swap(toon, rl.load_generator("faces-1024"), 16)


# bootstrapping


def test_the_first_step_is_the_face_encoders_and_the_rest_the_toon_encoders(inverters, faces):
    face, toon = inverters
    x, seen = faces[:2], []
    found = bootstrapping.bootstrap(face, toon, x, steps=3, callback=lambda t, w, y: seen.append((t, y)))
    alone = face.invert(x, steps=1)
    assert found.latents.shape == (2, 4, 16, 512) and found.images.shape == (2, 4, 3, 256, 256)
    assert torch.equal(found.latents[:, :2], alone.latents) and torch.equal(found.images[:, 0], alone.images[:, 0])
    with torch.no_grad(), toon.precision():
        drawn = Viewed(toon.G, toon.input_size).synthesize(alone.latents[:, 1])
        residual = toon.encoder(torch.cat([x, drawn], 1))
    assert torch.allclose(found.images[:, 1], drawn, atol=1e-3)
    assert torch.allclose(found.latents[:, 2], alone.latents[:, 1] + residual, atol=1e-2)
    assert [t for t, _ in seen] == [1, 2, 3] and torch.equal(seen[-1][1], found.images[:, -1])


def test_switching_first_or_last_is_one_encoder_alone(inverters, faces):
    (face, toon), faces = inverters, faces[:2]
    never = bootstrapping.bootstrap(face, toon, faces, steps=2, switch=0)
    assert torch.equal(never.latents, toon.invert(faces, 2).latents)
    last = bootstrapping.bootstrap(face, toon, faces, steps=2, switch=2)
    assert torch.equal(last.latents, face.invert(faces, 2).latents)
    assert not torch.equal(last.images[:, 2], face.invert(faces, 2).images[:, 2])  # drawn by the toon generator


def test_impossible_switches_are_refused_and_strangers_noticed(inverters, faces):
    face, toon = inverters
    for switch in (-1, 3):
        with pytest.raises(ValueError, match="from 0 to steps = 2"):
            bootstrapping.bootstrap(face, toon, faces, steps=2, switch=switch)
    stranger = rl.load_inverter("toon/restyle-psp")
    stranger.G.w_avg += 1
    with pytest.warns(UserWarning, match="do not seem to share their W"):
        bootstrapping.bootstrap(face, stranger, faces[:1], steps=2)
    stranger.G.n_styles = 14
    with pytest.raises(ValueError, match=r"\[16, 512\], of the second \[14, 512\]"):
        bootstrapping.bootstrap(face, stranger, faces, steps=2)


def test_a_fine_tuned_generator_shares_w_though_its_mean_was_estimated_again(inverters, faces, recwarn):
    """Every real pair: the third decimal of latent_avg differs, and the mapping was trained on a little."""
    face, _ = inverters
    tuned = rl.load_inverter("toon/restyle-psp")
    rng = torch.Generator().manual_seed(0)
    with torch.no_grad():
        tuned.G.w_avg += 2e-3 * torch.randn(512, generator=rng)
        for weight in tuned.G.mapping.parameters():
            weight *= 1 + 0.01 * torch.randn(weight.shape, generator=rng)
    assert 0 < bootstrapping.difference(face.G, tuned.G) < 0.3
    found = bootstrapping.bootstrap(face, tuned, faces[:1], steps=2)
    assert not [w for w in recwarn if "share their W" in str(w.message)]
    assert torch.equal(found.latents[:, 0], face.G.w_avg.expand(1, 16, -1)), "the second mean is never used"
    with torch.no_grad():
        for weight in tuned.G.mapping.parameters():
            weight.copy_(weight.roll(1, -1))
    assert bootstrapping.difference(face.G, tuned.G) > 0.6


def test_a_one_pass_encoder_takes_its_one_step_from_where_it_begins(inverters, faces):
    face, psp = inverters[0], rl.load_inverter("faces/psp")
    found = bootstrapping.bootstrap(face, psp, faces[:2], steps=4)
    alone = psp.invert(faces[:2], 1)
    assert found.latents.shape == (2, 5, 16, 512) and found.images.shape == (2, 5, 3, 256, 256)
    assert torch.equal(found.latents[:, :2], face.invert(faces[:2], 1).latents)
    for t in (2, 3, 4):
        assert torch.allclose(found.latents[:, t], alone.latents[:, 1], atol=1e-4)


def test_measure_compares_with_the_face_and_with_the_sought_cartoon(inverters, heldout, faces):
    toon, x = inverters[1], faces
    with torch.no_grad():
        sought = Viewed(toon.G, (256, 256)).synthesize(heldout.codes[:4]).clamp(-1, 1)
    trail = toon.invert(x, 2)
    trail.images[:, 2] = sought
    rows = measure({"a": trail}, x, sought).set_index("step")
    assert len(rows) == 12
    assert rows.loc[2, "L2"].max() == 0 and rows.loc[2, "ST-LPIPS"].max() < 1e-5
    assert rows.loc[2, "ID"].max() < 0.99 and rows.loc[2, "ID"].mean() > rows.loc[0, "ID"].mean()


def test_the_toon_encoder_is_shown_faces_and_learns_from_the_cartoons_of_their_codes(inverters):
    settings = SETTINGS["toon-restyle-psp"]
    face, toon = inverters
    drawn = render_sets.renders(face.G, "train", 20, render_sets.POOL_SEED)
    source = Faces(Viewed(toon.G, (256, 256)), settings, drawn)
    images = source.batch(torch.Generator().manual_seed(0), 4)
    assert images.codes.isfinite().all(), "of every image the code is known, and so its cartoon"
    goal = source.goal(images)
    with torch.no_grad():
        as_face, as_toon = (Viewed(G, (256, 256)).synthesize(images.codes).clamp(-1, 1) for G in (face.G, toon.G))
    sharp = images.px == 256
    assert psnr(images.x[sharp], as_face[sharp]).min() > 30 and psnr(goal[sharp], as_toon[sharp]).min() > 30
    assert psnr(images.x, as_toon).max() < 25


def test_a_toon_inverter_renders_with_the_toon_generator(inverters):
    face, toon = inverters
    assert toon.G.family == "toon"
    with torch.no_grad():
        code = face.G.w_avg[None]
        assert not torch.allclose(face.G.synthesize(code), toon.G.synthesize(code), atol=0.2)
