"""The explorer without a browser: what its controls do, and what it says where something is wrong."""

import io
import threading
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

import restyle_lib as rl
from restyle_lib import widgets
from restyle_lib.evaluation import sets
from restyle_lib.images import open_photo
from restyle_lib.inversion.edit import directions
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS
from restyle_lib.inversion.quality import QUALITY
from restyle_lib.widgets.edit import GROUPS
from restyle_lib.widgets.film import drawn_by
from restyle_lib.widgets.session import PEOPLE, Inverted, Photo, Session

METHOD, STEPS = FOR_PHOTOGRAPHS, 2
NAME = METHOD.removeprefix("faces/")


def jpeg(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "JPEG")
    return file.getvalue()


@pytest.fixture(scope="module")
def face() -> bytes:
    return jpeg(sets.photographs()["Grace Hopper"])


@pytest.fixture
def explorer():
    """A new explorer that shows the first sample."""
    explorer = widgets.explore(steps=STEPS, renders=1)
    explorer.session.wait(120)
    return explorer


@pytest.fixture(scope="module")
def inverted():
    """One that has inverted the first sample, searched and tuned, for tests that look at it."""
    explorer = widgets.explore([METHOD, "faces/psp"], STEPS)
    explorer.session.wait(120)
    invert(explorer, search=2, tuning=1)
    return explorer


def invert(explorer, search: int = 0, tuning: int = 0) -> None:
    explorer.invert.search.value, explorer.invert.tuning.value = search, tuning
    click(explorer, explorer.invert.button)


def click(explorer, button) -> None:
    button.click()
    explorer.session.wait(300)


def upload(explorer, name: str, content: bytes, piece: int = 100_000) -> None:
    """As the browser does: in pieces, of which an empty file has one too."""
    for begin in range(0, max(1, len(content)), piece):
        told = {"name": name, "begin": begin, "last": begin + piece >= len(content)}
        explorer.photo.source._receive(None, told, [memoryview(content[begin : begin + piece])])
    explorer.session.wait(120)


def saved(panel, name: str, monkeypatch) -> tuple[str, bytes]:
    """What one of the panel's downloads gives."""
    given = []
    monkeypatch.setattr(panel.downloads[name], "give", lambda *file: given.append(file))
    panel._save(panel.files[name], panel.downloads[name])
    panel.session.wait(120)
    return given[0]


def picture(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("L"), float)


def message(explorer) -> str:
    return explorer.session.message[0]


def is_error(explorer) -> bool:
    return explorer.session.message[1] == "error"


def test_opens_with_the_crop_of_a_sample(explorer):
    photo = explorer.session.photo
    assert photo.crop.tobytes() == rl.align(sets.photographs()["Eileen Collins"], photo.crop.width).tobytes()
    assert 100 < photo.crop.width < 256 and photo.shown.size == (512, 512)  # in a photograph of 512 px
    assert picture(explorer.steps.stage.before).shape == (512, 512) and explorer.photo.gallery.chosen == 0
    assert explorer.invert.method.value == METHOD
    assert not explorer.invert.button.disabled and explorer.steps.slider.disabled and explorer.invert.stop.disabled
    assert all(slider.disabled for slider in explorer.edit.strengths.values()) and explorer.film.button.disabled


def test_the_qualities_are_those_of_the_command(explorer):
    assert explorer.invert.quality.options == tuple(QUALITY)
    for word, effort in QUALITY.items():
        explorer.invert.quality.value = word
        assert (explorer.invert.search.value, explorer.invert.tuning.value) == effort


def test_an_uploaded_photograph_is_cropped(explorer, face):
    upload(explorer, "Me & you.jpg", face)
    crop = explorer.session.photo.crop  # at its own resolution, up to that at which generators are tuned
    assert crop.tobytes() == rl.align(Image.open(io.BytesIO(face)), crop.width).tobytes() and 256 < crop.width <= 512
    assert explorer.photo.gallery.items[-1]["name"] == "Me & you.jpg"
    assert explorer.photo.gallery.chosen == len(explorer.photo.gallery.items) - 1
    assert "Me &amp; you.jpg: ready" in explorer.invert.message.value
    explorer.photo.gallery._handle_custom_msg({"chosen": 0}, [])
    explorer.session.wait(60)
    assert explorer.session.photo.name == "Eileen Collins"


