"""Films: their codes begin, rest and end where they should; files play; the command says what it cannot do."""

import av
import numpy as np
import pytest
import torch
from PIL import Image, ImageSequence

import restyle_lib as rl
from restyle_lib.commands.film import film
from restyle_lib.evaluation import sets
from restyle_lib.generators.averaged import averaged
from restyle_lib.images import PhotoError, to_uint8
from restyle_lib.inversion.tune import save_tuned, saved_codes
from restyle_lib.making.stand_ins import random_checkpoint
from restyle_lib.reporting import films


@pytest.fixture(scope="module")
def codes():
    G = rl.load_generator("faces-1024")
    return G.map(torch.randn(3, 512, generator=torch.Generator().manual_seed(0)), 0.7)[:, None].repeat(1, 16, 1)


def test_ways_begin_and_end_at_the_codes(codes):
    frames = films.between(codes, seconds=0.4, rest=0.2, fps=10)
    assert frames.shape == (2 * (2 + 4) + 2, 16, 512)
    assert torch.equal(frames[0], codes[0]) and torch.equal(frames[6], codes[1]) and torch.equal(frames[-1], codes[2])
    moved = frames.diff(dim=0).flatten(1).norm(dim=1)
    assert moved[0] == 0 and moved[2] < moved[3] and moved[5] < moved[4]  # it rests, then begins and ends slowly
    round_trip = films.between(codes, seconds=0.4, rest=0.2, fps=10, around=True)
    assert torch.equal(round_trip[0], round_trip[-1]) and len(round_trip) == 3 * 6 + 2


def test_an_edit_swings_to_both_sides(codes):
    frames = films.swing(codes[0], "smile", -1, 2, seconds=0.8, fps=10)
    assert torch.equal(frames[0], codes[0])
    assert torch.allclose(frames[2], rl.edit(codes[:1], "smile", 2)[0], atol=1e-5)
    assert torch.allclose(frames[6], rl.edit(codes[:1], "smile", -1)[0], atol=1e-5)


def test_frames_are_drawn_once_where_the_code_rests(codes):
    G, drawn = rl.load_generator("faces-64"), []
    G.synthesize, plain = lambda w: drawn.append(w) or plain(w), G.synthesize
    shown = list(films.frames(G, codes[[0, 0, 0, 1]], 64))
    assert len(drawn) == 2 and len(shown) == 4 and np.array_equal(shown[0], shown[2])
    assert shown[0].shape == (64, 64, 3) and shown[0].dtype == np.uint8


@torch.no_grad()
def test_a_tuned_generator_draws_its_own_frames(codes, tmp_path):
    """From the file that `restyle invert --quality best` writes, with the code that is in it."""
    T = rl.load_generator("faces-1024")
    T.to_image.bias += 0.2
    save_tuned(tmp_path / "me.safetensors", T, codes[:1])
    frames = films.swing(saved_codes(tmp_path / "me.safetensors")[0], "smile", -1, 1, seconds=0.12, fps=25)
    tuned, plain = (
        list(films.frames(G, frames, 256))
        for G in (rl.load_generator(tmp_path / "me.safetensors"), rl.load_generator("faces-1024"))
    )
    assert len(tuned) == 3 and all(after.mean() > before.mean() + 5 for after, before in zip(tuned, plain, strict=True))
    assert np.abs(tuned[0] - averaged_uint8(T, codes[:1])).mean() < 2  # rounding of bf16, and of 8 bits in the file
    saved = tmp_path / "me.safetensors"
    out = film([saved], tmp_path / "me.gif", of="edit", size=256, seconds=0.02)
    with Image.open(out) as gif:
        assert abs(np.asarray(gif.convert("RGB"), dtype=float).mean() - tuned[1].mean()) < 12
    with pytest.raises(ValueError, match="films of edits"):
        film([saved, saved], tmp_path / "me.gif", of="steps")


@torch.no_grad()
def test_in_a_morph_each_is_drawn_by_their_own_generator(codes, tmp_path):
    """Weights move with the codes: at each end they are that person's, half-way between they are the mean."""
    people = [rl.load_generator("faces-1024") for _ in range(2)]
    people[1].to_image.bias += 0.2
    ways = films.between(torch.eye(2)[:, None], 0.08, rest=0)[:, 0]
    assert ways.tolist() == [[1, 0], [0.5, 0.5], [0, 1]]
    shown = list(films.frames(people, codes[[0, 0, 0]], 256, shares=ways))
    plain, own = (averaged_uint8(G, codes[:1]) for G in people)
    assert np.abs(shown[0] - plain).mean() < 2 and np.abs(shown[2] - own).mean() < 2
    assert shown[1].mean() == pytest.approx((plain.mean() + own.mean()) / 2, abs=2)
    assert people[0].to_image.bias.abs().sum() != people[1].to_image.bias.abs().sum(), "they stay as they were"
    toon = rl.load_generator("toon-1024")
    with pytest.raises(ValueError, match="tuned from faces-1024"):
        next(films.frames([people[0], toon], codes[:1], 256, shares=ways[:1]))
    save_tuned(tmp_path / "me.safetensors", people[1], codes[:1])
    out = film([tmp_path / "me.safetensors"] * 2, tmp_path / "us.gif", of="morph", size=256, seconds=0.04)
    with Image.open(out) as gif:
        assert abs(np.asarray(gif.convert("RGB"), dtype=float).mean() - own.mean()) < 12


