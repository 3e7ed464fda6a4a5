"""The panel that edits the inversion on show."""

import time
from functools import cache, partial

import ipywidgets as ipw
import torch
from safetensors.torch import save
from torch import Tensor

from restyle_lib.evaluation import metrics
from restyle_lib.faces.attributes import NAMES, Attributes
from restyle_lib.images import downsample, to_image
from restyle_lib.inversion.edit import directions, edit
from restyle_lib.widgets.parts import BLANK, GAP, WIDTH, Card, beside, files, link, png, wide
from restyle_lib.widgets.pictures import step_caption
from restyle_lib.widgets.session import Inverted, Session

MOST = 4.0  # standard deviations: what lies beyond looks like nobody
LARGE = (WIDTH - GAP) // 2  # px of a picture on the screen
UNITS = {"smile": "log-odds", "age": "years", "pose": "yaw", "gender": "log-odds", "nod": "pitch"}


class EditPanel(ipw.VBox):
    """Moves the code of one step along the named directions, all of them at once, and renders it in full.

    A slider may be moved while an edit is being rendered: what it says at the end of that is rendered next.
    """

    def __init__(self, session: Session):
        self.session = session
        self.step = ipw.IntSlider(description="at step", layout={"width": "auto"}, continuous_update=False)
        style = {"continuous_update": False, "readout_format": "+.1f", "layout": {"width": "auto"}}
        self.strengths = {
            name: ipw.FloatSlider(0, min=-MOST, max=MOST, step=0.5, description=name, **style) for name in directions()
        }
        self.reset = ipw.Button(description="Reset", icon="undo", layout=wide(100, margin="0"))
        self.before, self.after = Card(LARGE), Card(LARGE)
        self.numbers, self.files = (ipw.HTML(layout=wide(LARGE, margin="0")) for _ in range(2))
        left, right = (ipw.VBox(layout=wide(LARGE)) for _ in range(2))
        sliders = [self.step, *self.strengths.values()]
        left.children, right.children = [*sliders[:3], self.reset], sliders[3:]
        super().__init__(
            [beside(left, right), beside(self.before, self.after), beside(self.numbers, self.files)],
            layout=wide(WIDTH),
        )
        for slider in sliders:
            slider.observe(self._catch_up, "value")
        self.reset.on_click(self._reset)
        session.observe(self._restart, ["photo", "inverted"])
        session.observe(self._catch_up, "busy")
        self._restart()

    @property
    def asked(self) -> tuple[Inverted | None, int, dict[str, float]]:
        """The inversion on show, and what the sliders say: the step, and the strengths that are not 0."""
        strengths = {name: slider.value for name, slider in self.strengths.items() if slider.value}
        return self.session.inverted, self.step.value, strengths

    def _restart(self, _=None) -> None:
        """Another inversion, at its last step and not edited yet."""
        inverted = self.session.inverted
        self.renders = {}
        self.step.max = self.step.value = len(inverted.titles) - 1 if inverted else 0
        self._reset()
        self.done = self.asked  # the session is busy, so nothing is rendered before a slider moves
        self.before.show("reconstruction", BLANK)
        self.after.show("move a slider to edit it" if inverted else "invert a face first", BLANK)
        self.numbers.value = self.files.value = ""
        for slider in (self.step, *self.strengths.values()):
            slider.disabled = not inverted

    def _reset(self, _=None) -> None:
        for slider in self.strengths.values():
            slider.value = 0.0

    def _catch_up(self, _=None) -> None:
        """Renders what the sliders say, unless it is on show already or other work is under way."""
        asked = self.asked
        if not self.session.busy and asked[0] and asked != self.done:
            self.done = asked
            self.session.run("rendering the edit …", partial(self._render, *asked))

    def _render(self, inverted: Inverted, step: int, strengths: dict[str, float]) -> str:
        start = time.perf_counter()
        G = self.session.generator(inverted.renderer)
        codes = inverted.result.latents[:, step]
        if step not in self.renders:
            self.renders[step] = render(G, codes)
        before = self.renders[step]
        for name, strength in strengths.items():
            codes = edit(codes, name, strength)
        after = render(G, codes) if strengths else before
        words = ", ".join(f"{name} {strength:+g}" for name, strength in strengths.items()) or "not edited"
        self.before.show(step_caption(step, inverted.titles), shown(before))
        self.after.show(words, shown(after))
        self.numbers.value = measured(before, after)
        stem = f"{inverted.stem}-step{step}-{words.replace(', ', '-').replace(' ', '')}"
        links = [link(f"edited, {after.shape[-1]} px, PNG", png(to_image(after)), f"{stem}.png")]
        links.append(link("its code, safetensors", save({"latents": codes.contiguous()}), f"{stem}.safetensors"))
        self.files.value = files(links if strengths else [])
        return f"{words}: rendered in {time.perf_counter() - start:.1f} s"


def render(G, codes: Tensor) -> Tensor:
    """Codes [1, k, 512] -> the image [1, 3, H, W] in [-1, 1], on the CPU."""
    return G.synthesize(codes.to(G.w_avg.device)).clamp(-1, 1).cpu()


def shown(image: Tensor) -> bytes:
    """PNG of an image [1, 3, s, s], no larger than a screen needs."""
    return png(to_image(downsample(image, min(2 * LARGE // 64 * 64, image.shape[-1]))))


def measured(before: Tensor, after: Tensor) -> str:
    """HTML: the attributes of two images [1, 3, s, s], and how much the second looks like the same person."""
    a, b = (downsample(image, 256) for image in (before, after))
    labels = zip(NAMES, *_attributes()(torch.cat([a, b])).tolist(), strict=True)
    cells = [(name, f"{x:.2f}", f"{y:.2f}", UNITS[name]) for name, x, y in labels]
    cells.append(("ID", "1", f"{metrics.identity(a, b).item():.2f}", "to the left picture"))
    rows = [("measured", "left", "right", ""), *cells]
    style = "padding:1px 6px"
    lines = ["".join(f'<td style="{style}">{cell}</td>' for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<table style="line-height:1.5;border-collapse:collapse">{body}</table>'


_attributes = cache(Attributes)
