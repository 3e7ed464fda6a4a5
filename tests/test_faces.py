"""The face networks match the original JavaScript; detection and alignment do what a photographer would."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageFilter

import restyle_lib as rl
from restyle_lib.evaluation import sets
from restyle_lib.faces import networks
from restyle_lib.faces.align import (
    AlignmentWarning,
    align_all,
    cut_square,
    doubtful,
    face_square,
    implausible,
    level_square,
)
from restyle_lib.faces.detect import covers, find_faces, find_landmarks, tiles
from restyle_lib.faces.identity import Identity
from restyle_lib.images import to_float

REFERENCE = json.loads((Path(__file__).parent / "data" / "face_reference.json").read_text())


def blocks_image(size: int, seed: int) -> torch.Tensor:
    """8 x 8 coloured blocks from a linear congruential generator: the input that the reference was made with."""
    values, state = [], seed
    for _ in range(8 * 8 * 3):
        state = (state * 1664525 + 1013904223) % 2**32
        values.append(state >> 24)
    blocks = torch.tensor(values, dtype=torch.float32).reshape(8, 8, 3).permute(2, 0, 1)[None]
    index = torch.arange(size) * 8 // size
    return blocks[:, :, index][:, :, :, index]


def agrees(ours: torch.Tensor, name: str, tolerance: float) -> None:
    theirs = torch.tensor(REFERENCE[name]).reshape(ours.shape)
    assert (ours - theirs).abs().max() < tolerance


@torch.no_grad()
def test_networks_match_the_original_javascript():
    agrees(networks.load("recognition")(blocks_image(150, 1)), "recognition", 3e-5)
    agrees(networks.load("expression")(blocks_image(112, 2)).softmax(1), "expression", 1e-5)
    age, gender = networks.load("age_gender")(blocks_image(112, 3))
    agrees(age, "age", 1e-4)
    agrees(gender.softmax(1), "gender", 1e-5)
    agrees(networks.load("landmarks")(blocks_image(112, 4)).flatten(1), "landmarks", 1e-5)
    detected = networks.load("detector")(blocks_image(224, 5)).permute(0, 2, 3, 1)
    agrees(detected, "detector", 1e-3)


def test_networks_are_differentiable_but_frozen():
    image = torch.rand(1, 3, 64, 64).requires_grad_(True)
    Identity()(image).sum().backward()
    assert image.grad.abs().sum() > 0
    assert not list(networks.load("recognition").parameters())


@torch.no_grad()
def test_the_network_looks_at_every_call():
    """Nothing is remembered between calls, so that no method is timed with what another one has computed."""
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    identity, looks = Identity(), []
    identity.network.register_forward_hook(lambda *_: looks.append("looked"))
    assert torch.equal(identity(images), identity(images)) and len(looks) == 2


@torch.no_grad()
def test_centred_identity_separates_strangers_and_keeps_friends(heldout):
    images = to_float(heldout.images)
    identity = Identity()
    embeddings = identity(images)
    between = (embeddings @ embeddings.T)[~torch.eye(len(images), dtype=torch.bool)]
    flipped = torch.linalg.vecdot(embeddings, identity(images.flip(-1)))
    assert between.mean().abs() < 0.15 and between.std() < 0.35
    assert flipped.mean() > 0.85


@torch.no_grad()
def test_detector_finds_aligned_renders(heldout):
    found = [find_faces(rl.to_image(image)) for image in to_float(heldout.images)]
    assert sum(map(len, found)) >= 0.9 * len(found)


def eyes_and_mouth(aligned: Image.Image) -> np.ndarray:
    points = find_landmarks(aligned.resize((256, 256)), (32, 56, 224, 248)) / 256
    return np.stack([points[36:42].mean(0), points[42:48].mean(0), points[[48, 54]].mean(0)])


@pytest.fixture(scope="module")
def astronaut() -> Image.Image:
    return sets.photographs()["Eileen Collins"]


def test_alignment_puts_the_eyes_level_and_where_ffhq_has_them(astronaut):
    left, right, mouth = eyes_and_mouth(rl.align(astronaut, 512))
    assert abs(left[1] - right[1]) < 0.02
    assert abs((left[0] + right[0]) / 2 - 0.5) < 0.03
    assert 0.42 < left[1] < 0.52 and 0.62 < mouth[1] < 0.78


@pytest.mark.parametrize("angle", [-25, 25])
def test_alignment_undoes_rotation(astronaut, angle):
    turned = astronaut.rotate(angle, Image.Resampling.BICUBIC, expand=True)
    assert np.abs(eyes_and_mouth(rl.align(turned, 256)) - eyes_and_mouth(rl.align(astronaut, 256))).max() < 0.03


@pytest.mark.parametrize("scale", [0.35, 1, 9])
def test_alignment_works_at_any_size(astronaut, scale):
    size = round(512 * scale)  # up to 21 megapixels
    aligned = rl.align(astronaut.resize((size, size), Image.Resampling.BICUBIC), 256)
    assert np.abs(eyes_and_mouth(aligned) - eyes_and_mouth(rl.align(astronaut, 256))).max() < 0.03


def test_face_square_of_a_plain_face():
    """Level eyes 2 apart, mouth 2 below them: the side is 4 eye distances and the axis is level."""
    landmarks = np.zeros((68, 2))
    landmarks[36:42], landmarks[42:48], landmarks[[48, 54]] = (-1, 0), (1, 0), (0, 2)
    corners = face_square(landmarks)
    assert np.allclose(corners, [(-4, -3.8), (-4, 4.2), (4, 4.2), (4, -3.8)])


def test_cut_square_reflects_beyond_the_border():
    image = Image.new("RGB", (40, 40), (200, 100, 50))
    corners = np.array([(-30, -30), (-30, 70), (70, 70), (70, -30)], dtype=float)
    assert np.abs(np.asarray(cut_square(image, corners, 64)).astype(int) - (200, 100, 50)).max() <= 2


def test_no_face_is_a_clear_error():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    for image in (noise, Image.new("RGB", (640, 480), "white"), Image.new("RGB", (3, 5))):
        with pytest.raises(rl.NoFaceError, match="no face found"):
            rl.align(image)


def test_landmarks_that_make_no_sense_are_not_cropped_by(astronaut):
    """Upside down the landmark network still finds a face, tilted and too small: a level crop with a warning."""
    turned = astronaut.rotate(180)
    box = find_faces(turned)[0].box
    with pytest.warns(AlignmentWarning, match="the crop is level"):
        crop = rl.align(turned, 128)
    assert np.array_equal(np.asarray(crop), np.asarray(cut_square(turned, level_square(box), 128)))
    corners = level_square((10, 20, 110, 120))
    assert np.allclose(corners[0][1], corners[3][1]) and np.allclose(corners[3] - corners[0], [133, 0])


def test_a_level_square_is_about_where_that_of_the_landmarks_is(astronaut):
    box = find_faces(astronaut)[0].box
    level, square = level_square(box), face_square(find_landmarks(astronaut, box))
    side = np.hypot(*(square[3] - square[0]))
    assert np.abs(level - square).max() < 0.15 * side


def moved(points: np.ndarray, part, by) -> np.ndarray:
    points = points.copy()
    points[part] += by
    return points


def test_what_no_face_is_like_is_seen_in_the_landmarks(astronaut):
    points = find_landmarks(astronaut, find_faces(astronaut)[0].box)
    assert not implausible(astronaut, points) and not doubtful(astronaut, points)
    eyes = points[42:48].mean(0) - points[36:42].mean(0)
    near = moved(moved(points, slice(36, 42), eyes * 0.35), slice(42, 48), -eyes * 0.35)
    skewed = moved(points, [48, 54], eyes * 0.5)
    assert all("from the side" in implausible(astronaut, wrong) for wrong in (near, skewed))
    assert "at every look" in implausible(astronaut, points + 0.3 * eyes)
    assert "from the side" in doubtful(astronaut, moved(points, 30, eyes))
    edge = astronaut.crop((0, 0, int(points[:, 0].mean()), astronaut.height))
    assert "cut off" in doubtful(edge, points)


def test_good_faces_need_no_warning(heldout, astronaut, recwarn):
    for image in [*map(rl.to_image, to_float(heldout.images[:8])), *sets.photographs().values()]:
        if find_faces(image):
            rl.align(image, 64)
    assert not [w for w in recwarn if issubclass(w.category, AlignmentWarning)]


def test_of_two_faces_the_larger_is_taken(astronaut):
    both = Image.new("RGB", (900, 512), "grey")
    both.paste(astronaut.resize((300, 300)), (0, 100))
    both.paste(astronaut, (388, 0))
    assert len(find_faces(both)) == 2
    assert np.abs(eyes_and_mouth(rl.align(both, 256)) - eyes_and_mouth(rl.align(astronaut, 256))).max() < 0.04
    assert np.abs(eyes_and_mouth(rl.align(both, 256, face=2)) - eyes_and_mouth(rl.align(astronaut, 256))).max() < 0.04
    crops = align_all(both, 256)
    assert len(crops) == 2 and np.array_equal(np.asarray(crops[0]), np.asarray(rl.align(both, 256)))
    with pytest.raises(rl.NoFaceError, match="no face 3: 2 found"):
        rl.align(both, face=3)
    with pytest.raises(ValueError, match="1 for the largest"):
        rl.align(both, face=0)
    assert align_all(Image.new("RGB", (640, 480), "white")) == []


def in_a_large_photograph(face: Image.Image, width: int, places: list[tuple[int, int]]) -> Image.Image:
    """A blurred background of 12 megapixels with a photograph, `width` px wide, at each place."""
    noise = Image.effect_noise((4000, 3000), 40).filter(ImageFilter.GaussianBlur(3)).convert("RGB")
    for place in places:
        noise.paste(face.resize((width, width), Image.Resampling.LANCZOS), place)
    return noise


@pytest.mark.parametrize("width", [40, 70, 240])
def test_small_faces_in_large_photographs(astronaut, width):
    """`width` px of face, where the photograph shrunk to what the detector sees has a sixth of them."""
    corners = find_faces(astronaut)[0].box
    scale = width / (corners[2] - corners[0])
    large = in_a_large_photograph(astronaut, round(512 * scale), [(1700, 1300)])
    (found,) = find_faces(large)
    centre = [(corners[i] + corners[i + 2]) / 2 * scale + place for i, place in enumerate((1700, 1300))]
    assert all(abs((found.box[i] + found.box[i + 2]) / 2 - centre[i]) < 0.4 * width for i in range(2))


def test_everyone_in_a_group(astronaut):
    places = [(200, 300), (1800, 2000), (3000, 700)]
    group = in_a_large_photograph(astronaut, 400, places)
    group.paste(astronaut.resize((1600, 1600)), (600, 100))
    faces = find_faces(group, small=True)
    assert len(faces) == 4 and faces[0].area > 8 * faces[1].area
    assert len(align_all(group, 64)) == 4


@pytest.mark.parametrize("size", [(4000, 3000), (700, 5000), (1500, 1500)])
def test_pieces_cover_the_whole_photograph(size):
    for cover in covers(max(size)):
        seen = np.zeros((size[1] // 10, size[0] // 10), bool)
        for x0, y0, x1, y1 in tiles(size, cover):
            assert 0 <= x0 < x1 <= size[0] and 0 <= y0 < y1 <= size[1] and max(x1 - x0, y1 - y0) <= cover
            seen[y0 // 10 : -(-y1 // 10), x0 // 10 : -(-x1 // 10)] = True
        assert seen.all()
    assert covers(400) == [] and covers(4000) == [2000, 1000, 500, 240]
