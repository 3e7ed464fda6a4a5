"""The explorer: widgets that invert a photograph and slide through what each step did to it; see `explore`.

Its panels share a `Session`. They watch it for the photograph and the inversion that are on show, and give it
whatever takes time; a further panel needs to know nothing else.
"""

import io
import re
import time
import traceback
from base64 import b64encode
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from html import escape
from pathlib import Path

import ipywidgets as ipw
import matplotlib
import pandas as pd
import torch
import torch.nn.functional as F
import traitlets
from PIL import Image, ImageDraw, ImageFont
from safetensors.torch import save
from torch import Tensor

from restyle_lib.assets import AssetError
from restyle_lib.data import to_float
from restyle_lib.evaluation import metrics, sets
from restyle_lib.faces.align import align
from restyle_lib.images import open_photo, to_image, to_tensor
from restyle_lib.inversion.inverter import Inverter, load_inverter, shipped_inverters
from restyle_lib.inversion.refine import Callback
from restyle_lib.inversion.result import Inversion
from restyle_lib.precision import best_device

SIZE = 256  # px of the aligned crop, as `restyle invert` makes it, and of the pictures in files
SHOWN = 216  # px of a picture on the screen: all of it and the slider fit into a notebook 750 px high
GAP = 16  # px between pictures
CAPTION = 28  # px above a picture
WIDTH = 3 * SHOWN + 2 * GAP  # px of the explorer
LABELLED = {"description_width": "56px"}
FILL = {"width": "auto", "flex": "1 1 auto"}
ERROR = "var(--jp-error-color1, #c62828)"
MOST_STEPS = 10  # as many as any training looked at
FAVOURITE = "faces/restyle-psp"
NOT_OFFERED = {"faces/start"}  # what the other encoders began as
RENDER = "held-out render"
COLOURS = "RdYlBu_r"  # blue little, red much, also for the colour-blind


@dataclass(frozen=True)
class Photo:
    """A face to invert: its name, and the aligned crop, RGB, 256 px."""

    name: str
    crop: Image.Image


@dataclass(frozen=True)
class Inverted:
    """An inversion, and what is shown of its steps 0..N."""

    photo: Photo
    method: str
    result: Inversion
    seconds: float
    numbers: pd.DataFrame
    """A row per step, see `step_numbers`."""
    pictures: list[bytes]
    """PNG of each y_t, enlarged to 256 px."""
    changes: list[bytes]
    """PNG of each |y_t - y_{t-1}|; that of step 0 is blank."""
    strip: bytes
    """PNG of all of them side by side."""

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        words = f"{Path(self.photo.name).stem} {self.method.removeprefix('faces/').removesuffix('.pt')}"
        return re.sub(r"[^\w-]+", "-", words).strip("-")


class Session(traitlets.HasTraits):
    """What the panels share: the face on show, its inversion, and one worker in the background.

    Panels observe `photo`, `inverted` (None until there is one of this photo) and `busy`. Observers may run in the
    worker's thread.
    """

    photo = traitlets.Instance(Photo, allow_none=True)
    inverted = traitlets.Instance(Inverted, allow_none=True)
    busy = traitlets.Bool(False)

    def __init__(self):
        super().__init__()
        self.message = ipw.HTML(layout=_wide(WIDTH))
        self.inverter = lru_cache(maxsize=2)(_load_inverter)  # an official checkpoint fills gigabytes
        self.generator = lru_cache(maxsize=2)(lambda method: self.inverter(method).full_generator().to(best_device()))
        self._worker = ThreadPoolExecutor(1)
        self._job = Future()

    def run(self, doing: str, work: Callable[[], str]) -> None:
        """Lets work() do in the background what takes time; it returns what to say at its end.

        Ignored while other work is under way. What goes wrong is shown, with advice where the error gives it.
        """
        if self.busy:
            return
        self.busy = True
        self.say(doing)
        self._job = self._worker.submit(self._work, work)

    def wait(self, timeout: float | None = None) -> None:
        """Returns when the work that `run` began last is done."""
        self._job.result(timeout)

    def say(self, text: str, colour: str = "inherit", details: str = "") -> None:
        """Shows a line of plain text, and details to unfold."""
        more = f"<details><summary>details</summary><pre>{escape(details)}</pre></details>" if details else ""
        self.message.value = f'<div role="status" style="color: {colour}; line-height: 1.4">{escape(text)}{more}</div>'

    def _work(self, work: Callable[[], str]) -> None:
        try:
            with torch.no_grad():  # holds for one thread only, so the notebook's own setting does not reach this one
                self.say(work())
        except (AssetError, OSError, ValueError) as error:  # those that say what to do
            self.say(str(error), ERROR)
        except Exception as error:  # nobody would see it in a thread
            self.say(f"{type(error).__name__}: {error}", ERROR, traceback.format_exc())
        finally:
            self.busy = False