def averaged_uint8(G, codes):
    """What a frame shows, in fp32: int [256, 256, 3]."""
    return to_uint8(averaged(G, codes, 256))[0].permute(1, 2, 0).numpy().astype(int)


@pytest.mark.parametrize("suffix", [".mp4", ".gif"])
def test_files_play(suffix, tmp_path):
    ramp = np.linspace(0, 255, 64, dtype=np.uint8)
    images = [np.broadcast_to(np.roll(ramp, 4 * i)[None, :, None], (64, 64, 3)).copy() for i in range(6)]
    path = films.write(tmp_path / f"film{suffix}", iter(images), fps=10)
    if suffix == ".gif":
        with Image.open(path) as gif:
            assert gif.n_frames == 6 and gif.info["loop"] == 0 and gif.info["duration"] == 100
    else:
        with av.open(str(path)) as container:
            shown = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        assert len(shown) == 6 and np.abs(shown[3].astype(int) - images[3]).mean() < 8


def test_the_command_makes_a_morph_and_says_what_it_cannot(tmp_path):
    people = [tmp_path / f"{name}.png" for name in sets.photographs()]
    for path, picture in zip(people, sets.photographs().values(), strict=True):
        picture.save(path)
    photo = people[0]
    out = film(people, tmp_path / "morph.gif", of="morph", steps=1, size=256, seconds=0.04)
    with Image.open(out) as gif:
        assert gif.size == (256, 256) and gif.n_frames > 1
    with pytest.raises(ValueError, match="at least two"):
        film([photo], tmp_path / "morph.mp4", of="morph")
    with pytest.raises(ValueError, match="no photographs given"):
        film([], tmp_path / "film.mp4")
    with pytest.raises(ValueError, match=r"\.mp4 or \.gif"):
        film([photo], tmp_path / "film.avi")
    with pytest.raises(ValueError, match="no direction"):
        film([photo], tmp_path / "film.mp4", of="edit", direction="wings")
    with pytest.raises(ValueError, match="even size"):
        film([photo], tmp_path / "film.mp4", size=255)
    with pytest.raises(ValueError, match="takes time"):
        film([photo], tmp_path / "film.mp4", seconds=0)
    with pytest.raises(ValueError, match="no device|cannot be used here"):
        film([photo], tmp_path / "film.mp4", device="cuda:99")
    with pytest.raises(ValueError, match="--aligned takes whole photographs"):
        film([photo], tmp_path / "film.mp4", aligned=True, face="2")


def test_all_people_of_one_photograph_become_each_other(tmp_path):
    """`--face` as for `restyle invert`: one of them, or all of them one after the other."""
    people = [picture.convert("RGB").resize((300, 360)) for picture in list(sets.photographs().values())[:2]]
    group = Image.new("RGB", (700, 400), "grey")
    for i, picture in enumerate(people):
        group.paste(picture, (20 + 340 * i, 20))
    folder = tmp_path / "group"
    folder.mkdir()
    group.save(folder / "two.png")
    options = {"steps": 1, "size": 256, "seconds": 0.04, "device": "cpu"}
    out = film([folder], tmp_path / "morph.gif", of="morph", face="all", **options)
    frames = frames_of(out)
    assert np.abs(frames[0] - frames[len(frames) // 2]).mean() > 5, "another person"
    second = frames_of(film([folder], tmp_path / "second.gif", of="edit", face="2", **options))
    assert np.abs(second[0] - frames[len(frames) // 2]).mean() < 12 < np.abs(second[0] - frames[0]).mean()
    with pytest.raises(PhotoError, match=r"two\.png: there is no face 3"):
        film([folder], tmp_path / "third.gif", face="3", **options)
    people[0].save(tmp_path / "one.png")
    with pytest.raises(ValueError, match=r"at least two people, and .*one\.png has one"):
        film([tmp_path / "one.png"], tmp_path / "film.gif", of="morph", face="all", **options)


def test_a_film_of_a_checkpoint_takes_its_domain_and_input_size(tmp_path):
    """No face is looked for where the model is said not to be of faces, and pictures keep their proportions."""
    torch.save(random_checkpoint("cars", size=16, mapping=1), tmp_path / "cars.pt")
    Image.linear_gradient("L").resize((400, 300)).save(tmp_path / "photo.png")
    options = {"model": str(tmp_path / "cars.pt"), "steps": 1, "size": 64, "seconds": 0.04, "device": "cpu"}
    film([tmp_path / "photo.png"], tmp_path / "car.gif", **options)
    film([tmp_path / "photo.png"], tmp_path / "own.gif", domain="own", input_size="64", **options)
    assert frames_of(tmp_path / "car.gif")[0].shape[:2] == (48, 64)
    assert frames_of(tmp_path / "own.gif")[0].shape[:2] == (64, 64)
    with pytest.raises(PhotoError, match=r"photo\.png: no face found.*--domain own"):
        film([tmp_path / "photo.png"], tmp_path / "face.gif", domain="faces", **options)
    options |= {"domain": "own", "input_size": "64x128", "aligned": True}
    with pytest.raises(PhotoError, match="not cropped to 128 : 64"):
        film([tmp_path / "photo.png"], tmp_path / "wide.gif", **options)


def frames_of(gif) -> list[np.ndarray]:
    """The frames of a film, [h, w, 3]."""
    with Image.open(gif) as film:
        return [np.asarray(frame.convert("RGB"), dtype=float) for frame in ImageSequence.Iterator(film)]
