"""Whatever is given instead of a plain photograph comes out right or is one clear line, and loses nothing beside it."""

import csv
import io
import subprocess
import sys
import threading
import warnings
from pathlib import Path

import bad_images
import numpy as np
import pytest
import torch
from bad_images import KINDS
from PIL import Image
from test_photographs import Blank

import restyle_lib as rl
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.commands import cli
from restyle_lib.evaluation import sets
from restyle_lib.images import is_called_photo, open_photo
from restyle_lib.inversion.result import Inversion
from restyle_lib.making.stand_ins import random_checkpoint
from restyle_lib.training.sources import generator_for
from restyle_lib.training.sources.photographs import Photographs
from restyle_lib.widgets.photo import PhotoPanel
from restyle_lib.widgets.session import Session

OPENS = [name for name, kind in KINDS.items() if not kind.says]
SHOWS_FACE = [name for name in OPENS if KINDS[name].face]
TOLERANCE = 4  # levels of 255, on average: of JPEG, palettes and conversions


@pytest.fixture(scope="module")
def face() -> Image.Image:
    return sets.photographs()["Eileen Collins"].crop((90, 0, 90 + bad_images.SIDE, bad_images.SIDE))


@pytest.fixture(scope="module")
def files(face, tmp_path_factory) -> dict[str, Path]:
    return bad_images.write(tmp_path_factory.mktemp("kinds"), face)


def difference(image: Image.Image, other: Image.Image) -> float:
    """Mean of |a - b| in colours, or in grey where that is less."""
    pairs = ((image, other), (image.convert("L"), other.convert("L")))
    return min(np.abs(np.asarray(a, float) - np.asarray(b, float)).mean() for a, b in pairs)


def test_a_face_that_looks_aside_is_noted_or_refused(files):
    with pytest.warns(UserWarning, match="seen from the side"):
        rl.align(open_photo(files["half-in-profile"]), 64)
    with pytest.raises(rl.NoFaceError, match="looks towards the camera"):
        rl.align(open_photo(files["in-profile"]), 64)


def test_there_are_many_kinds():
    assert len(KINDS) >= 60 and len(SHOWS_FACE) >= 40


@pytest.mark.filterwarnings("ignore::UserWarning")  # notes about EXIF, about faces that look aside
@pytest.mark.parametrize("name", KINDS)
def test_each_kind_is_right_or_one_clear_line(name, files, face):
    kind, path = KINDS[name], files[name]
    if kind.says:
        with pytest.raises(rl.PhotoError, match=kind.says) as caught:
            open_photo(path)
        assert str(caught.value).startswith(str(path)) and len(str(caught.value).splitlines()) == 1
        with pytest.raises(rl.PhotoError, match=kind.says):
            open_photo(io.BufferedReader(path.open("rb")))
        return
    image = open_photo(path)
    assert image.mode == "RGB" and not image.info
    if kind.same:
        assert image.size == face.size and difference(image, face) < TOLERANCE
    if kind.face:
        assert rl.align(image, 64).size == (64, 64)
        with Image.open(path) as raw:  # what a user of the library may pass without having opened it here
            assert difference(rl.align(raw, 64), rl.align(image, 64)) < 1
    else:
        with pytest.raises(rl.NoFaceError):
            rl.align(image, 64)


@pytest.mark.parametrize("options", [{"format": "PNG"}, {"format": "JPEG"}, {"format": "JPEG", "progressive": True}])
def test_a_file_cut_at_any_boundary_is_right_where_it_opens(options, face):
    file = io.BytesIO()
    face.save(file, **options)
    content, outcomes = file.getvalue(), {"opened": 0, "refused": 0}
    for place in bad_images.boundaries(content):
        cut = io.BytesIO(content[:place])
        cut.name = "cut"
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                image = open_photo(cut)
            except rl.PhotoError:
                outcomes["refused"] += 1
                continue
        outcomes["opened"] += 1
        kept = (0, 0, bad_images.SIDE, int(0.79 * bad_images.SIDE))
        assert difference(image.crop(kept), face.crop(kept)) < TOLERANCE
        assert any("lacks its end" in str(each.message) for each in said) or difference(image, face) < TOLERANCE
    assert outcomes["opened"] >= 2 and outcomes["refused"] >= 10