def test_what_cannot_be_used_is_said_and_changes_nothing(explorer, face):
    before = explorer.session.photo
    bad = {
        "not an image": b"this is not a photograph",
        "empty": b"",
        "damaged or truncated": face[: len(face) // 2],
        "no face found": jpeg(Image.new("RGB", (400, 300), "skyblue")),
    }
    for reason, content in bad.items():
        for _ in range(2):  # the same file again is answered again
            explorer.session.say("")
            upload(explorer, "a<b>.jpg", content)
            assert is_error(explorer) and reason in message(explorer) and message(explorer).count("a<b>.jpg") == 1
            assert "a&lt;b&gt;.jpg" in explorer.invert.message.value
        assert explorer.session.photo is before and explorer.photo.gallery.chosen == 0
        assert not explorer.photo.source.disabled and not explorer.invert.button.disabled
    explorer.photo.source._receive(None, {"problem": "the camera cannot be used: none"}, [])
    assert is_error(explorer) and "camera" in message(explorer)


def test_one_of_several_faces_is_chosen(explorer):
    people = [sets.photographs()[name].resize((400, 500)) for name in ("Eileen Collins", "Grace Hopper")]
    group = Image.new("RGB", (800, 500))
    group.paste(people[0], (0, 0)), group.paste(people[1], (400, 0))
    upload(explorer, "group.png", jpeg(group))
    assert "2 faces" in message(explorer) and len(explorer.photo.faces.items) == 2
    first = explorer.session.photo
    explorer.photo.faces._handle_custom_msg({"chosen": 1}, [])
    explorer.session.wait(60)
    assert explorer.session.photo.face == explorer.photo.faces.chosen == 1
    assert explorer.session.photo.crop.tobytes() != first.crop.tobytes()
    invert(explorer)
    assert explorer.session.inverted.stem.startswith("group-face-2-")


def test_a_new_photograph_clears_the_steps(explorer, face):
    explorer.photo.gallery._handle_custom_msg({"chosen": len(sets.photographs())}, [])  # a render
    explorer.session.wait(60)
    invert(explorer)
    assert explorer.steps.slider.max == explorer.session.step == STEPS and explorer.session.progress == 1
    assert explorer.session.inverted.stem == f"render-1-{NAME}"
    upload(explorer, "me.jpg", face)
    assert explorer.steps.slider.disabled and not explorer.steps.stage.after and not explorer.edit.stage.after


def test_steps_searched_and_tuned_are_shown_at_full_size(inverted):
    of, steps = inverted.session.inverted, inverted.steps
    assert not is_error(inverted) and "a search, tuning" in message(inverted)
    assert of.titles == ["the mean face", "after 1 step", "after 2 steps", "searched", "tuned"]
    assert picture(steps.stage.after).shape == (1024, 1024), "it was given time"
    shown = set()
    for step in range(of.last):
        steps.slider.value = step
        shown.add((steps.stage.after_label, steps.change.value, steps.numbers.value))
    assert len(shown) == of.last
    steps.slider.value = of.last
    inverted.session.wait(60)
    assert of.numbers.L2.min() < of.numbers.L2[0] and of.numbers.change[0] == 0
    assert torch.equal(of.result.latents[:, -1], of.result.latents[:, -2])
    assert not torch.equal(of.generator(of.last).to_image.weight, of.generator(0).to_image.weight)


def test_files_of_steps_and_of_edits(inverted, monkeypatch, tmp_path):
    of = inverted.session.inverted
    stem = f"Eileen-Collins-{NAME}-searched-tuned"
    name, content = saved(inverted.steps, "Picture", monkeypatch)
    assert name == f"{stem}-step4-1024.png" and picture(content).shape == (1024, 1024)
    name, content = saved(inverted.steps, "In the photograph", monkeypatch)
    assert Image.open(io.BytesIO(content)).size == sets.photographs()["Eileen Collins"].size
    name, content = saved(inverted.steps, "Codes", monkeypatch)
    assert name == f"{stem}.safetensors" and torch.equal(load(content)["latents"], of.result.latents[0])
    name, content = saved(inverted.steps, "All steps", monkeypatch)
    assert Image.open(io.BytesIO(content)).width > (STEPS + 3) * 256
    name, content = saved(inverted.steps, "Tuned generator", monkeypatch)
    (tmp_path / name).write_bytes(content)
    assert rl.load_generator(tmp_path / name).n_styles == 16
    inverted.edit.strengths["smile"].value = 2.0
    name, content = saved(inverted.edit, "Code", monkeypatch)
    assert name == f"{stem}-step4-smile+2.safetensors"
    assert torch.allclose(load(content)["latents"], rl.edit(of.result.latents[:, -1], "smile", 2.0))
    name, content = saved(inverted.edit, "In the photograph", monkeypatch)
    pasted = np.asarray(Image.open(io.BytesIO(content)), float)
    assert 0 < np.abs(pasted - np.asarray(sets.photographs()["Eileen Collins"], float)).mean() < 5


def test_edits_add_up_and_the_last_setting_wins(inverted):
    edit, go_on = inverted.edit, threading.Event()
    inverted.session.draw("test", lambda: go_on.wait(60))  # the worker has something else to do
    for age in (1.0, 2.0, 3.0):
        edit.strengths["smile"].value, edit.strengths["age"].value = 0.0, age
    edit.strengths["pose"].value = -1.0
    go_on.set()
    inverted.session.wait(60)
    assert edit.stage.after_label == "age +3, pose -1" and "same person" in edit.numbers.value
    assert picture(edit.stage.after).shape == (1024, 1024) and edit.stage.before_label.startswith("ŷ₄")
    edit.left.value = "photograph"
    inverted.session.wait(60)
    assert edit.stage.before_label == "photograph" and picture(edit.stage.before).shape == (512, 512)
    edit.left.value = "reconstruction"
    edit.reset.click()
    inverted.session.wait(60)
    assert edit.stage.after_label == "not edited" and edit.stage.after == edit.stage.before


def test_every_direction_has_its_slider_in_a_group(explorer):
    names = [name for group in GROUPS.values() for name in group]
    assert sorted(names) == sorted(directions()) and list(explorer.edit.strengths) == list(directions())
    shown = [
        getattr(part, "description", "") for box in explorer.edit.children for part in getattr(box, "children", ())
    ]
    assert [name for name in shown if name in names] == names
    assert [part.value for part in explorer.edit.children if getattr(part, "value", "") in GROUPS] == list(GROUPS)


def test_films_of_an_edit_and_of_two_people(inverted, monkeypatch):
    film = inverted.film
    film.seconds.value, film.kind.value = 0.1, "edit"
    click(inverted, film.button)
    name, content = film.film
    assert name.endswith("-smile") and content[4:8] == b"ftyp" and film.video.value == content
    given, (_, gif) = [], film.downloads
    monkeypatch.setattr(gif, "give", lambda *file: given.append(file))
    film._save("GIF", gif)
    inverted.session.wait(60)
    ((name, content),) = given
    with Image.open(io.BytesIO(content)) as moving:
        assert name == f"{film.film[0]}.gif" and moving.n_frames > 1 and moving.size == (512, 512)
    film.kind.value = "morph"
    assert film.button.disabled and "another face" in film.about.value
    inverted.photo.gallery._handle_custom_msg({"chosen": list(sets.photographs()).index("Grace Hopper")}, [])
    inverted.session.wait(60)
    invert(inverted)
    assert film.other.options == ("Eileen Collins",) and not film.button.disabled
    click(inverted, film.button)
    assert film.film[0].startswith("Grace-Hopper") and film.film[0].endswith("-morph") and not is_error(inverted)


def test_the_newest_people_are_kept():
    session = Session()
    for name in [*map(str, range(PEOPLE)), "0", "another"]:
        photo = Photo(name, Image.new("RGB", (8, 8)))
        session.inverted = Inverted(photo, METHOD, torch.nn.Identity(), None, None, [], None, [], [])
    assert list(session.people) == [*map(str, range(2, PEOPLE)), "0", "another"]


@pytest.mark.parametrize("stage", ["searching", "tuning"])
def test_stop_keeps_the_best_so_far(explorer, stage):
    said = []

    def stop(change) -> None:
        said.append(change.new[0])
        if stage in change.new[0] and "step 2" in change.new[0]:
            explorer.invert.stop.click()

    explorer.session.observe(stop, "message")
    invert(explorer, search=500 if stage == "searching" else 1, tuning=500)
    assert "stopped early" in message(explorer) and not explorer.session.busy and not is_error(explorer)
    assert explorer.session.inverted.titles[-1] == ("searched" if stage == "searching" else "tuned")
    assert any("step 2 of" in words for words in said) and not any("step 9" in words for words in said)


def test_work_goes_on_in_the_background_and_clicks_meanwhile_are_ignored(explorer):
    go_on = threading.Event()
    explorer.session.run("working …", lambda: "done" if go_on.wait(60) else "never")
    controls = (explorer.invert.button, explorer.photo.source, explorer.photo.gallery, explorer.invert.method)
    assert all(control.disabled for control in controls) and "working" in message(explorer)
    explorer.invert.button.click()
    explorer.photo.gallery._handle_custom_msg({"chosen": 1}, [])
    assert "working" in message(explorer)
    go_on.set()
    explorer.session.wait(60)
    assert "done" in message(explorer) and explorer.session.inverted is None
    assert explorer.photo.gallery.chosen == 0 and not any(control.disabled for control in controls)


def test_a_one_pass_method_takes_one_step(explorer):
    explorer.invert.method.value = "faces/psp"
    invert(explorer)
    assert explorer.steps.slider.max == 1 and "in 1 step;" in message(explorer)


def test_bootstrapping_shows_its_steps(explorer):
    panel = explorer.bootstrap
    panel.first.value, panel.second.value, panel.switch.value, panel.steps.value = "faces/psp", METHOD, 1, 3
    explorer.tabs.selected_index = 3
    click(explorer, panel.button)
    assert not is_error(explorer) and explorer.tabs.selected_index == 0 and explorer.steps.slider.max == 3
    assert "(second)" in explorer.steps.stage.after_label
    explorer.steps.slider.value = 1
    assert "(first)" in explorer.steps.stage.after_label
    panel.switch.value = 4
    click(explorer, panel.button)
    assert is_error(explorer) and "switch must be" in message(explorer)


def test_errors_are_seen():
    explorer = widgets.explore(["faces/unknown"], renders=0)
    explorer.session.wait(60)
    invert(explorer)
    assert is_error(explorer) and "no inverter" in message(explorer) and METHOD in message(explorer)
    explorer.session.run("…", lambda: 1 / 0)
    explorer.session.wait(60)
    assert is_error(explorer) and "ZeroDivisionError" in message(explorer)
    assert "<details>" in explorer.invert.message.value and not explorer.invert.button.disabled


def test_open_photo_takes_an_open_file(face, tmp_path):
    (tmp_path / "me.jpg").write_bytes(face)
    with (tmp_path / "me.jpg").open("rb") as file:
        file.read(10)  # wherever it stands
        assert open_photo(file).tobytes() == open_photo(tmp_path / "me.jpg").tobytes()


def test_films_of_a_tuned_person_end_with_their_own_generator():
    G, T = rl.load_generator("faces-64"), rl.load_generator("faces-64")
    plain = SimpleNamespace(G=G, tuned=None, last=1, generator=lambda t: G)
    of = SimpleNamespace(G=G, tuned=T, last=2, generator=lambda t: T if t == 2 else G)
    assert drawn_by([of], "edit", 0.04) == (T, None)
    owners, shares = drawn_by([of], "steps", 0.04)
    assert owners == [G, G, T] and shares[0].tolist() == [1, 0, 0] and shares[-1].tolist() == [0, 0, 1]
    owners, shares = drawn_by([plain, of], "morph", 0.04)
    assert owners == [G, T] and shares[0].tolist() == shares[-1].tolist() == [1, 0]
    assert drawn_by([plain, plain], "morph", 0.04) == (G, None)
    other = SimpleNamespace(G=object(), tuned=None, last=1)
    assert drawn_by([of, other], "morph", 0.04) == (G, None), "generators of two kinds cannot be mixed"