def _load_inverter(method: str) -> Inverter:
    return load_inverter(method).to(best_device())


class PhotoPanel(ipw.HBox):
    """Chooses the face: one of the samples, or in a photograph of the user's own, uploaded or opened where it lies."""

    def __init__(self, session: Session, renders: int):
        self.session, self.crops = session, samples(renders)
        self.picker = ipw.Dropdown(options=list(self.crops), description="Photo", style=LABELLED, layout=_wide(250))
        self.upload = ipw.FileUpload(
            accept="image/*", description="Upload a photo", tooltip="up to 10 MB", layout=_wide(170)
        )
        # Jupyter drops messages over 10 MB, in silence; a file that the kernel opens itself may be of any size
        self.path = ipw.Text(placeholder="or its path, if over 10 MB", continuous_update=False, layout=FILL)
        super().__init__([self.picker, self.upload, self.path], layout=_wide(WIDTH))
        self.picker.observe(self._pick, "value")
        self.upload.observe(self._receive, "value")
        self.path.observe(self._open, "value")
        session.observe(self._follow, "busy")
        self._pick()

    def _pick(self, _=None) -> None:
        name = self.picker.value
        wait = " The first time, some faces are rendered, for up to a minute." if name.startswith(RENDER) else ""
        self.session.run(f"{name}: opening …{wait}", partial(self._show, name, self.crops[name]))

    def _receive(self, change) -> None:
        if change.new:
            self.upload.value = ()  # else the same file could not be chosen twice
            file = io.BytesIO(change.new[0]["content"])
            file.name = change.new[0]["name"]
            self._take(file.name, file)

    def _open(self, change) -> None:
        if path := change.new.strip():
            self._take(Path(path).name, Path(path).expanduser())

    def _take(self, name: str, file: Path | io.BytesIO) -> None:
        work = partial(self._show, name, lambda: align(open_photo(file), SIZE))
        self.session.run(f"{name}: looking for a face …", work)

    def _show(self, name: str, crop: Callable[[], Image.Image]) -> str:
        try:
            photo = Photo(name, crop())
        except ValueError as error:
            message = str(error)
            raise ValueError(message if name in message else f"{name}: {message}") from error
        self.crops[name] = lambda: photo.crop
        self.session.inverted, self.session.photo = None, photo
        return f"{name}: cropped as FFHQ is. Now choose a method and invert."

    def _follow(self, change) -> None:
        """Controls rest during work; then the picker shows what is on show, also where another choice has failed."""
        self.picker.disabled = self.upload.disabled = self.path.disabled = change.new
        if not change.new and self.session.photo:
            self.picker.unobserve(self._pick, "value")
            if self.picker.options != tuple(self.crops):
                self.picker.options = tuple(self.crops)
            self.picker.value = self.session.photo.name
            self.picker.observe(self._pick, "value")


class InvertPanel(ipw.HBox):
    """Chooses the method and the number of steps, and inverts."""

    def __init__(self, session: Session, methods: Sequence[str], steps: int):
        self.session = session
        self.method = ipw.Dropdown(options=methods, description="Method", style=LABELLED, layout=_wide(250))
        self.method.value = FAVOURITE if FAVOURITE in methods else methods[0]
        self.steps = ipw.BoundedIntText(steps, 1, MOST_STEPS, description="Steps", style=LABELLED, layout=_wide(120))
        self.button = ipw.Button(description="Invert", button_style="primary", icon="play", layout=_wide(100))
        self.progress = ipw.IntProgress(0, 0, steps, layout=FILL)
        super().__init__([self.method, self.steps, self.button, self.progress], layout=_wide(WIDTH))
        self.button.on_click(self._click)
        session.observe(self._follow, "busy")
        self._follow()

    def _click(self, _) -> None:
        if self.session.photo:
            work = partial(self._invert, self.session.photo, self.method.value, self.steps.value)
            self.session.run(f"{self.method.value}: inverting {self.session.photo.name} …", work)

    def _invert(self, photo: Photo, method: str, steps: int) -> str:
        self.progress.value = 0
        inverter = self.session.inverter(method)
        steps = 1 if inverter.one_pass else steps
        self.progress.max = steps
        self.session.inverted = invert(photo, method, inverter, steps, self._advance)
        took = f"{_count(steps)}, {self.session.inverted.seconds:.2f} s"
        return f"{method}: {photo.name} inverted in {took}. Move the slider, or press play."

    def _advance(self, t: int, w: Tensor, y: Tensor) -> None:
        self.progress.value = t

    def _follow(self, _=None) -> None:
        self.method.disabled = self.steps.disabled = self.session.busy
        self.button.disabled = self.session.busy or not self.session.photo


