"""A face goes back into its photograph: at its place, softly, and nothing else changes."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

import restyle_lib as rl
from restyle_lib.evaluation import sets
from restyle_lib.faces.align import cut_square, find_square, find_squares
from restyle_lib.faces.paste import paste


@pytest.fixture(scope="module")
def photo() -> Image.Image:
    return sets.photographs()["Eileen Collins"]


@pytest.fixture(scope="module")
def square(photo) -> np.ndarray:
    return find_square(photo)


def values(image: Image.Image) -> np.ndarray:
    return np.asarray(image).astype(int)


def inside(photo: Image.Image, square: np.ndarray) -> np.ndarray:
    """Which pixels of a photograph a square covers, bool [h, w]."""
    mask = Image.new("1", photo.size)
    ImageDraw.Draw(mask).polygon([tuple(corner) for corner in square], fill=1, outline=1)
    return np.asarray(mask)


def test_align_cuts_the_square_that_is_found(photo, square):
    assert np.array_equal(values(rl.align(photo, 128)), values(cut_square(photo, square, 128)))


def test_an_edit_that_changed_nothing_leaves_the_photograph(photo, square):
    inverted = torch.rand(1, 3, 256, 256) * 2 - 1
    assert np.array_equal(values(paste(photo, square, inverted, inverted)), values(photo))


def test_a_crop_pasted_back_is_the_photograph(photo, square):
    crop = rl.to_tensor(cut_square(photo, square, 1024))
    difference = np.abs(values(paste(photo, square, crop)) - values(photo))
    assert difference.mean() < 1 and np.quantile(difference, 0.999) < 25  # sampled twice, bilinearly


@pytest.mark.parametrize("shift", [(0, 0), (-120, -60), (160, 150)])
def test_a_turned_square_at_the_border_goes_back_to_its_place(shift):
    """A photograph of waves, 30 px long: longer than sampling spoils, shorter than what is taken for light."""
    x, y = np.meshgrid(np.arange(320), np.arange(300))
    colours = np.stack([np.sin(x / 5), np.cos(y / 5), np.sin((x - y) / 5)], axis=-1)
    waves = Image.fromarray((127.5 + 60 * colours).round().astype(np.uint8))
    corners = np.array([(40, 30), (60, 190), (220, 170), (200, 10)], float) + shift
    crop = rl.to_tensor(cut_square(waves, corners, 320))
    difference = np.abs(values(paste(waves, corners, crop)) - values(waves))
    assert difference.max() <= 8
    moved = corners + (1, 0)
    assert np.abs(values(paste(waves, moved, crop)) - values(waves)).mean() > 4 * difference.mean()


def test_pixels_outside_the_square_do_not_change(photo, square):
    rng = torch.Generator().manual_seed(0)
    edited, inverted = (torch.rand(1, 3, 64, 64, generator=rng) * 2 - 1 for _ in range(2))
    covered = inside(photo, square)
    for result in (paste(photo, square, edited), paste(photo, square, edited, inverted)):
        changed = (values(result) != values(photo)).any(-1)
        assert result.size == photo.size and result.mode == "RGB"
        assert not changed[~covered].any() and 0.4 < changed[covered].mean() < 0.9


def test_an_edit_changes_what_it_changed_and_keeps_what_the_inversion_missed(photo, square):
    crop = rl.to_tensor(cut_square(photo, square, 256))
    inverted = (crop * 0.5).roll(3, dims=3)  # a poor one
    edited = inverted.clone()
    edited[:, :, 150:180, 100:150] = 0.9
    result = paste(photo, square, edited, inverted)
    change = np.abs(values(cut_square(result, square, 256)) - values(cut_square(photo, square, 256))).mean(-1)
    assert change[158:172, 112:138].mean() > 40
    change[130:200, 80:170] = 0
    assert change.max() == 0


def test_colour_and_light_are_those_of_the_photograph(photo, square):
    """A crop that is darker and redder all over is the photograph's crop again."""
    crop = rl.to_tensor(cut_square(photo, square, 256)) * 0.9
    tinted = crop + torch.tensor([0.1, -0.1, -0.1]).view(1, 3, 1, 1)
    difference = values(paste(photo, square, tinted)) - values(paste(photo, square, crop))
    assert np.abs(difference).max() <= 2


def test_several_faces_and_photographs_of_any_orientation(photo, tmp_path):
    group = Image.new("RGB", (800, 400), "grey")
    group.paste(photo.crop((60, 0, 360, 300)), (20, 20))
    group.paste(photo.crop((60, 0, 360, 300)).resize((220, 220)), (520, 90))
    squares = find_squares(group)
    assert len(squares) == 2
    result = group
    for square in squares:
        result = paste(result, square, torch.full((1, 3, 64, 64), 0.5), torch.full((1, 3, 64, 64), -0.5))
    changed = (values(result) != values(group)).any(-1)
    for square in squares:
        x, y = square.mean(0).astype(int)
        assert changed[y, x]
    assert not changed[~(inside(group, squares[0]) | inside(group, squares[1]))].any()
    exif = Image.Exif()
    exif[0x0112] = 6
    group.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    upright = rl.open_photo(tmp_path / "turned.png")
    assert np.allclose(find_squares(upright), squares)
    assert paste(upright, squares[0], torch.zeros(1, 3, 64, 64)).size == (800, 400)


def test_a_square_beside_the_photograph_changes_nothing(photo):
    away = np.array([(600, 600), (600, 700), (700, 700), (700, 600)], float)
    assert np.array_equal(values(paste(photo, away, torch.zeros(1, 3, 64, 64))), values(photo))


def test_other_shapes_are_refused(photo, square):
    with pytest.raises(ValueError, match="a square image"):
        paste(photo, square, torch.zeros(1, 3, 64, 32))
    with pytest.raises(ValueError, match="differ in shape"):
        paste(photo, square, torch.zeros(1, 3, 64, 64), torch.zeros(1, 3, 32, 32))
