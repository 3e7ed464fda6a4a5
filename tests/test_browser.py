"""Notebook 07 in JupyterLab, used as a person would: in a browser, with the mouse."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from restyle_lib.commands.reproduce import NOTEBOOKS
from restyle_lib.evaluation import sets
from restyle_lib.paths import REPOSITORY

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
TOKEN = "for-this-test"
WINDOW = {"width": 1400, "height": 900}
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs the browser chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def lab(tmp_path_factory) -> str:
    """The address of notebook 07 in a JupyterLab of its own, which sees a copy and no settings of the user's."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "notebooks").mkdir()
    text = (NOTEBOOKS / "07_explore.ipynb").read_text()
    assert 'profile = \\"default\\"' in text
    (folder / "notebooks" / "07_explore.ipynb").write_text(text.replace('= \\"default\\"', '= \\"smoke\\"'))
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
    own |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}"]
    command += ["--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}"]
    command += [f"--ServerApp.root_dir={folder / 'notebooks'}", *options_of_make_lab()]
    environment = os.environ | {name: str(folder / path) for name, path in own.items()}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            wait_for(port, server, folder / "log")
            yield f"http://127.0.0.1:{port}/lab/tree/07_explore.ipynb?token={TOKEN}"
        finally:
            server.terminate()  # ends its kernels too
            server.wait(60)


def options_of_make_lab() -> list[str]:
    """What `make lab` tells the server, so that uploads are limited as they are there."""
    (line,) = (line for line in (REPOSITORY / "Makefile").read_text().splitlines() if "jupyter lab" in line)
    return [word for word in shlex.split(line) if word.startswith("--ServerApp")]


def enlarged(photo: Image.Image, times: int = 5) -> Image.Image:
    """As a camera of many megapixels would have taken it: large, and with noise, which no format compresses."""
    large = photo.convert("RGB").resize((photo.width * times, photo.height * times))
    noise = Image.effect_noise(large.size, 60).convert("RGB")
    return Image.blend(large, noise, 0.1)


def wait_for(port: int, server: subprocess.Popen, log: Path, seconds: float = 120) -> None:
    """Returns once something listens on the port."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            assert server.poll() is None, log.read_text()[-3000:]
            time.sleep(0.2)
    pytest.fail(f"JupyterLab did not start in {seconds} s: {log.read_text()[-3000:]}")


@pytest.fixture
def page(lab, tmp_path):
    """The notebook opened in a new browser; `page.problems` collects what the console reports as errors."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=WINDOW)
        page.set_default_timeout(60_000)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
        page.goto(lab)
        yield page
        screenshot(page, "end", tmp_path)
        browser.close()


def shown(page) -> list[str]:
    """The pixels of the pictures on show, from left to right."""
    return page.locator("img.widget-image:visible").evaluate_all(
        """images => Promise.all(images.map(async image => {
            await image.decode();
            const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 64});
            canvas.getContext("2d").drawImage(image, 0, 0, 64, 64);
            return canvas.toDataURL();
        }))"""
    )


def slide(page, share: float, name: str = "Step") -> None:
    """Drags the slider of that name to a share of its range."""
    slider = page.locator(".widget-slider:visible").filter(has=page.get_by_text(name, exact=True))
    slider.scroll_into_view_if_needed()  # the mouse misses what JupyterLab has scrolled away, late on a busy machine
    handle, track = (slider.locator(f".noUi-{part}").bounding_box() for part in ("handle", "target"))
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + share * track["width"], track["y"], steps=10)
    page.mouse.up()


def scroll_to(page, selector: str) -> None:
    """Brings what the selector finds first to the top of the notebook."""
    page.locator(selector).first.evaluate("element => element.scrollIntoView({block: 'start'})")
    page.wait_for_timeout(300)


def upload(page, path: Path) -> None:
    """Chooses a file in the dialogue that the button opens."""
    with page.expect_file_chooser() as dialogue:
        page.get_by_role("button", name="Upload a photo").click()
    dialogue.value.set_files(path)