def test_memory_is_bounded(files):
    """Files of a few kilobytes that claim, or unpack to, gigabytes."""
    names = ["claims-30000", "claims-2-to-the-31", "claims-169-megapixels", "comment-of-200-megabytes", "thin"]
    code = (
        "import contextlib, resource, sys\nfrom pathlib import Path\nfrom restyle_lib.images import open_photo\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for path in map(Path, sys.argv[1:]):\n"
        "    with contextlib.suppress(ValueError):\n        open_photo(path)\n"
        "print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 2**20)\n"
    )
    command = [sys.executable, "-c", code, *(str(files[name]) for name in names)]
    run = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert float(run.stdout) < 1.5, "GiB"


def test_odd_places_and_names_are_said_or_opened(face, tmp_path):
    says = dict(
        zip(
            ("folder", "loop", "dangling", "pipe"), ("a folder", "cannot be", "behind that link", "a pipe"), strict=True
        )
    )
    for path in bad_images.write_odd_places(tmp_path):
        with pytest.raises(rl.PhotoError, match=says[path.stem]):
            open_photo(path)
    for path in bad_images.write_odd_names(tmp_path, bad_images.saved(face, "PNG")):
        assert difference(open_photo(path), face) == 0
    for path in (tmp_path / ("n" * 300), tmp_path / "null\0byte.jpg", tmp_path / "none.jpg"):
        with pytest.raises(rl.PhotoError, match="no such file|cannot be opened"):
            open_photo(path)


def test_what_may_not_be_read_is_said(files, monkeypatch):
    def refused(*_, **__):
        raise PermissionError(13, "Permission denied")

    for method in ("open", "stat"):
        with monkeypatch.context() as patch:
            patch.setattr(Path, method, refused)
            with pytest.raises(rl.PhotoError, match=r"plain.png: cannot be opened \(Permission denied\)"):
                open_photo(files["plain"])


@pytest.fixture(scope="module")
def everything(face, tmp_path_factory) -> Path:
    """A folder of all kinds, odd places and odd names."""
    folder = tmp_path_factory.mktemp("everything")
    bad_images.write(folder, face)
    bad_images.write_odd_places(folder)
    bad_images.write_odd_names(folder, bad_images.saved(face, "PNG"))
    return folder


def test_the_command_does_the_good_ones_and_has_a_line_for_each_other(everything, tmp_path, capfd, monkeypatch):
    torch.save(random_checkpoint("faces", size=16, mapping=1), tmp_path / "faces.pt")
    # what takes long and does not depend on the file
    nothing = Inversion(torch.zeros(1, 2, 6, 512), torch.zeros(1, 2, 3, 16, 16))
    monkeypatch.setattr(cli.Inverter, "invert", lambda self, x, steps, callback, tolerance: nothing)
    monkeypatch.setattr(cli, "_save_strip", lambda strip, path, note: cli.figures.plt.close(strip))
    monkeypatch.setattr(cli.figures, "image_grid", lambda rows, titles: cli.figures.plt.figure())
    out = tmp_path / "out"
    assert cli.invert([everything], out, steps=1, model=str(tmp_path / "faces.pt"), device="cpu") == 1
    said = capfd.readouterr()
    lines = [line.strip() for line in said.err.replace("\r", "\n").splitlines()]
    skipped = [line for line in lines if line.startswith("skipped ")]
    bad = [name for name in KINDS if name not in SHOWS_FACE]
    for name in bad:
        (line,) = (line for line in skipped if f"/{name}{KINDS[name].suffix}:" in line)
        assert (KINDS[name].says or "no face found") in line
    for name in ("folder", "loop", "dangling", "pipe"):
        assert sum(f"/{name}.jpg:" in line for line in skipped) == 1
    assert len(skipped) == len(bad) + 4 and f"{len(skipped)} skipped" in said.out and "Traceback" not in said.err
    made = {path.name.removesuffix("-input.png") for path in out.glob("*-input.png")}
    names = {name.replace(bad_images.LONG, "n" * cli.LONGEST_NAME) for name in bad_images.NAMES} | {"caf\ufffd"}
    assert made == set(SHOWS_FACE) | names
    plain = Image.open(out / "plain-input.png")
    for name in SHOWS_FACE:
        crop = Image.open(out / f"{name}-input.png").resize(plain.size)  # of a square that may be a pixel larger
        assert not KINDS[name].same or difference(crop, plain) < 12