class Card(ipw.VBox):
    """A picture of a fixed size below a caption."""

    def __init__(self, size: int):
        self.caption = ipw.HTML(layout={"height": f"{CAPTION}px", "margin": "0"})
        self.picture = ipw.Image(format="png", layout=_wide(size, height=f"{size}px", margin="0"))
        super().__init__([self.caption, self.picture], layout=_wide(size, overflow="hidden"))

    def show(self, caption: str, picture: bytes) -> None:
        """Shows PNG bytes below a line of HTML."""
        self.picture.value, self.caption.value = picture, caption


class StepsPanel(ipw.VBox):
    """Slides through the steps of the inversion on show: pictures, numbers, the full render, files."""

    def __init__(self, session: Session):
        self.session = session
        self.input, self.output, self.change = Card(SHOWN), Card(SHOWN), Card(SHOWN)
        self.play = ipw.Play(interval=700, show_repeat=False)
        self.slider = ipw.IntSlider(description="Step", style=LABELLED, layout=FILL)
        ipw.jslink((self.play, "value"), (self.slider, "value"))
        self.numbers, self.files = (ipw.HTML(layout=_wide(SHOWN, margin="0")) for _ in range(2))
        self.button = ipw.Button(description="Render at 1024 px", icon="image", layout=_wide(SHOWN, margin="0"))
        self.full = Card(2 * SHOWN + GAP)
        pictures = ipw.HBox([self.input, self.output, self.change], layout={"grid_gap": f"{GAP}px"})
        slide = ipw.HBox([ipw.Box([self.play], layout=_wide(SHOWN + GAP)), self.slider], layout=_wide(WIDTH))
        left = ipw.VBox([self.numbers, self.button, self.files], layout=_wide(SHOWN, grid_gap="8px"))
        super().__init__([pictures, slide, ipw.HBox([left, self.full], layout={"grid_gap": f"{GAP}px"})])
        self.slider.observe(self._show, "value")
        self.button.on_click(self._click)
        session.observe(self._restart, ["photo", "inverted"])
        session.observe(self._follow, "busy")
        self._restart()

    def _restart(self, _=None) -> None:
        """Shows another photograph or inversion, from its last step on."""
        photo, inverted = self.session.photo, self.session.inverted
        last = len(inverted.pictures) - 1 if inverted else 0
        self.slider.unobserve(self._show, "value")
        self.slider.value = 0  # a step that every inversion has: the user may move it at this moment
        self.shown, self.renders = inverted, {}
        self.play.max = self.slider.max = last
        self.slider.value = last
        self.slider.observe(self._show, "value")
        self.play.disabled = self.slider.disabled = not inverted
        self.input.show("input" + (", the face found" if photo else ""), png(photo.crop) if photo else BLANK)
        self._list_files()
        self._show()

    def _show(self, _=None) -> None:
        """Shows the step at which the slider stands."""
        step = self.slider.value
        if self.shown:
            self.output.show(step_caption(step), self.shown.pictures[step])
            self.change.show(change_caption(step, self.shown.numbers.change[step]), self.shown.changes[step])
            self.numbers.value = number_table(self.shown.numbers, step)
        else:
            self.output.show("reconstruction ŷ", BLANK)
            self.change.show("what a step changes", BLANK)
            self.numbers.value = ""
        if step in self.renders:
            self.full.show(f"{step_caption(step)}, at {self.width} px", self.renders[step])
        self.full.layout.display = "flex" if step in self.renders else "none"
        self._follow()

    def _click(self, _) -> None:
        if self.shown:
            step = self.slider.value
            self.session.run(f"rendering step {step} at full size …", partial(self._render, step))

    def _render(self, step: int) -> str:
        start = time.perf_counter()
        G = self.session.generator(self.shown.method)
        self.width = G.resolution[1]
        self.renders[step] = png(to_image(self.shown.result.final(G, step)))
        self._list_files()
        self._show()
        return f"step {step} rendered at {self.width} px in {time.perf_counter() - start:.1f} s"

    def _list_files(self) -> None:
        """Offers what there is to save."""
        if not self.shown:
            self.files.value = ""
            return
        stem, latents = self.shown.stem, save({"latents": self.shown.result.latents[0].contiguous()})
        links = [
            link("all steps, PNG", self.shown.strip, f"{stem}-steps.png"),
            link("all codes, safetensors", latents, f"{stem}.safetensors"),
        ]
        for step, content in sorted(self.renders.items()):
            links.append(link(f"step {step} at {self.width} px, PNG", content, f"{stem}-step{step}-{self.width}.png"))
        self.files.value = f'<div style="line-height: 1.7"><b>Save</b><br>{"<br>".join(links)}</div>'

    def _follow(self, _=None) -> None:
        self.button.disabled = self.session.busy or not self.shown or self.slider.value in self.renders


