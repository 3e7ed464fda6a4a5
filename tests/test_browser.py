"""The explorer in JupyterLab and as an app in Voilà, used as a person would: in a browser, with the mouse."""

import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from PIL import Image
from safetensors.torch import load_file

from restyle_lib.commands.reproduce import NOTEBOOKS
from restyle_lib.evaluation import sets
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS
from restyle_lib.paths import REPOSITORY

CHROMIUM = shutil.which("chromium")
FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
FLAGS += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
FLAGS += ["--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream"]
TOKEN = "for-this-test"
WINDOW = {"width": 1400, "height": 900}
pytestmark = pytest.mark.skipif(not CHROMIUM, reason="needs the browser chromium: apt-get install chromium")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Where servers find a copy of notebook 07, at profile smoke, and no settings of the user's."""
    folder = tmp_path_factory.mktemp("servers")
    (folder / "notebooks").mkdir()
    text = (NOTEBOOKS / "07_explore.ipynb").read_text()
    assert 'profile = \\"default\\"' in text
    (folder / "notebooks" / "07_explore.ipynb").write_text(text.replace('= \\"default\\"', '= \\"smoke\\"'))
    settings = folder / "settings" / "@jupyterlab" / "apputils-extension"
    settings.mkdir(parents=True)
    (settings / "notification.jupyterlab-settings").write_text('{"fetchNews": "false", "checkForUpdates": false}')
    return folder


@contextmanager
def served(folder: Path, port: int, *command: str) -> Iterator[None]:
    """A server of Jupyter's family, until it is no longer needed."""
    own = {"JUPYTER_CONFIG_DIR": "config", "JUPYTER_RUNTIME_DIR": "runtime", "IPYTHONDIR": "ipython"}
    own |= {"JUPYTERLAB_SETTINGS_DIR": "settings", "JUPYTERLAB_WORKSPACES_DIR": "workspaces"}
    environment = os.environ | {name: str(folder / path) for name, path in own.items()}
    with (folder / "log").open("w") as log:
        server = subprocess.Popen([sys.executable, "-m", *command], cwd=folder, env=environment, stdout=log, stderr=log)
        try:
            wait_for(port, server, folder / "log")
            yield
        finally:
            server.terminate()  # ends its kernels too
            server.wait(60)


@pytest.fixture
def lab(folder) -> Iterator[str]:
    """The address of the notebook in a JupyterLab of its own."""
    port = free_port()
    options = ["--no-browser", "--allow-root", "--ip=127.0.0.1", f"--port={port}", "--ServerApp.port_retries=0"]
    options += [f"--IdentityProvider.token={TOKEN}", f"--ServerApp.root_dir={folder / 'notebooks'}"]
    with served(folder, port, "jupyterlab", *options):
        yield f"http://127.0.0.1:{port}/lab/tree/07_explore.ipynb?token={TOKEN}"


@pytest.fixture
def app(folder) -> Iterator[str]:
    """The address of the app that `make explore` opens."""
    (line,) = (line for line in (REPOSITORY / "Makefile").read_text().splitlines() if "/voila " in line)
    options = [word for word in shlex.split(line) if word.startswith("--")]
    port = free_port()
    notebook = str(folder / "notebooks" / "07_explore.ipynb")
    with served(folder, port, "voila", "--no-browser", f"--port={port}", *options, notebook):
        yield f"http://127.0.0.1:{port}/"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


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
    pytest.fail(f"the server did not start in {seconds} s: {log.read_text()[-3000:]}")


