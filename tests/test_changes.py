"""Bands and regions add up; the statistic of claim C5 has the sign and size of trails made by hand."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import restyle_lib as rl
from restyle_lib.encoders import SimplifiedEncoder
from restyle_lib.evaluation import changes
from restyle_lib.inversion.inverter import Inverter
from restyle_lib.reporting import figures


def wave(cycles: float, size: int = 64) -> torch.Tensor:
    """An image [3, size, size] of one horizontal frequency, in [-0.1, 0.1]; a basis function of the transform."""
    return 0.1 * torch.cos(2 * math.pi * cycles * (torch.arange(size) + 0.5) / size).expand(3, size, size)


def trail(*steps: torch.Tensor) -> torch.Tensor:
    """Images [1, N+1, 3, s, s] that begin grey and change by the given steps."""
    return torch.cat([torch.zeros_like(steps[0])[None], torch.stack(steps).cumsum(0)])[None]


def c5(*steps: torch.Tensor) -> float:
    return changes.fine_minus_coarse(changes.band_energy(changes.image_steps(trail(*steps)))).item()


@given(st.integers(0, 2**32 - 1), st.sampled_from([(64, 64), (48, 64), (64, 20)]))
@settings(max_examples=20, deadline=None)
def test_bands_add_up_to_the_mean_square(seed, shape):
    delta = torch.randn(2, 3, 3, *shape, generator=torch.Generator().manual_seed(seed))
    energy = changes.band_energy(delta)
    assert energy.shape == (2, 3, len(changes.band_names()))
    assert torch.allclose(energy.sum(2), delta.square().mean((2, 3, 4)), rtol=1e-4)


@pytest.mark.parametrize(
    ("cycles", "band"), [(0, 0), (0.5, 0), (1, 1), (2, 2), (3.5, 2), (4, 3), (8, 4), (16, 5), (30, 5)]
)
def test_a_frequency_is_in_its_band_in_either_direction(cycles, band):
    for image in (wave(cycles), wave(cycles).mT):
        energy = changes.band_energy(image[None, None])[0, 0]
        assert energy[band] / energy.sum() == pytest.approx(1, abs=1e-5)


def test_a_jump_between_opposite_borders_is_no_fine_detail():
    ramp = torch.linspace(-1, 1, 64).expand(1, 1, 3, 64, 64)
    energy = changes.band_energy(ramp)[0, 0]
    assert energy[4:].sum() / energy.sum() < 1e-3
    fourier = torch.fft.fft(ramp[0, 0, 0, 0]).abs().square()
    assert fourier[8:57].sum() / fourier.sum() > 0.05


def test_coarse_first_is_positive_fine_first_negative_and_together_zero():
    low, high, nothing = wave(1), wave(16), torch.zeros(3, 64, 64)
    assert c5(low, nothing, high) == pytest.approx(1, abs=1e-3)
    assert c5(high, nothing, low) == pytest.approx(-1, abs=1e-3)
    assert c5(low, high, nothing) == pytest.approx(0.5, abs=1e-3)
    assert c5(low + high, 0.3 * (low + high), 0.1 * (low + high)) == pytest.approx(0, abs=1e-4)
    assert c5(low + wave(6), nothing, high) == pytest.approx(1, abs=1e-3), "the octave between is neither"


def test_how_strong_a_band_is_does_not_matter():
    low, high = wave(1), wave(16)
    assert c5(low, 0.2 * low + high) == pytest.approx(c5(low, 0.2 * low + 0.01 * high), abs=1e-3)


def test_mean_step_by_hand():
    path = torch.tensor([[4.0, 0, 1, 0], [0, 0, 1, 0], [0, 2, 1, 0]])[None]
    assert changes.mean_step(path)[0].tolist() == pytest.approx([0, 1, 0.5, 0.5])
    assert changes.shares(path).sum(1)[0].tolist() == pytest.approx([1, 1, 1, 1])
    with pytest.raises(ValueError, match="two steps"):
        changes.mean_step(path[:, :1])


def test_slots_coarse_first():
    latents = torch.zeros(1, 3, 16, 512)
    latents[:, 1:, :4] = 1
    latents[:, 2:, 4:8] = 2
    path = changes.slot_rms(latents, 8)
    assert path[0].tolist() == [[1] * 4 + [0] * 4, [0] * 4 + [2] * 4]
    assert changes.fine_slots_minus_coarse(path).tolist() == [1]


def test_changes_are_those_that_show():
    images = torch.full((2, 3, 3, 64, 64), 5.0)
    images[:, 0] = 0
    delta = changes.image_steps(images)
    assert delta.shape == (2, 2, 3, 64, 64) and (delta[:, 0] == 1).all() and (delta[:, 1] == 0).all()
    assert torch.equal(changes.pixel_rms(delta), delta[:, :, 0])


def test_regions_split_the_image():
    delta, inside = torch.randn(2, 3, 3, 64, 64), changes.oval(64, 64)
    whole, face, around = changes.region_rms(delta).square().unbind(2)
    fraction = inside.float().mean()
    assert fraction == pytest.approx(math.pi * changes.OVAL[2] * changes.OVAL[3], abs=0.01)
    assert torch.allclose(fraction * face + (1 - fraction) * around, whole, rtol=1e-4)
    only_face = changes.region_rms(torch.where(inside, delta, 0))
    assert (only_face[..., 1] > 0).all() and (only_face[..., 2] == 0).all()


def test_a_table_has_every_part_and_step():
    path = torch.rand(5, 3, 2)
    table = changes.over_steps("band", ["low", "high"], {"ReStyle": path, "straight line": path})
    assert len(table) == 2 * 2 * (2 * 3 + 1) and (table.n == 5).all()
    assert ((table.low <= table["mean"]) & (table["mean"] <= table.high)).all()
    share = table[table.metric == "share"].groupby(["trail", "band"])["mean"].sum()
    assert share.tolist() == pytest.approx([1] * 4)
    assert set(table[table.metric == "mean step"].step) == {"all"}


@torch.no_grad()
def test_straight_line_keeps_start_end_and_lengths_and_moves_all_slots_together():
    G = rl.load_generator("faces-64")
    encoder = SimplifiedEncoder(6)
    torch.nn.init.normal_(encoder.heads.out.weight, std=0.02, generator=torch.Generator().manual_seed(0))
    inverter = Inverter(encoder, G, G.resolution, None).eval()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    result = changes.trails(inverter, images, steps=3, batch=2)
    assert result.latents.shape == (3, 4, 16, 512) and result.images.shape == (3, 4, 3, 64, 64)
    assert torch.allclose(result.latents, inverter.invert(images, 3).latents, atol=1e-3)

    line = changes.straight_line(inverter, result, batch=4)
    for end in (0, -1):
        assert torch.equal(line.latents[:, end], result.latents[:, end])
        assert torch.equal(line.images[:, end], result.images[:, end])
    assert torch.allclose(line.images[:, 2], G.synthesize(line.latents[:, 2]), atol=1e-4)
    lengths, original = (changes.slot_rms(x.latents, 8).square().mean(2).sqrt() for x in (line, result))
    assert original.min() > 0 and torch.allclose(changes.shares(lengths), changes.shares(original), atol=1e-4)
    assert changes.mean_step(changes.slot_rms(line.latents, 8)).std(dim=1).max() < 1e-4


def test_a_map_without_change_can_be_drawn():
    maps = [None, torch.zeros(8, 8), torch.ones(8, 8)]
    figure = figures.heatmap_grid([[torch.zeros(3, 8, 8)] * 3, maps], "abc", ["image", "map"], ["mean"], "title")
    assert len(figure.axes) == 7  # six cells and a colour bar