class Explorer(ipw.VBox):
    """All panels; `session` is what they share."""

    def __init__(self, methods: Sequence[str], steps: int, renders: int):
        self.session = Session()
        self.steps = StepsPanel(self.session)
        self.invert = InvertPanel(self.session, methods, steps)
        self.photo = PhotoPanel(self.session, renders)
        super().__init__([self.photo, self.invert, self.session.message, self.steps])


def explore(methods: Sequence[str] | None = None, steps: int = 5, renders: int = 6) -> Explorer:
    """The explorer: choose or upload a photograph, invert it, slide through the steps, render and save.

    methods: inverters of faces by name, or paths of checkpoints; the shipped ones where not given
    steps:   how many to begin with
    renders: how many held-out renders to offer beside the two photographs
    """
    return Explorer(methods or [name for name in shipped_inverters() if name not in NOT_OFFERED], steps, renders)


def samples(renders: int) -> dict[str, Callable[[], Image.Image]]:
    """Names of the samples, and what makes their aligned crops, some of which takes time."""
    photos = {name: partial(align, photo, SIZE) for name, photo in sets.photographs().items()}
    return photos | {f"{RENDER} {i + 1}": partial(_heldout, i, renders) for i in range(renders)}


def _heldout(i: int, n: int) -> Image.Image:
    return to_image(to_float(sets.heldout(n).images[i]))


def invert(photo: Photo, method: str, inverter: Inverter, steps: int, callback: Callback | None = None) -> Inverted:
    """Inverts a face, and draws all its steps, so that moving between them costs nothing."""
    x = to_tensor(photo.crop)
    start = time.perf_counter()
    result = inverter.invert(x, steps, callback)
    seconds = time.perf_counter() - start
    seen = result.images[0].clamp(-1, 1)
    pictures = [to_image(y).resize((SIZE, SIZE), Image.Resampling.LANCZOS) for y in seen]
    changes = [heatmap(y, before) for y, before in zip(seen, [seen[0], *seen], strict=False)]
    numbers = step_numbers(inverter.prepare(x).cpu(), result)
    strip = png(contact_sheet(photo.crop, pictures, changes))
    return Inverted(photo, method, result, seconds, numbers, [*map(png, pictures)], [*map(png, changes)], strip)


def step_numbers(x: Tensor, result: Inversion) -> pd.DataFrame:
    """A row per step of the one image x [1, 3, s, s]: L2 and ID of y_t against x, and two measures of the step itself.

    move is the rms change of the code, change the red end of its heatmap.
    """
    seen, latents = result.images[0].clamp(-1, 1), result.latents[0]
    moves = (latents[1:] - latents[:-1]).square().mean((1, 2)).sqrt()
    return pd.DataFrame(
        {
            "L2": metrics.l2(seen, x).tolist(),
            "ID": metrics.identity(seen, x.expand_as(seen)).tolist(),
            "move": [float("nan"), *moves.tolist()],
            "change": [0.0, *map(peak, seen[1:], seen[:-1])],
        }
    )


