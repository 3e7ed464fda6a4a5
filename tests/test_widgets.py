"""The explorer without a browser: what its controls do, and what it says where something is wrong."""

import io
import re
import threading
import time
from base64 import b64decode

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load

import restyle_lib as rl
from restyle_lib import widgets
from restyle_lib.evaluation import sets
from restyle_lib.images import open_photo
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS

METHOD, STEPS = FOR_PHOTOGRAPHS, 3  # what the explorer begins with
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
    explorer = widgets.explore(steps=STEPS, renders=2)
    explorer.session.wait(60)
    return explorer


@pytest.fixture(scope="module")
def inverted():
    """One that has inverted the first sample, for tests that look at it."""
    explorer = widgets.explore([METHOD, "faces/psp"], STEPS)
    explorer.session.wait(60)
    click(explorer, explorer.invert.button)
    return explorer


def click(explorer, button) -> None:
    button.click()
    explorer.session.wait(60)


def upload(explorer, name: str, content: bytes) -> None:
    file = {"name": name, "type": "", "size": len(content), "last_modified": 0, "content": memoryview(content)}
    explorer.photo.upload.set_state({"value": [file]})  # as the browser's message does
    explorer.session.wait(60)


def message(explorer) -> str:
    return explorer.session.message.value


def is_error(explorer) -> bool:
    return widgets.ERROR in message(explorer)


def picture(explorer) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(explorer.steps.input.picture.value)).convert("L"), float)


def test_opens_with_the_crop_of_a_sample(explorer):
    expected = rl.align(sets.photographs()["Eileen Collins"], 256).convert("L")
    assert np.array_equal(picture(explorer), np.asarray(expected, float))
    assert "faces/start" not in explorer.invert.method.options and explorer.invert.method.value == METHOD
    assert not explorer.invert.button.disabled and explorer.steps.slider.disabled and explorer.steps.button.disabled


def test_an_uploaded_photograph_is_cropped(explorer, face):
    upload(explorer, "Me & you.jpg", face)
    expected = rl.align(Image.open(io.BytesIO(face)), 256).convert("L")
    assert np.array_equal(picture(explorer), np.asarray(expected, float))
    assert explorer.photo.picker.value == "Me & you.jpg" and "Me &amp; you.jpg: cropped" in message(explorer)
    explorer.photo.picker.value = "Eileen Collins"
    explorer.session.wait(60)
    assert not np.array_equal(picture(explorer), np.asarray(expected, float))
    explorer.photo.picker.value = "Me & you.jpg"
    explorer.session.wait(60)
    assert np.array_equal(picture(explorer), np.asarray(expected, float))


def test_what_cannot_be_used_is_said_and_changes_nothing(explorer, face):
    before = picture(explorer)
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
            assert is_error(explorer) and reason in message(explorer)
            assert message(explorer).count("a&lt;b&gt;.jpg") == 1
        assert np.array_equal(picture(explorer), before) and explorer.photo.picker.value == "Eileen Collins"
        assert not explorer.photo.upload.disabled and not explorer.invert.button.disabled


def test_a_path_works_as_an_upload_does(explorer, face, tmp_path):
    (tmp_path / "me.jpg").write_bytes(face)
    explorer.photo.path.value = str(tmp_path / "me.jpg")
    explorer.session.wait(60)
    assert explorer.photo.picker.value == "me.jpg" and not is_error(explorer)
    for path, reason in ((tmp_path / "none.jpg", "no such file"), (tmp_path, "a folder")):
        explorer.photo.path.value = str(path)
        explorer.session.wait(60)
        assert is_error(explorer) and reason in message(explorer)


def test_open_photo_takes_an_open_file(face, tmp_path):
    (tmp_path / "me.jpg").write_bytes(face)
    with (tmp_path / "me.jpg").open("rb") as file:
        file.read(10)  # wherever it stands
        assert open_photo(file).tobytes() == open_photo(tmp_path / "me.jpg").tobytes()


