"""`restyle invert` on every kind of photograph, good and bad; the assets; the environment files."""

import contextlib
import functools
import io
import signal
import subprocess
import sys
import tomllib
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pillow_heif
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

import restyle_lib as rl
from restyle_lib import images
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.commands import cli, common, evaluate
from restyle_lib.evaluation import sets
from restyle_lib.images import open_photo
from restyle_lib.inversion import inverter
from restyle_lib.inversion.result import Inversion
from restyle_lib.making.stand_ins import random_checkpoint

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def photos(tmp_path_factory) -> Path:
    """A folder of one face in many formats, and of files that are no photographs."""
    folder = tmp_path_factory.mktemp("photos")
    face = sets.photographs()["Eileen Collins"].crop((90, 0, 390, 300))
    face.save(folder / "good.png")
    face.convert("L").save(folder / "grey.png")
    face.convert("CMYK").save(folder / "cmyk.jpg")
    rgba = face.convert("RGBA")
    alpha = np.full((300, 300), 255, np.uint8)
    alpha[:, :20] = 0
    rgba.putalpha(Image.fromarray(alpha))
    rgba.save(folder / "rgba.png")
    face.quantize(64).save(folder / "palette.gif")
    grey16 = np.asarray(face.convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey16).save(folder / "grey16.png")
    Image.fromarray(np.asarray(face.convert("L")).astype(np.int32)).save(folder / "integers.tiff")
    exif = Image.Exif()
    exif[0x0112] = 6  # "rotate by 90 degrees to view"
    face.transpose(Image.Transpose.ROTATE_90).save(folder / "exif.jpg", exif=exif)
    face.resize((4600, 4600), Image.Resampling.BICUBIC).save(folder / "huge.jpg")
    whole = (folder / "good.png").read_bytes()
    (folder / "truncated.png").write_bytes(whole[: len(whole) // 2])
    (folder / "zero.jpg").write_bytes(b"")
    (folder / "text.jpg").write_text("this is not a photograph")
    Image.new("RGB", (400, 300), "skyblue").save(folder / "sky.png")
    return folder


GOOD = ["integers.tiff", "grey.png", "cmyk.jpg", "rgba.png", "palette.gif", "grey16.png", "exif.jpg", "huge.jpg"]


@pytest.mark.parametrize("name", GOOD)
def test_every_kind_of_photograph_gives_the_same_face(photos, name):
    expected = rl.align(open_photo(photos / "good.png"), 128).convert("L")
    aligned = rl.align(open_photo(photos / name), 128)
    assert aligned.mode == "RGB"
    difference = np.abs(np.asarray(aligned.convert("L"), float) - np.asarray(expected, float))
    assert difference[20:, 20:-20].mean() < 12


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("truncated.png", "damaged or truncated"),
        ("zero.jpg", "empty"),
        ("text.jpg", "not an image"),
        ("missing.jpg", "no such file"),
        (".", "a folder"),
    ],
)
def test_bad_files_say_why(photos, name, message):
    with pytest.raises(rl.PhotoError, match=message):
        open_photo(photos / name)