def heatmap(y: Tensor, before: Tensor) -> Image.Image:
    """|y - before| of images [3, s, s] in [-1, 1], mean of the channels, 256 px: blue none, red `peak` and more."""
    change = (y - before).abs().mean(0)
    smooth = F.interpolate(change[None, None], (SIZE, SIZE), mode="bilinear")[0, 0]
    share = (smooth / max(peak(y, before), 1e-6)).clamp(max=1)
    return Image.fromarray(matplotlib.colormaps[COLOURS](share.numpy(), bytes=True)).convert("RGB")


def peak(y: Tensor, before: Tensor) -> float:
    """The change that all but 1 % of the pixels stay below, in [0, 2]; one odd pixel must not turn the rest blue."""
    return (y - before).abs().mean(0).quantile(0.99).item()


def contact_sheet(crop: Image.Image, pictures: Sequence[Image.Image], changes: Sequence[Image.Image]) -> Image.Image:
    """The input and every step in a row, with what each changed below."""
    columns = [("input", crop, None), ("step 0: the mean face", pictures[0], None)]
    columns += [(f"step {t}", y, change) for t, (y, change) in enumerate(zip(pictures, changes, strict=True)) if t]
    sheet = Image.new("RGB", (len(columns) * (SIZE + GAP) + GAP, 2 * (SIZE + GAP) + CAPTION + GAP), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for i, (title, picture, change) in enumerate(columns):
        x = GAP + i * (SIZE + GAP)
        draw.text((x, GAP // 2), title, "black", font)
        sheet.paste(picture, (x, CAPTION))
        if change:
            sheet.paste(change, (x, CAPTION + SIZE + GAP))
    below = "What each step changed:\nblue little, red much, each\nstep on a scale of its own."
    draw.text((SIZE + 2 * GAP, CAPTION + SIZE + GAP), below, "black", font, spacing=8)
    return sheet


def png(image: Image.Image) -> bytes:
    """The image as a PNG file."""
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


BLANK = png(Image.new("RGB", (8, 8), "#e8e8e8"))


def step_caption(step: int) -> str:
    """HTML that names a reconstruction."""
    return f"ŷ<sub>{step}</sub>, " + ("the mean face" if step == 0 else f"after {_count(step)}")


def change_caption(step: int, most: float) -> str:
    """HTML that says which change is shown, and its scale."""
    if step == 0:
        return "nothing changed yet"
    colours = ", ".join(map(matplotlib.colors.to_hex, matplotlib.colormaps[COLOURS]([0.0, 0.5, 1.0])))
    style = f"display: inline-block; width: 70px; height: 9px; background: linear-gradient(90deg, {colours})"
    return f'|ŷ<sub>{step}</sub> − ŷ<sub>{step - 1}</sub>|&ensp;0 <span style="{style}"></span> {most:.2f}'


def number_table(numbers: pd.DataFrame, step: int) -> str:
    """HTML of the numbers of all steps: the current one shaded, the best ones bold."""
    columns = {"L2": (4, numbers.L2.idxmin()), "ID": (3, numbers.ID.idxmax()), "move": (3, None)}
    right = "padding:1px 4px;text-align:right"
    rows = ["".join(f'<th style="{right}">{title}</th>' for title in ("step", "L2 ↓", "ID ↑", "move"))]
    for t, row in numbers.iterrows():
        cells = [f"{t}"]
        for name, (digits, best) in columns.items():
            value = "–" if pd.isna(row[name]) else f"{row[name]:.{digits}f}"
            cells.append(f"<b>{value}</b>" if t == best else value)
        rows.append("".join(f'<td style="{right}">{cell}</td>' for cell in cells))
    shade = ' style="background:var(--jp-layout-color3, #ddd)"'
    lines = [f"<tr{shade if t == step + 1 else ''}>{row}</tr>" for t, row in enumerate(rows)]
    return f'<table style="line-height:1.5;border-collapse:collapse;width:{SHOWN}px">{"".join(lines)}</table>'


def link(text: str, content: bytes, name: str) -> str:
    """HTML of a link that saves `content` in a file of that name."""
    kind = "image/png" if name.endswith(".png") else "application/octet-stream"
    data, name = b64encode(content).decode(), escape(name)
    style = "color: var(--jp-content-link-color, #1565c0); text-decoration: underline"
    return f'<a style="{style}" title="{name}" download="{name}" href="data:{kind};base64,{data}">{escape(text)}</a>'


def _count(steps: int) -> str:
    return "1 step" if steps == 1 else f"{steps} steps"


def _wide(width: int, **layout: str) -> ipw.Layout:
    return ipw.Layout(width=f"{width}px", flex="0 0 auto", **layout)