def test_a_render_inverts_and_a_new_photograph_clears_the_steps(explorer, face):
    explorer.photo.picker.value = "held-out render 2"
    explorer.session.wait(300)
    explorer.invert.steps.value = 2
    click(explorer, explorer.invert.button)
    assert explorer.steps.slider.max == explorer.steps.slider.value == explorer.invert.progress.value == 2
    assert explorer.session.inverted.stem == f"held-out-render-2-{NAME}"
    upload(explorer, "me.jpg", face)
    assert explorer.steps.slider.disabled and explorer.steps.output.picture.value == widgets.BLANK
    assert not explorer.steps.files.value and not explorer.steps.numbers.value


def test_the_slider_shows_each_step_at_once(inverted):
    steps, shown = inverted.steps, []
    assert not is_error(inverted) and f"inverted in {STEPS} steps" in message(inverted)
    start = time.perf_counter()
    for step in range(STEPS + 1):
        steps.slider.value = step
        shown.append((steps.output.picture.value, steps.change.picture.value, steps.numbers.value))
    assert (time.perf_counter() - start) / (STEPS + 1) < 0.1
    for kind in zip(*shown, strict=True):
        assert len(set(kind)) == STEPS + 1
    numbers = inverted.session.inverted.numbers
    assert numbers.L2.min() < numbers.L2[0] and numbers.change[0] == 0 and (numbers.move[1:] > 0).all()
    assert re.findall(r"<tr style.*?</tr>", shown[2][2])[0].count(f"{numbers.L2[2]:.4f}") == 1


def test_the_full_render_and_the_files(inverted):
    steps = inverted.steps
    steps.slider.value = 1
    click(inverted, steps.button)
    full = Image.open(io.BytesIO(steps.full.picture.value))
    assert full.size == (1024, 1024) and steps.full.layout.display == "flex" and steps.button.disabled
    steps.slider.value = 2
    assert steps.full.layout.display == "none" and not steps.button.disabled
    links = re.findall(r'download="(.*?)" href="data:.*?;base64,(.*?)"', steps.files.value)
    files = {name: b64decode(content) for name, content in links}
    stem = f"Eileen-Collins-{NAME}"
    assert list(files) == [f"{stem}-steps.png", f"{stem}.safetensors", f"{stem}-step1-1024.png"]
    assert Image.open(io.BytesIO(files[f"{stem}-steps.png"])).width > (STEPS + 2) * 256
    assert Image.open(io.BytesIO(files[f"{stem}-step1-1024.png"])).tobytes() == full.tobytes()
    assert load(files[f"{stem}.safetensors"])["latents"].shape == (STEPS + 1, 16, 512)


def test_a_one_pass_method_takes_one_step(explorer):
    explorer.invert.method.value = "faces/psp"
    click(explorer, explorer.invert.button)
    assert explorer.steps.slider.max == 1 and "in 1 step," in message(explorer)


def test_work_goes_on_in_the_background_and_clicks_meanwhile_are_ignored(explorer):
    go_on = threading.Event()
    explorer.session.run("working …", lambda: "done" if go_on.wait(60) else "never")
    controls = (explorer.invert.button, explorer.photo.upload, explorer.photo.picker, explorer.invert.method)
    assert all(control.disabled for control in controls) and "working" in message(explorer)
    explorer.invert.button.click()
    explorer.photo.picker.value = "held-out render 1"
    assert "working" in message(explorer)
    go_on.set()
    explorer.session.wait(60)
    assert "done" in message(explorer) and explorer.session.inverted is None
    assert explorer.photo.picker.value == "Eileen Collins", "what is on show"
    assert not any(control.disabled for control in controls)


def test_the_hybrid_is_one_step_more(explorer):
    explorer.invert.steps.value, explorer.invert.optimize.value = 2, 2
    click(explorer, explorer.invert.button)
    assert explorer.steps.slider.max == 3 and explorer.invert.progress.value == 4
    assert "optimized" in explorer.steps.output.caption.value and "2 of optimization" in message(explorer)
    assert explorer.session.inverted.stem.endswith(f"{NAME}-optimized")
    click(explorer, explorer.steps.button)
    assert explorer.steps.full.layout.display == "flex" and not is_error(explorer)


