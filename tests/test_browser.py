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
from restyle_lib.generators import load_generator
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS
from restyle_lib.inversion.quality import QUALITY
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


@pytest.fixture(scope="module")
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
            while (!await image.decode().then(() => true, () => false)) // another picture took its place
                await new Promise(wait => setTimeout(wait, 50));
            const canvas = Object.assign(document.createElement("canvas"), {width: 64, height: 64});
            canvas.getContext("2d").drawImage(image, 0, 0, 64, 64);
            return canvas.toDataURL();
        }"""
    )


def comes_back(page, picture: str) -> None:
    """Waits until the large picture shows this again."""
    for _ in range(300):
        if pixels(page) == picture:
            return
        page.wait_for_timeout(200)
    pytest.fail("the large picture stayed another")


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
    """Drags the divider of the large picture, and waits until it has gone along."""
    picture = page.locator(".restyle-compare:visible")
    picture.hover()  # in its middle, once it is in sight and stands still
    page.mouse.down()
    box = picture.bounding_box()
    page.mouse.move(box["x"] + share * box["width"], box["y"] + box["height"] / 2, steps=5)
    page.mouse.up()
    divider = page.locator(".divider:visible").element_handle()
    reached = "([divider, percent]) => Math.abs(divider.getAttribute('aria-valuenow') - percent) <= 1"
    page.wait_for_function(reached, arg=[divider, 100 * share])


EFFORT = ("then search", "then tune")


def toy_length(page, search: int, tuning: int) -> None:
    """Asks for so many steps, under Settings."""
    for name, steps in zip(EFFORT, (search, tuning), strict=True):
        number = page.get_by_label(name)
        number.fill(str(steps))
        number.press("Tab")


def press(page, name: str) -> None:
    """Clicks the button of exactly this name that is in sight."""
    page.locator("button:visible").get_by_text(name, exact=True).click()


def chosen(page, name: str) -> None:
    """Waits until the thumbnail of this name is marked."""
    page.locator(f"[aria-pressed=true][title='{name}']").wait_for()


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


def no_problems(page) -> None:
    """Nothing went wrong in the app, but for Voilà's icon font, which it would fetch."""
    problems = [problem for problem in page.problems if "ERR_NAME_NOT_RESOLVED" not in problem]
    assert not problems, problems


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
    chosen(page, "my photo.png")
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
    no_problems(page)


def test_explorer_with_two_people_in_a_photograph(page, app, tmp_path):
    people = [sets.photographs()[name].resize((512, 512)) for name in ("Eileen Collins", "Grace Hopper")]
    group = Image.new("RGB", (1024, 512))
    for i, person in enumerate(people):
        group.paste(person, (512 * i, 0))
    group.save(tmp_path / "both.png")

    page.goto(app)
    said(page, "ready to invert")
    upload(page, tmp_path / "both.png")
    said(page, "both.png: 2 faces found; choose one")
    chosen(page, "face 1")
    one = pixels(page, "before")
    press(page, "Settings")
    for word, effort in QUALITY.items():  # what each word means is seen under Settings
        press(page, word)
        for name, steps in zip(EFFORT, effort, strict=True):
            page.wait_for_function(
                "([field, steps]) => field.value === steps", arg=[page.get_by_label(name).element_handle(), str(steps)]
            )
    toy_length(page, 1, 1)
    press(page, "Invert")
    said(page, "inverted in 5 steps, a search, tuning")
    wide(page, 1024)
    with Image.open(save(page, "All steps", tmp_path)) as sheet:
        assert sheet.width > 8 * 256  # the photograph, the mean face, five steps, the search, the tuning
    tuned = save(page, "Tuned generator", tmp_path)
    assert tuned.stat().st_size < 10e6 and load_generator(tuned).resolution == (1024, 1024)
    assert Image.open(save(page, "In the photograph", tmp_path)).size == group.size

    press(page, "face 2")
    chosen(page, "face 2")
    said(page, "both.png: 2 faces found")
    assert pixels(page, "before") != one
    screenshot(page, "app_two_people", tmp_path)
    press(page, "fast")
    press(page, "Invert")
    said(page, "inverted in 5 steps;")
    wide(page, 1024)

    page.get_by_role("tab", name="Edit").click()
    wide(page, 1024)
    unedited = pixels(page)
    slide(page, "glasses", 0.8)
    page.get_by_text(re.compile(r"glasses \+")).wait_for()
    wide(page, 1024)
    assert pixels(page) != unedited
    code = save(page, "Code", tmp_path)
    assert "glasses" in code.name and load_file(code)["latents"].shape == (1, 16, 512)
    press(page, "Reset")
    page.get_by_text("not edited").wait_for()
    comes_back(page, unedited)
    press(page, "photograph")  # left of the divider
    wide(page, 512, "before")

    page.get_by_role("tab", name="Film").click()
    press(page, "steps")
    press(page, "morph")
    slide(page, "Seconds", 0)
    press(page, "Make the film")
    said(page, "morph: a film of")
    page.wait_for_function("document.querySelector('video[src]').videoWidth === 512")
    assert save(page, "MP4", tmp_path).name.endswith("-morph.mp4")
    no_problems(page)