@pytest.fixture
def page(tmp_path):
    """A new browser with a camera; `page.problems` collects what the console reports as errors."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport=WINDOW)
        page.set_default_timeout(90_000)
        page.problems = []
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("console", lambda message: message.type == "error" and page.problems.append(message.text))
        yield page
        screenshot(page, "end", tmp_path)
        browser.close()


def said(page, words: str) -> None:
    """Waits until the line of messages has these words."""
    page.locator("[role=status]").get_by_text(words).wait_for()


def stage(page, side: str = "after"):
    """The large picture on one side of the divider."""
    return page.locator(f".restyle-compare:visible .{side} img")


def wide(page, width: int, side: str = "after") -> None:
    """Waits until the large picture has so many pixels."""
    page.wait_for_function(
        "([image, width]) => image.naturalWidth === width", arg=[stage(page, side).element_handle(), width]
    )


def pixels(page, side: str = "after") -> str:
    """What the large picture shows."""
    return stage(page, side).evaluate(
        """async image => {
            await image.decode();
            const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 64});
            canvas.getContext("2d").drawImage(image, 0, 0, 64, 64);
            return canvas.toDataURL();
        }"""
    )


def slide(page, name: str, share: float, let_go: bool = True) -> None:
    """Drags the slider of that name to a share of its range."""
    slider = page.locator(".widget-slider:visible").filter(has=page.get_by_text(name, exact=True))
    slider.scroll_into_view_if_needed()  # the mouse misses what JupyterLab has scrolled away, late on a busy machine
    handle, track = (slider.locator(f".noUi-{part}").bounding_box() for part in ("handle", "target"))
    page.mouse.move(handle["x"] + handle["width"] / 2, handle["y"] + handle["height"] / 2)
    page.mouse.down()
    page.mouse.move(track["x"] + share * track["width"], track["y"], steps=10)
    if let_go:
        page.mouse.up()


def drag_divider(page, share: float) -> None:
    """Drags the divider of the large picture, and checks that it goes along."""
    box = page.locator(".restyle-compare:visible").bounding_box()
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
    page.mouse.down()
    page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    now = int(page.locator(".divider:visible").get_attribute("aria-valuenow"))
    assert abs(now - 100 * share) <= 1


def toy_length(page, search: int, tuning: int) -> None:
    """Asks for so many steps, under Settings."""
    for name, steps in (("then search", search), ("then tune", tuning)):
        number = page.get_by_label(name)
        number.fill(str(steps))
        number.press("Tab")


def upload(page, path: Path) -> None:
    """Chooses a file in the dialogue that the button opens."""
    with page.expect_file_chooser() as dialogue:
        page.get_by_role("button", name="Upload a photograph").click()
    dialogue.value.set_files(path)


def drop(page, path: Path) -> None:
    """Lets go of a file above the buttons, dragged there from another window."""
    files = page.evaluate_handle(
        """([name, content]) => {
            const files = new DataTransfer();
            files.items.add(new File([Uint8Array.from(content)], name));
            return files;
        }""",
        [path.name, list(path.read_bytes())],
    )
    page.locator(".restyle-source").dispatch_event("drop", {"dataTransfer": files})


def save(page, name: str, folder: Path) -> Path:
    """Saves one of the files that the open tab offers."""
    with page.expect_download() as download:
        page.locator(".restyle-download:visible").get_by_text(name, exact=True).click()
    path = folder / download.value.suggested_filename
    download.value.save_as(path)
    return path


def nothing_cut_off(page) -> None:
    """Every line of text has room."""
    cut = "boxes => boxes.filter(box => box.scrollWidth > box.clientWidth + 1).map(box => box.innerText)"
    assert page.locator(".restyle-explorer .widget-html:visible").evaluate_all(cut) == []


def screenshot(page, name: str, folder: Path) -> None:
    path = folder / f"{name}.png"
    page.screenshot(path=path)
    if copies := os.environ.get("RESTYLE_SCREENSHOTS"):
        Path(copies).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copies)


def test_explorer_in_jupyterlab(page, lab, tmp_path):
    photo, text, sky = tmp_path / "my photo.png", tmp_path / "notes.jpg", tmp_path / "sky.png"
    enlarged(sets.photographs()["Grace Hopper"]).save(photo)
    assert photo.stat().st_size > 12e6  # Jupyter drops messages over 10 MB
    text.write_text("this is not a photograph")
    Image.new("RGB", (400, 300), "skyblue").save(sky)

    page.goto(lab)
    page.get_by_text("| Idle").wait_for()
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_text("Run All Cells", exact=True).click()
    said(page, "ready to invert")
    page.locator(".restyle-explorer").evaluate("explorer => explorer.scrollIntoView({block: 'start'})")
    wide(page, 512, "before")
    screenshot(page, "lab_opened", tmp_path)

    before = pixels(page, "before")
    drop(page, text)
    said(page, "notes.jpg: not an image")
    upload(page, sky)
    said(page, "sky.png: no face found")
    assert pixels(page, "before") == before
    upload(page, photo)
    said(page, "my photo.png: ready")
    page.wait_for_function("name => document.querySelector('[aria-pressed=true]').title === name", arg="my photo.png")
    assert pixels(page, "before") != before

    page.get_by_role("button", name="Settings").click()
    toy_length(page, 2, 2)
    page.get_by_role("button", name="Invert").click()
    said(page, "inverted in 5 steps, a search, tuning")
    wide(page, 1024)
    screenshot(page, "lab_inverted", tmp_path)
    nothing_cut_off(page)
    last = pixels(page)
    drag_divider(page, 0.2)
    slide(page, "Step", 0)
    page.get_by_text("ŷ₀, the mean face").wait_for()
    wide(page, 1024)
    assert pixels(page) != last
    slide(page, "Step", 1)
    page.get_by_text("ŷ₇, tuned").wait_for()
    wide(page, 1024)
    assert pixels(page) == last

    toy_length(page, 900, 0)
    page.get_by_role("button", name="Invert").click()
    said(page, "searching, step 3")
    page.get_by_role("button", name="Stop").click()
    said(page, "stopped early")
    page.get_by_text("ŷ₆, searched").wait_for()
    assert Image.open(save(page, "Picture", tmp_path)).size == (1024, 1024)
    assert len(load_file(save(page, "Codes", tmp_path))["latents"]) == 7

    page.get_by_role("tab", name="Edit").click()
    page.get_by_text("not edited").wait_for()
    slide(page, "smile", 0.75, let_go=False)
    page.get_by_text("smile +2").wait_for()
    page.mouse.up()
    wide(page, 1024)
    smiling = pixels(page)
    screenshot(page, "lab_smiling", tmp_path)
    slide(page, "age", 0.75)
    page.get_by_text(re.compile(r"smile \+2.*, age \+2")).wait_for()
    wide(page, 1024)
    assert pixels(page) != smiling
    nothing_cut_off(page)
    pasted = Image.open(save(page, "In the photograph", tmp_path))
    assert pasted.size == Image.open(photo).size
    assert not page.problems, page.problems


def test_explorer_as_an_app(page, app, tmp_path):
    page.goto(app)
    said(page, "ready to invert")
    assert not page.locator(".jp-InputArea:visible, .jp-MarkdownOutput:visible").count(), "no code, no prose"
    screenshot(page, "app_opened", tmp_path)
    page.get_by_role("button", name="Camera").click()
    page.locator("dialog[open] video").wait_for()
    page.get_by_role("button", name="Take the picture").click()
    said(page, "no face found")  # of what the browser pretends to see

    page.get_by_role("button", name="fast").click()
    page.get_by_role("button", name="Invert").click()
    said(page, "inverted in 5 steps;")
    wide(page, 1024)
    drag_divider(page, 0.7)
    screenshot(page, "app_inverted", tmp_path)

    page.get_by_role("tab", name="Film").click()
    page.get_by_role("button", name="edit").click()
    slide(page, "Seconds", 0)
    page.get_by_role("button", name="Make the film").click()
    said(page, "a film of")
    page.wait_for_function("document.querySelector('video[src]').videoWidth === 512")
    screenshot(page, "app_film", tmp_path)
    film = save(page, "MP4", tmp_path)
    assert (
        film.name == f"Eileen-Collins-{FOR_PHOTOGRAPHS.removeprefix('faces/')}-smile.mp4"
        and film.stat().st_size > 10_000
    )
    with Image.open(save(page, "GIF", tmp_path)) as moving:
        assert moving.n_frames > 1 and moving.size == (512, 512)

    page.get_by_role("tab", name="Cartoon").click()
    page.get_by_role("button", name="Make a cartoon").click()
    said(page, "then toon/")
    page.get_by_text("(second)").first.wait_for()
    wide(page, 1024)
    screenshot(page, "app_cartoon", tmp_path)
    page.set_viewport_size({"width": 600, "height": 900})
    nothing_cut_off(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 600
    screenshot(page, "app_narrow", tmp_path)
    problems = [problem for problem in page.problems if "ERR_NAME_NOT_RESOLVED" not in problem]  # Voilà's icon font
    assert not problems, problems