def screenshot(page, name: str, folder: Path) -> None:
    path = folder / f"{name}.png"
    page.screenshot(path=path)
    if copies := os.environ.get("RESTYLE_SCREENSHOTS"):
        Path(copies).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copies)


def test_explorer_in_jupyterlab(page, tmp_path):
    photo, text, sky = tmp_path / "my photo.png", tmp_path / "notes.jpg", tmp_path / "sky.png"
    enlarged(sets.photographs()["Grace Hopper"]).save(photo)
    assert photo.stat().st_size > 12e6  # Jupyter's own limit is 10 MB
    text.write_text("this is not a photograph")
    Image.new("RGB", (400, 300), "skyblue").save(sky)

    page.get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    message, captions = page.locator(".widget-html [role=status]"), page.locator(".widget-html:visible")
    message.get_by_text("cropped as FFHQ is").wait_for()
    scroll_to(page, ".jp-OutputArea select")
    screenshot(page, "opened", tmp_path)

    upload(page, text)
    message.get_by_text("notes.jpg: not an image").wait_for()
    before = shown(page)
    upload(page, sky)
    message.get_by_text("sky.png: no face found").wait_for()
    assert shown(page) == before
    page.get_by_role("button", name="Invert").click(trial=True)  # waits until it can be clicked
    screenshot(page, "refused", tmp_path)
    upload(page, photo)
    message.get_by_text("my photo.png: cropped").wait_for()
    assert shown(page)[0] != before[0]

    page.get_by_role("button", name="Invert").click()
    message.get_by_text("my photo.png inverted").wait_for()
    page.get_by_role("button", name="Invert").click(trial=True)
    last = shown(page)
    screenshot(page, "inverted", tmp_path)
    clipped = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.innerText)"
    assert captions.evaluate_all(clipped) == []
    slide(page, 0)
    captions.filter(has_text="nothing changed yet").wait_for()
    first = shown(page)
    assert len(first) == 3 and first[0] == last[0] and first[1] != last[1] and first[2] != last[2]
    screenshot(page, "mean_face", tmp_path)
    slide(page, 1)
    captions.filter(has_text=re.compile(r"\|ŷ5")).wait_for()  # not a step on the way there
    assert shown(page) == last

    page.get_by_role("button", name="Render at 1024 px").click()
    message.get_by_text("rendered at 1024 px").wait_for()
    scroll_to(page, "img.widget-image")
    assert page.locator("img.widget-image:visible").nth(3).evaluate("image => image.naturalWidth") == 1024
    screenshot(page, "rendered", tmp_path)

    links = page.locator("a[download]")
    for i, ending in enumerate(("-steps.png", ".safetensors", "-1024.png")):
        with page.expect_download() as download:
            links.nth(i).click()
        name, file = download.value.suggested_filename, tmp_path / "saved"
        download.value.save_as(file)
        assert name.startswith("my-photo-") and name.endswith(ending)
        assert len(load_file(file)["latents"]) > 1 if ending == ".safetensors" else Image.open(file).size[1] > 500

    page.get_by_role("tab", name="Edit").click()
    scroll_to(page, ".jp-OutputArea select")
    slide(page, 0.75, "smile")
    message.get_by_text("smile +2: rendered").wait_for()
    before, smiling = shown(page)
    assert before != smiling
    screenshot(page, "smiling", tmp_path)
    slide(page, 0.75, "age")
    message.get_by_text("smile +2, age +2: rendered").wait_for()
    assert shown(page)[0] == before and shown(page)[1] not in (before, smiling)
    assert captions.evaluate_all(clipped) == []
    screenshot(page, "edited", tmp_path)
    with page.expect_download() as download:
        links.filter(has_text="edited, 1024 px").click()
    assert download.value.suggested_filename.endswith("smile+2-age+2.png")

    page.get_by_role("tab", name="Bootstrap").click()
    screenshot(page, "bootstrap", tmp_path)
    page.get_by_role("button", name="Bootstrap").click()
    message.get_by_text("my photo.png: 1 step of").wait_for()
    captions.filter(has_text="(second)").wait_for()
    assert captions.evaluate_all(clipped) == []
    screenshot(page, "bootstrapped", tmp_path)
    assert not page.problems, page.problems