def test_training_uses_the_good_ones_and_lists_each_other(everything, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path / "cache"))
    domain = DOMAINS["faces"]
    pool = Photographs(Blank(domain.output_size), domain, everything, 1, report=tmp_path / "images.csv")
    with (tmp_path / "images.csv").open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        listed = {Path(row["file"]).stem: row for row in csv.DictReader(file) if row["what"] == "left out"}
    assert all(row["why"] and len(row["why"].splitlines()) == 1 for row in listed.values())
    used = {Path(name).stem for name in pool.files}
    looked_at = {name for name, kind in KINDS.items() if is_called_photo(Path(name + kind.suffix))}
    assert {"loop", "dangling", "pipe"} <= set(listed) and set(listed).isdisjoint(used)
    assert {name for name in looked_at if KINDS[name].says} <= set(listed)
    # more than 8 bits are a depth map rather than a photograph; the rest of what shows the face is learned from
    more_bits = {"16-bit-grey", "16-bit-grey-tiff", "32-bit-grey-tiff", "float-tiff", "lab-tiff", "nan", "infinite"}
    assert {name for name in looked_at & set(SHOWS_FACE) if KINDS[name].same} - more_bits <= used
    x = pool.batch(generator_for(0, 0), 4).x
    assert x.shape == (4, 3, 256, 256) and x.abs().max() <= 1
    assert f"{len(listed)} left out" in capsys.readouterr().out


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_an_upload_of_each_kind_is_shown_or_said(files):
    panel = PhotoPanel(Session(), 0)
    panel.session.wait(60)
    for name, path in files.items():
        panel.receive(path.name, path.read_bytes())
        panel.session.wait(60)
        message, kind, details = panel.session.message
        assert (kind == "error") == (name not in SHOWS_FACE), message
        assert not details, "an error that nobody expected"
        if name in SHOWS_FACE:
            assert panel.session.photo.name == path.name
        else:
            assert (KINDS[name].says or "no face found") in message


def test_a_measured_folder_leaves_out_and_names_the_others(everything):
    skipped: dict[str, str] = {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        (x,) = sets.batches(everything, DOMAINS["church"], skipped, size=32, batch=1000)
    assert set(skipped) == {f"{name}{kind.suffix}" for name, kind in KINDS.items() if kind.says} | {
        f"{name}.jpg" for name in ("loop", "dangling", "pipe")
    }
    assert len(x) == len(OPENS) + len(bad_images.NAMES) + 1


def test_threads_may_open_photographs_together(files, face):
    """Also while one of them reads a file that lacks its end, for which Pillow has a switch for all."""
    content = files["jpeg-called-png"].read_bytes()
    wrong = []

    def work(cut: bool) -> None:
        for _ in range(20):
            file = io.BytesIO(content[: len(content) * 95 // 100] if cut else content)
            file.name = "some"
            if difference(open_photo(file), face) > 6:
                wrong.append(cut)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        threads = [threading.Thread(target=work, args=(i % 2 == 0,)) for i in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert not wrong