@pytest.mark.parametrize("kind", ["jpg", "png", "progressive.jpg"])
def test_a_photograph_that_lacks_its_last_bytes_is_used_under_a_notice(photos, tmp_path, kind):
    path, face = tmp_path / f"cut.{kind}", Image.open(photos / "good.png")
    face.save(path, progressive=kind.startswith("progressive"))
    data = path.read_bytes()
    whole = np.asarray(open_photo(path), float)
    path.write_bytes(data[: len(data) * 95 // 100])
    with pytest.warns(UserWarning, match="lacks its end"):
        cut = np.asarray(open_photo(path), float)
    assert cut.shape == whole.shape and np.abs(cut - whole)[:200].mean() < 3
    with path.open("rb") as file, pytest.warns(UserWarning, match="lacks its end"):
        assert np.array_equal(np.asarray(open_photo(file), float), cut)
    with pytest.raises(rl.PhotoError, match="damaged or truncated"):
        open_photo(path, whole=True)
    path.write_bytes(data[: len(data) * 30 // 100])
    with pytest.raises(rl.PhotoError, match="damaged or truncated"):
        open_photo(path)
    path.write_bytes(data)
    assert np.array_equal(np.asarray(open_photo(path), float), whole), "strict again"


def test_heic_opens_or_says_what_it_needs(photos, tmp_path, monkeypatch):
    path = tmp_path / "IMG_0001.jpg"  # phones that share a file often rename it
    path.write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    images._read_heic.cache_clear()
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(rl.PhotoError, match="a HEIC photograph.*pip install pillow-heif"):
        open_photo(path)
    monkeypatch.undo()
    images._read_heic.cache_clear()
    pillow_heif.register_heif_opener()  # to write one; `open_photo` does so where it meets one
    Image.open(photos / "good.png").save(tmp_path / "good.heic", quality=95)
    opened, original = (np.asarray(open_photo(path), float) for path in (tmp_path / "good.heic", photos / "good.png"))
    assert np.abs(opened - original).mean() < 4


@functools.lru_cache(maxsize=3)
def opened(path: Path, changed: int, domain, input_size) -> inverter.Inverter:
    return inverter.load_inverter(path, domain, input_size)


@pytest.fixture(autouse=True)
def once(monkeypatch):
    """Files of hundreds of megabytes are opened once for all calls, which do not change what they use."""

    def load_inverter(model, domain=None, input_size=None) -> inverter.Inverter:
        path = Path(model)
        if path.is_file():
            return opened(path, path.stat().st_mtime_ns, domain, input_size)
        return inverter.load_inverter(model, domain, input_size)

    monkeypatch.setattr(common, "load_inverter", load_inverter)


def restyle(*words) -> subprocess.CompletedProcess:
    """What the command does and says, in this process: to start another takes longer than most of what is asked."""
    out, err = io.StringIO(), io.StringIO()
    with (
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(SystemExit) as ended,
    ):
        warnings.simplefilter("ignore")
        warnings.simplefilter("default", UserWarning)
        patch.setattr(sys, "argv", ["restyle", *map(str, words)])
        cli.main()
    return subprocess.CompletedProcess(words, ended.value.code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def official(tmp_path_factory) -> dict[str, Path]:
    """Official checkpoints with random weights and a generator of 16 px, by domain: paths of files to be read only."""
    folder = tmp_path_factory.mktemp("official")
    paths = {domain: folder / f"restyle_psp_{dataset}.pt" for domain, dataset in OFFICIAL.items()}
    for domain, path in paths.items():
        torch.save(random_checkpoint(domain, size=16, mapping=1), path)
    return paths


OFFICIAL = {"faces": "ffhq_encode", "church": "church_encode"}


def test_invert_does_the_good_ones_and_reports_the_others(photos, tmp_path):
    names = ["zero.jpg", "good.png", "text.jpg", "truncated.png", "exif.jpg", "sky.png"]
    command = [sys.executable, "-m", "restyle_lib.commands.cli", "invert", *(photos / name for name in names)]
    command += ["--out", tmp_path / "out", "--steps", "2"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert result.returncode == 1
    assert "2 inverted" in result.stdout and "4 skipped" in result.stdout
    skipped = [line.strip() for line in result.stderr.replace("\r", "\n").splitlines() if "skipped" in line]
    assert len(skipped) == 4 and "Traceback" not in result.stderr
    for line, reason in zip(skipped, ["empty", "not an image", "truncated", "no face found"], strict=True):
        assert reason in line
    made = {path.name for path in (tmp_path / "out").iterdir()}
    endings = ("-steps.png", "-1024.png", "-input.png", ".safetensors")
    assert made == {stem + ending for stem in ("good", "exif") for ending in endings}
    assert Image.open(tmp_path / "out" / "good-1024.png").size == (1024, 1024)
    assert load_file(tmp_path / "out" / "good.safetensors")["latents"].shape == (3, 16, 512)


def test_a_small_face_keeps_its_own_resolution(photos, official, tmp_path):
    """As it was found, and as it was given; the result is at full size all the same."""
    good = Image.open(photos / "good.png")
    good.resize((150, 150), Image.Resampling.LANCZOS).save(tmp_path / "far.png")
    rl.align(good, 80).save(tmp_path / "cropped.png")
    options = ("--steps", 1, "--model", official["faces"])
    assert restyle("invert", tmp_path / "far.png", "--out", tmp_path / "far", *options).returncode == 0
    assert restyle("invert", tmp_path / "cropped.png", "--out", tmp_path / "cut", "--aligned", *options).returncode == 0
    side = Image.open(tmp_path / "far" / "far-input.png").width
    assert side == Image.open(tmp_path / "far" / "far-input.png").height and 60 < side < 100
    assert Image.open(tmp_path / "cut" / "cropped-input.png").size == (80, 80)
    Image.open(tmp_path / "far" / "far-input.png").resize((96, 96)).save(tmp_path / "other.png")
    folder = tmp_path / "several"
    folder.mkdir()
    for name in ("cropped", "other"):
        (folder / f"{name}.png").write_bytes((tmp_path / f"{name}.png").read_bytes())
    sizes = [tuple(x.shape[2:]) for x in sets.batches(folder, DOMAINS["faces"], {}, aligned=True)]
    assert sizes == [(80, 80), (96, 96)]
    assert sets.of_folder(folder, DOMAINS["faces"], aligned=True)[1].shape == (2, 3, 256, 256)


def test_photographs_of_one_name_do_not_overwrite_each_other(photos, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    Image.open(photos / "good.png").save(other / "good.png")
    result = restyle("invert", photos / "good.png", other / "good.png", "--out", tmp_path / "out", "--steps", 1)
    assert result.returncode == 0
    assert (tmp_path / "out" / "good-2-1024.png").exists()


def test_names_that_some_systems_take_for_one_are_kept_apart():
    taken = set()
    names = [cli._unique(stem, taken) for stem in ("IMG", "img", "caf\u00e9", "cafe\u0301", "img-2", "IMG")]
    assert names == ["IMG", "img-2", "caf\u00e9", "cafe\u0301-2", "img-2-2", "IMG-3"]


def test_an_official_checkpoint_inverts_and_converts(photos, official, tmp_path):
    ours = tmp_path / "mine.safetensors"
    assert restyle("convert", official["faces"], ours).returncode == 0
    latents = []
    for model in (official["faces"], ours):
        out = tmp_path / model.stem
        result = restyle("invert", photos / "good.png", "--out", out, "--steps", 2, "--model", model)
        assert result.returncode == 0, result.stderr
        assert Image.open(out / "good-16.png").size == (16, 16) and (out / "good-steps.png").exists()
        latents.append(load_file(out / "good.safetensors")["latents"])
    assert latents[0].shape == (3, 6, 512) and torch.equal(*latents)


def test_only_faces_have_directions(photos, official, tmp_path):
    options = ("--out", tmp_path / "out", "--direction", "smile", "--model", official["church"])
    result = restyle("edit", photos / "good.png", *options)
    assert result.returncode == 2 and "is of church; smile is a direction of faces" in result.stderr


def test_two_directions_of_one_name_are_refused(tmp_path):
    """Their results would have one name too."""
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        torch.save(torch.randn(512), tmp_path / folder / "mine.pt")
    asked = [str(tmp_path / folder / "mine.pt") for folder in ("a", "b")]
    with pytest.raises(ValueError, match="two directions are named mine"):
        cli.edit([tmp_path / "me.png"], tmp_path / "out", asked)


def test_a_person_of_several_is_chosen(photos, official, tmp_path):
    face, group = Image.open(photos / "good.png"), Image.new("RGB", (700, 320), "grey")
    group.paste(face, (10, 10))
    group.paste(face.resize((200, 200)), (450, 60))
    group.save(tmp_path / "group.png")
    options = ("--steps", 1, "--model", official["faces"])
    result = restyle("invert", tmp_path / "group.png", "--out", tmp_path / "one", *options)
    assert result.returncode == 0 and "group.png: 2 faces, of which the largest is taken; see --face" in result.stderr
    result = restyle("invert", tmp_path / "group.png", "--out", tmp_path / "all", *options, "--face", "all")
    assert result.returncode == 0 and "2 inverted" in result.stdout
    crops = {name: Image.open(tmp_path / "all" / f"{name}-input.png") for name in ("group", "group-2")}
    assert np.array_equal(np.asarray(crops["group"]), np.asarray(Image.open(tmp_path / "one" / "group-input.png")))
    assert not np.array_equal(np.asarray(crops["group"]), np.asarray(crops["group-2"]))
    result = restyle("invert", tmp_path / "group.png", "--out", tmp_path / "three", *options, "--face", "3")
    assert result.returncode == 1 and "there is no face 3: 2 found" in result.stderr
    assert restyle("invert", tmp_path / "group.png", "--out", tmp_path, *options, "--face", "me").returncode == 2


def test_the_result_goes_back_into_the_photograph(photos, official, tmp_path):
    """That of all faces into one picture, at the photograph's size; nothing but faces changes."""
    face, group = Image.open(photos / "good.png"), Image.new("RGB", (700, 320), "grey")
    group.paste(face, (10, 10))
    group.paste(face.resize((200, 200)), (450, 60))
    exif = Image.Exif()
    exif[0x0112] = 6
    group.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "group.png", exif=exif)
    options = ("--out", tmp_path / "out", "--steps", 1, "--model", official["faces"], "--face", "all", "--paste")
    assert restyle("invert", tmp_path / "group.png", *options).returncode == 0
    assert restyle("edit", tmp_path / "group.png", "--direction", "smile", *options).returncode == 0
    made = {path.name for path in (tmp_path / "out").glob("*-pasted.png")}
    assert made == {"group-pasted.png", "group-smile+2-pasted.png"}
    changed = np.asarray(Image.open(tmp_path / "out" / "group-pasted.png")) != np.asarray(group)
    assert changed.shape == (320, 700, 3)
    assert changed[130, 110:200].any() and changed[150, 520:580].any() and not changed[:, 340:430].any()
    result = restyle("invert", photos / "sky.png", "--out", tmp_path, "--model", official["church"], "--paste")
    assert result.returncode == 2 and "--paste is for faces" in result.stderr


def test_a_grid_and_several_edits_at_once(photos, official, tmp_path):
    options = (photos / "good.png", "--out", tmp_path / "out", "--steps", 1, "--model", official["faces"])
    directions = ("--direction", "smile", "--direction", "smile=1,age=-0.5")
    result = restyle("edit", *directions, "--range=-2:2:5", *options)
    assert result.returncode == 0, result.stderr
    assert restyle("edit", *directions, *options).returncode == 0
    out = tmp_path / "out"
    stems = ("good-smile+2", "good-smile+1,age-0.5")
    expected = {f"{stem}{ending}" for stem in stems for ending in ("-16.png", ".safetensors")}
    assert {p.name for p in out.iterdir()} == expected | {f"good-edits-{x}" for x in ("grid.png", "strip.png")} | {
        "good-edits-grid.safetensors"
    }
    grid = load_file(out / "good-edits-grid.safetensors")["latents"]
    assert grid.shape == (2, 5, 6, 512)
    single, both = (load_file(out / f"{stem}.safetensors")["latents"] for stem in stems)
    assert torch.allclose(grid[0, 4], single[0]) and torch.allclose(grid[1, 3], both[0], atol=1e-6)
    assert torch.equal(grid[0, 2], grid[1, 2])


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--direction", "smile,age"], "several at once need numbers"),
        (["--direction", "smile=much"], "'much' is no number"),
        (["--direction", "smile", "--range=1:2"], "not LOW:HIGH:COUNT"),
        (["--direction", "smile", "--range=1:2:1"], "2 to 21 strengths"),
        (["--direction", "smile", "--range=nan:2:5"], "between two numbers"),
        (["--direction", "smile", "--optimize=-1"], "0 for none; not -1"),
        (["--direction", "smile", "--aligned", "--face=all"], "--aligned takes whole photographs"),
        ([], "no --direction given; there are smile"),
    ],
)
def test_edits_that_cannot_be_are_one_line(photos, tmp_path, words, message, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["restyle", "edit", str(photos / "good.png"), "--out", str(tmp_path), *words])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2 and message in error and len(error.strip().splitlines()) == 1


def test_a_range_that_is_even_has_its_0():
    assert cli._range("-1:1:11")[5] == 0 and cli._range("-2:2:21")[10] == 0
    assert cli._range("-1:1:11")[0] == -1 and f"{cli._range('-1:1:11')[4]:+g}" == "-0.2"


def test_a_folder_is_aligned_and_inverted(photos, official, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    for name in ("good.png", "sky.png"):
        (folder / name).write_bytes((photos / name).read_bytes())
    (folder / "notes.txt").write_text("no photograph, and not taken for one")
    result = restyle("align", folder, "--out", tmp_path / "aligned", "--size", 128)
    assert result.returncode == 1 and "1 aligned" in result.stdout and "1 skipped" in result.stdout
    assert "sky.png: no face found" in result.stderr and "notes" not in result.stderr
    (made,) = (tmp_path / "aligned").iterdir()
    expected = rl.align(open_photo(photos / "good.png"), 128)
    assert made.name == "good.png" and np.array_equal(np.asarray(Image.open(made)), np.asarray(expected))
    options = ("--out", tmp_path / "out", "--steps", 1, "--model", official["church"])
    assert restyle("invert", folder, *options).returncode == 0
    assert {path.name for path in (tmp_path / "out").glob("*-16.png")} == {"good-16.png", "sky-16.png"}


def test_a_call_that_was_stopped_goes_on(photos, official, tmp_path):
    """Of the same file, model and settings nothing is made again; whatever is missing, or of others, is."""
    folder, out = tmp_path / "folder", tmp_path / "out"
    folder.mkdir()
    for name in ("good.png", "sky.png", "grey.png"):
        (folder / name).write_bytes((photos / name).read_bytes())

    def run(steps: int = 1) -> dict[str, int]:
        assert cli.invert([folder], out, steps=steps, model=str(official["church"]), device="cpu") == 0
        return {path.name: path.stat().st_mtime_ns for path in out.iterdir()}

    first = run()
    assert len(first) == 12 and run() == first, "all of it is there"
    (out / "sky.safetensors").unlink()  # as a kill leaves it: written last
    (out / "good-16.png").unlink()
    (folder / "grey.png").write_bytes((photos / "good.png").read_bytes())
    second = run()
    assert set(second) == set(first) and all(second[name] > first[name] for name in first)
    (out / "sky.safetensors").write_bytes(b"torn")
    third = run()
    assert {name for name in third if third[name] > second[name]} == {name for name in first if name.startswith("sky")}
    assert all(run(steps=2)[name] > third[name] for name in first), "of other settings"


def test_what_ctrl_c_made_end_early_is_not_finished(photos, tmp_path, monkeypatch, official):
    """A search of one photograph keeps what it found, for the next call to do anew; of several the call ends."""
    before, pressed = signal.signal(signal.SIGINT, signal.default_int_handler), [True]

    def search(inverter, x, result, steps, interruptible):
        try:
            if pressed.pop():
                signal.raise_signal(signal.SIGINT)
        except KeyboardInterrupt:
            if not interruptible:
                raise
        return Inversion(*(torch.cat([part, part[:, -1:]], 1) for part in (result.latents, result.images)))

    monkeypatch.setattr(cli, "hybrid", search)
    options = {"steps": 1, "optimize": 1, "model": str(official["church"]), "device": "cpu"}
    for _ in range(2):
        assert cli.invert([photos / "sky.png"], tmp_path, **options) == 0
        pressed.append(False)
    assert cli.invert([photos / "sky.png"], tmp_path, **options) == 0 and pressed == [False]  # it is there already
    pressed[:] = [True]
    with pytest.raises(KeyboardInterrupt):
        cli.invert([photos / "sky.png", photos / "good.png"], tmp_path / "two", **options)
    assert signal.signal(signal.SIGINT, before) is signal.default_int_handler, "as it was"


def test_photographs_are_never_written_over(photos, tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "good.png").write_bytes(content := (photos / "good.png").read_bytes())
    with pytest.raises(ValueError, match="holds the photographs themselves"):
        cli.align_photos([folder / "good.png"], tmp_path / "folder" / ".." / "folder", size=64)
    with pytest.raises(ValueError, match="holds the photographs themselves"):
        cli.invert([folder], folder)
    assert [path.read_bytes() for path in folder.iterdir()] == [content]
    with pytest.raises(ValueError, match="is the checkpoint itself"):
        cli.convert(folder / "good.png", folder / "good.png")


def test_edits_that_were_stopped_go_on(photos, official, tmp_path):
    torch.save(torch.ones(512), tmp_path / "one.pt")
    folder, out, options = tmp_path / "folder", tmp_path / "out", {"steps": 1, "model": str(official["church"])}
    folder.mkdir()
    for name in ("good.png", "sky.png"):
        (folder / name).write_bytes((photos / name).read_bytes())

    def run(what: Path = folder, **more) -> dict[str, int]:
        assert cli.edit([what], out, [str(tmp_path / "one.pt")], device="cpu", **options, **more) == 0
        return {path.name: path.stat().st_mtime_ns for path in out.iterdir()}

    first = run()
    assert len(first) == 6 and run() == first, "all of it is there"
    (out / "good-one+2-16.png").unlink()
    second = run()
    assert {name for name in first if second[name] > first[name]} == {name for name in first if "good" in name}
    torch.save(torch.zeros(512), tmp_path / "one.pt")  # another direction of the same name
    third = run(folder / "sky.png")
    assert {name for name in first if third[name] > second[name]} == {name for name in first if "sky" in name}
    grid = run(folder / "sky.png", span="-1:1:2")
    assert set(grid) - set(first) == {"sky-one-grid.png", "sky-one-grid.safetensors"}
    assert run(folder / "sky.png", span="-1:1:2") == grid and run(folder / "sky.png", span="-1:1:3") != grid


def test_files_that_another_call_replaced_are_made_again(photos, official, tmp_path):
    """The strip of several edits has one name, whichever they are; and each step may be of another model."""
    for name in ("one", "two", "three"):
        torch.save(torch.full((512,), len(name) / 10), tmp_path / f"{name}.pt")
    options = {"steps": 1, "model": str(official["church"]), "device": "cpu"}

    def strip(*names: str) -> bytes:
        assert (
            cli.edit([photos / "sky.png"], tmp_path, [str(tmp_path / f"{name}.pt") for name in names], **options) == 0
        )
        return (tmp_path / "sky-edits-strip.png").read_bytes()

    first = strip("one", "two")
    assert strip("two", "three") != first and strip("one", "two") == first

    def step(tolerance: float, every_step: bool) -> int:
        each = options | {"tolerance": tolerance, "every_step": every_step}
        assert cli.invert([photos / "sky.png"], tmp_path, **each) == 0
        return (tmp_path / "sky-step1-16.png").stat().st_mtime_ns

    before = step(0.0, True)
    assert step(0.0, True) == step(0.5, False) == before < step(0.5, True)


def test_results_of_every_step_and_how_near_two_folders_are(photos, official, tmp_path, capsys):
    out, options = tmp_path / "out", {"steps": 2, "model": str(official["church"]), "device": "cpu"}
    assert cli.invert([photos / "good.png"], out, **options) == 0
    assert cli.invert([photos / "good.png"], out, every_step=True, **options) == 0, "what is there lacks them"
    steps = [np.asarray(Image.open(out / f"good-step{t}-16.png"), int) for t in range(3)]
    assert not np.array_equal(steps[0], steps[1])
    assert np.array_equal(steps[2], np.asarray(Image.open(out / "good-16.png"), int))
    for folder, change in (("one", 0), ("two", 51)):
        (tmp_path / folder).mkdir()
        for name in ("a", "b"):
            Image.new("RGB", (70, 70), (100 + change,) * 3).save(tmp_path / folder / f"{name}.png")
    Image.new("RGB", (70, 70)).save(tmp_path / "one" / "alone.png")
    capsys.readouterr()
    assert evaluate.compare(tmp_path / "one", tmp_path / "two", faces=False, out=tmp_path / "pairs.csv") == 1
    said, table = capsys.readouterr().out, pd.read_csv(tmp_path / "pairs.csv")
    assert "skipped alone: only in one" in said and "2 pairs" in said
    assert table.L2.tolist() == pytest.approx([0.16, 0.16], rel=1e-3) and list(table.name) == ["a", "b"]
    with pytest.raises(ValueError, match="no two images of one name"):
        evaluate.compare(tmp_path / "one", photos, faces=False)


def test_without_the_shipped_weights_one_line_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(inverter, "WEIGHTS", tmp_path)
    with pytest.raises(ValueError, match="the shipped weights are not in .*pip install --editable"):
        rl.load_inverter("faces/psp")


def test_an_own_domain_is_said_with_the_command(photos, tmp_path):
    """A checkpoint that calls itself faces by default: no face is asked for, a direction may come from a file."""
    content = random_checkpoint("church", size=16, mapping=1)
    content["opts"]["dataset_type"] = "ffhq_encode"
    del content["latent_avg"]
    torch.save(content, tmp_path / "maps.pt")
    torch.save(torch.ones(1, 512), tmp_path / "wet.pt")
    options = ("--out", tmp_path / "out", "--steps", 1, "--model", tmp_path / "maps.pt", "--device", "cpu")
    result = restyle("invert", photos / "sky.png", *options)
    assert result.returncode == 1 and "no face found" in result.stderr and "--domain own" in result.stderr
    notes = [line for line in result.stderr.splitlines() if "latent_avg" in line]
    assert len(notes) == 1 and notes[0].startswith("note: "), "warnings are one line"
    options += ("--domain", "own")
    direction = ("--direction", tmp_path / "wet.pt", "--strength", 2)
    assert restyle("edit", photos / "sky.png", *options, *direction).returncode == 0
    code = load_file(tmp_path / "out" / "sky-wet+2.safetensors")["latents"]
    assert restyle("invert", photos / "sky.png", *options, "--input-size", "128x256").returncode == 0
    assert Image.open(tmp_path / "out" / "sky-input.png").size == (512, 256)
    assert restyle("invert", photos / "sky.png", *options).returncode == 0
    inverted = load_file(tmp_path / "out" / "sky.safetensors")["latents"][-1]
    assert torch.allclose(code[0], inverted + 2, atol=1e-3)
    wrong = restyle("edit", photos / "sky.png", *options, "--direction", photos / "none.pt")
    assert wrong.returncode == 2 and "no such file" in wrong.stderr


def test_devices_and_names_that_cannot_be_are_one_line(photos, tmp_path):
    result = restyle("invert", photos / "good.png", "--out", tmp_path, "--device", "cuda:99")
    assert result.returncode == 2 and "device 'cuda:99' cannot be used here" in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1


def test_results_of_a_long_name(photos, official, tmp_path):
    long = tmp_path / ("ä" * 120 + ".png")
    long.write_bytes((photos / "sky.png").read_bytes())
    options = ("--out", tmp_path / "out", "--steps", 1, "--model", official["church"])
    assert restyle("invert", long, long, *options).returncode == 0
    stems = {path.name.partition("-input")[0] for path in (tmp_path / "out").glob("*-input.png")}
    assert stems == {"ä" * 75, "ä" * 75 + "-2"}


def test_a_file_that_is_no_checkpoint_is_one_line(photos, tmp_path):
    for command in (
        ["convert", photos / "text.jpg", tmp_path / "out.safetensors"],
        ["invert", photos / "good.png", "--out", tmp_path, "--model", photos / "text.jpg"],
    ):
        result = restyle(*command)
        assert result.returncode == 2 and "not a checkpoint of any known format" in result.stderr
        assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out.safetensors").exists()


def test_expected_failures_are_one_line(photos, tmp_path):
    result = restyle("invert", photos / "good.png", "--out", tmp_path, "--model", "faces/unknown")
    assert result.returncode == 2 and "Traceback" not in result.stderr
    assert "faces/restyle-psp" in result.stderr
    result = restyle("invert", "--out", tmp_path)
    assert result.returncode == 2 and "no photographs given" in result.stderr


def test_aligned_photographs_are_not_squashed(photos, tmp_path):
    Image.new("RGB", (400, 300)).save(tmp_path / "wide.png")
    face = rl.align(open_photo(photos / "good.png"), 256)
    face.save(tmp_path / "face.png")
    paths = [tmp_path / "wide.png", tmp_path / "face.png"]
    result = restyle("invert", *paths, "--out", tmp_path / "out", "--steps", 1, "--aligned")
    assert result.returncode == 1 and "wide.png: 400 x 300" in result.stderr
    assert (tmp_path / "out" / "face-1024.png").exists()


def test_environment_yml_agrees_with_pyproject():
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    environment = yaml.safe_load((REPOSITORY / "environment.yml").read_text())
    pip = next(entry["pip"] for entry in environment["dependencies"] if isinstance(entry, dict))
    assert set(pip) == {*project["dependencies"], *project["optional-dependencies"]["test"], "--editable ."}
    assert all("==" in requirement for requirement in pip if not requirement.startswith("--"))
    assert environment["name"] == project["name"]


def test_eval_measures_a_folder(photos, tmp_path):
    """Two methods on what can be used of a folder; the rest is named, and the table is in the file."""
    folder = tmp_path / "some"
    folder.mkdir()
    for name in ("good.png", "grey.png"):
        (folder / name).write_bytes((photos / name).read_bytes())
    (folder / "broken.jpg").write_text("not a photograph")
    (folder / "notes.txt").write_text("not called like one")
    models, out = ["faces/psp", "faces/restyle-psp"], tmp_path / "table.csv"
    run = restyle("eval", *models, "--images", folder, "--steps", 2, "--out", out)
    assert run.returncode == 1 and "skipped notes.txt" in run.stdout and "2 images" in run.stdout
    assert "skipped broken.jpg" in run.stdout
    table = pd.read_csv(out)
    assert set(table.method) == set(models) and (table.n == 2).all()
    l2 = table[table.metric == "L2"].set_index(["method", "step"])["mean"]
    assert l2["faces/restyle-psp", 2] < l2["faces/restyle-psp", 0]
    assert restyle("eval", "faces/nothing").returncode == 2
    assert "100%" in run.stderr, "a bar"


def test_eval_of_aligned_images_crops_nothing(photos, tmp_path):
    """Images of FFHQ or CelebA-HQ are measured as they are: no face is looked for, and none cropped once more."""
    folder = tmp_path / "aligned"
    folder.mkdir()
    face = rl.align(open_photo(photos / "good.png"), 300)
    face.save(folder / "face.png")
    Image.new("RGB", (256, 256), "skyblue").save(folder / "sky.png")
    Image.new("RGB", (400, 300)).save(folder / "wide.png")
    out = tmp_path / "table.csv"
    run = restyle("eval", "faces/psp", "--images", folder, "--aligned", "--out", out)
    assert run.returncode == 1 and "skipped wide.png: 400 x 300, not cropped to 256 : 256" in run.stdout
    assert (pd.read_csv(out).n == 2).all()
    skipped = {}
    (x,) = sets.batches(folder, DOMAINS["faces"], skipped, aligned=True)
    assert x.shape == (2, 3, 256, 256) and list(skipped) == ["wide.png"]
    assert torch.equal(x[:1], rl.to_tensor(face.resize((256, 256), Image.Resampling.BICUBIC)))
    assert restyle("eval", "faces/psp", "--images", tmp_path / "nowhere").returncode == 2
    run = restyle("eval", "faces/psp", "--aligned")
    assert run.returncode == 2 and "--images" in run.stderr


def test_quality_best_tunes_the_generator_and_keeps_it(photos, tmp_path, monkeypatch):
    """At toy length; the words are numbers of steps, and those of the search can be given."""
    monkeypatch.setattr(cli, "QUALITY", {"fast": cli.Effort(0, 0), "best": cli.Effort(2, 2)})
    out = tmp_path / "out"
    assert cli.invert([photos / "good.png"], out, quality="best", steps=1) == 0
    code = load_file(out / "good.safetensors")["latents"][-1:]
    tuned = rl.load_generator(out / "good-tuned.safetensors")
    drawn = np.asarray(Image.open(out / "good-1024.png"), float)
    assert np.abs(np.asarray(rl.to_image(tuned.synthesize(code)), float) - drawn).mean() < 1
    assert load_file(out / "good.safetensors")["latents"].shape == (3, 16, 512)  # w_avg, one step, the search
    assert cli.QUALITY["best"] != cli._effort("best", 0, []) == cli.Effort(0, 2)


def test_quality_best_is_of_the_embedded_generator(photos, official, tmp_path):
    with pytest.raises(ValueError, match="--quality good"):
        cli.invert([photos / "good.png"], tmp_path / "out", quality="best", model=str(official["faces"]))