def test_edits_of_a_step(inverted):
    edit = inverted.edit
    edit.strengths["smile"].value = 2.0
    inverted.session.wait(60)
    smiling = edit.after.picture.value
    assert not is_error(inverted) and "smile +2" in edit.after.caption.value and smiling != edit.before.picture.value
    start = time.perf_counter()
    edit.strengths["smile"].value = -2.0
    inverted.session.wait(60)
    took = time.perf_counter() - start
    assert edit.after.picture.value != smiling and "smile -2" in edit.after.caption.value
    codes = inverted.session.inverted.result.latents[:, STEPS]
    G = inverted.session.generator(METHOD)
    start = time.perf_counter()
    with torch.no_grad():
        G.synthesize(rl.edit(codes, "smile", -2.0))
    assert took - (time.perf_counter() - start) < 1, "0.3 s on an idle machine"
    links = re.findall(r'download="(.*?)" href="data:.*?;base64,(.*?)"', edit.files.value)
    (picture, full), (name, latents) = ((name, b64decode(content)) for name, content in links)
    stem = f"Eileen-Collins-{NAME}-step{STEPS}-smile-2"
    assert (picture, name) == (f"{stem}.png", f"{stem}.safetensors")
    assert Image.open(io.BytesIO(full)).size == (1024, 1024)
    assert torch.allclose(load(latents)["latents"], rl.edit(codes, "smile", -2.0))


def test_edits_add_up_and_the_last_setting_wins(inverted):
    edit, go_on = inverted.edit, threading.Event()
    inverted.session.run("working …", lambda: "done" if go_on.wait(60) else "never")
    before = edit.after.caption.value
    for step, age in ((0, 1.0), (1, 2.0), (2, 3.0)):
        edit.step.value, edit.strengths["age"].value = step, age
    edit.strengths["pose"].value = -1.0
    assert edit.after.caption.value == before, "one thing at a time"
    go_on.set()
    inverted.session.wait(60)
    assert "age +3" in edit.after.caption.value and "pose -1" in edit.after.caption.value
    assert "after 2 steps" in edit.before.caption.value
    edit.reset.click()
    inverted.session.wait(60)
    assert edit.after.caption.value == "not edited" and edit.after.picture.value == edit.before.picture.value
    assert not edit.files.value


def test_nothing_can_be_edited_before_it_is_inverted(explorer):
    assert all(slider.disabled for slider in explorer.edit.strengths.values())
    click(explorer, explorer.invert.button)
    assert not any(slider.disabled for slider in explorer.edit.strengths.values())
    assert explorer.edit.step.value == STEPS and explorer.edit.after.picture.value == widgets.BLANK


def test_bootstrapping_shows_its_steps(explorer):
    panel = explorer.bootstrap
    panel.first.value, panel.second.value, panel.switch.value, panel.steps.value = "faces/psp", METHOD, 1, 3
    explorer.tabs.selected_index = 2
    click(explorer, panel.button)
    assert not is_error(explorer) and explorer.tabs.selected_index == 0 and panel.progress.value == 3
    assert explorer.steps.slider.max == 3 and "(second)" in explorer.steps.output.caption.value
    explorer.steps.slider.value = 1
    assert "(first)" in explorer.steps.output.caption.value
    one_pass = rl.load_inverter("faces/psp").invert(rl.to_tensor(explorer.session.photo.crop)).latents[:, 1]
    assert torch.equal(explorer.session.inverted.result.latents[:, 1], one_pass)
    panel.switch.value = 4
    click(explorer, panel.button)
    assert is_error(explorer) and "switch must be" in message(explorer)


def test_errors_are_seen():
    explorer = widgets.explore(["faces/unknown"], renders=0)
    explorer.session.wait(60)
    click(explorer, explorer.invert.button)
    assert is_error(explorer) and "no inverter" in message(explorer) and METHOD in message(explorer)
    explorer.session.run("…", lambda: 1 / 0)
    explorer.session.wait(60)
    assert is_error(explorer) and "ZeroDivisionError" in message(explorer) and "<details>" in message(explorer)
    assert not explorer.invert.button.disabled
