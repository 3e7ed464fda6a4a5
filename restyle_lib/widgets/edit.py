"""Edits of the step on show, in real time."""

from functools import cache, partial

import ipywidgets as ipw
import torch
from safetensors.torch import save
from torch import Tensor

from restyle_lib.evaluation import metrics
from restyle_lib.faces.attributes import NAMES, Attributes
from restyle_lib.generators.averaged import averaged, can_average
from restyle_lib.images import downsample, to_image
from restyle_lib.inversion.edit import directions, edit
from restyle_lib.precision import autocast
from restyle_lib.widgets.elements import Compare, Download
from restyle_lib.widgets.parts import jpeg, png, row, styled, table
from restyle_lib.widgets.session import Inverted, Session
from restyle_lib.widgets.steps import step_name

MOST = 4.0  # standard deviations: what lies beyond looks like nobody
UNITS = {"smile": "log-odds", "age": "years", "pose": "yaw", "gender": "log-odds", "nod": "pitch"}
LEFT = ("reconstruction", "photograph")
# How the sliders stand together: every one of `directions()` has its place.
GROUPS = {
    "Expression and pose": ("smile", "mouth", "pose", "nod"),
    "Person": ("age", "gender"),
    "Looks": ("glasses", "fringe", "hair", "background"),
}


class EditPanel(ipw.VBox):
    """Moves the code of the step on show along the named directions, all of them at once.

    `stage` follows a slider at 256 px, and shows and measures the edit at full size once the sliders rest.
    """

    def __init__(self, session: Session):
        self.session = session
        self.stage = Compare(hint="Invert a face first")
        style = {"readout_format": "+.1f", "style": {"description_width": "88px"}, "layout": {"width": "auto"}}
        self.strengths = {
            name: ipw.FloatSlider(0, min=-MOST, max=MOST, step=0.1, description=name, **style) for name in directions()
        }
        self.reset = ipw.Button(description="Reset", layout={"width": "80px"})
        self.left = ipw.ToggleButtons(options=LEFT)
        self.numbers = ipw.HTML()
        self.files = {"Picture": self._picture, "In the photograph": self._pasted, "Code": self._code}
        self.downloads = {name: Download(name, partial(self._save, make)) for name, make in self.files.items()}
        self.save = row(ipw.HTML("Save"), *self.downloads.values())
        beside = row(ipw.HTML("Left of the divider"), self.left, self.reset)
        groups = [part for title, names in GROUPS.items() for part in self._group(title, names)]
        super().__init__([*groups, beside, self.numbers, self.save], layout={"grid_gap": "6px"})
        for slider in self.strengths.values():
            slider.observe(self._show, "value")
        self.left.observe(self._show, "value")
        self.reset.on_click(self._reset)
        session.observe(self._restart, ["photo", "inverted", "step"])
        session.observe(self._follow, "busy")
        self._restart()

    @property
    def asked(self) -> tuple[Inverted | None, int, dict[str, float], str]:
        """The inversion and its step, the strengths that are not 0, and what is left of the divider."""
        strengths = {name: slider.value for name, slider in self.strengths.items() if slider.value}
        return self.session.inverted, self.session.step, strengths, self.left.value

    def _group(self, title: str, names: tuple[str, ...]) -> tuple[ipw.Widget, ipw.Widget]:
        """A heading, and the sliders of these directions below it, in two columns where there is room."""
        sliders = ipw.Box([self.strengths[name] for name in names])
        return styled(ipw.HTML(title), "restyle-quiet"), styled(sliders, "restyle-sliders")

    def _restart(self, _=None) -> None:
        """Another code; what was asked of the one before is asked of this one."""
        if not self.session.inverted:
            self.unedited: tuple[Inverted | None, int, Tensor] = None, 0, torch.empty(0)
            self.compared: tuple[Inverted, int, str] | None = None
            self.stage.before = self.stage.after = b""
            self.stage.before_label = self.stage.after_label = self.numbers.value = ""
        self.stage.hint = "" if self.session.inverted else "Invert a face first"
        self._follow()
        self._show()

    def _reset(self, _) -> None:
        for slider in self.strengths.values():
            slider.value = 0.0

    def _show(self, _=None) -> None:
        if self.session.inverted:
            self.session.draw(self, self._draw)

    def _draw(self) -> None:
        """Draws what the controls ask for by now, quickly, then in full."""
        of, step, strengths, left = asked = self.asked
        if not of:
            return
        G, code = of.generator(step), of.result.latents[:, step]
        if self.unedited[:2] != (of, step):
            self.unedited = of, step, quick(G, code)
        before, edited = self.unedited[2], edited_code(code, strengths)
        after = quick(G, edited) if strengths else before
        if self.compared != (of, step, left):
            self.compared = of, step, left
            self.stage.before = jpeg(before if left == LEFT[0] else of.photo.shown)
            self.stage.before_label = step_name(of, step) if left == LEFT[0] else left
        self.stage.after, self.stage.after_label = jpeg(after), words(strengths)
        if self.session.settled():
            self.numbers.value = measured(before, after)
            fine = jpeg(full(G, edited))
            if asked == self.asked:
                self.stage.after = fine
                if left == LEFT[0]:
                    self.stage.before = jpeg(full(G, code))

    def _follow(self, _=None) -> None:
        of = self.session.inverted
        for control in (*self.strengths.values(), self.reset, self.left):
            control.disabled = not of or self.session.busy
        for download in self.downloads.values():
            download.disabled = not of or self.session.busy
        self.downloads["In the photograph"].layout.display = "none" if of and not of.photo.whole else ""

    def _save(self, make, download: Download) -> None:
        of, step, strengths, _ = self.asked
        assert of, "the buttons rest until there is one"
        G, code = of.generator(step), of.result.latents[:, step]
        stem = f"{of.stem}-step{step}-{words(strengths).replace(', ', '-').replace(' ', '')}"
        self.session.save(download, partial(make, of, stem, G, code, edited_code(code, strengths)))

    def _picture(self, of: Inverted, stem: str, G, code: Tensor, edited: Tensor) -> tuple[str, bytes]:
        return f"{stem}.png", png(to_image(render(G, edited)))

    def _pasted(self, of: Inverted, stem: str, G, code: Tensor, edited: Tensor) -> tuple[str, bytes]:
        return f"{stem}-in-photograph.png", png(of.photo.with_face(render(G, edited), render(G, code)))

    def _code(self, of: Inverted, stem: str, G, code: Tensor, edited: Tensor) -> tuple[str, bytes]:
        return f"{stem}.safetensors", save({"latents": edited.contiguous()})


def edited_code(code: Tensor, strengths: dict[str, float]) -> Tensor:
    """A code [1, k, 512] moved along all the named directions."""
    for name, strength in strengths.items():
        code = edit(code, name, strength)
    return code


def words(strengths: dict[str, float]) -> str:
    """What was edited, in words."""
    return ", ".join(f"{name} {strength:+.2g}" for name, strength in strengths.items()) or "not edited"


def render(G, code: Tensor) -> Tensor:
    """A code [1, k, 512] -> its image [1, 3, H, W] in [-1, 1], on the CPU."""
    return G.synthesize(code.to(G.w_avg.device)).float().clamp(-1, 1).cpu()


def full(G, code: Tensor) -> Tensor:
    """The same for the screen: in bf16 where that is fast."""
    with autocast(G.w_avg.device):
        return render(G, code)


def quick(G, code: Tensor) -> Tensor:
    """The same at 256 px, in real time."""
    if not can_average(G, (256, 256)):
        return downsample(full(G, code), min(256, G.resolution[1]))
    with autocast(G.w_avg.device):
        return averaged(G, code.to(G.w_avg.device), 256).clamp(-1, 1).cpu()


def measured(before: Tensor, after: Tensor) -> str:
    """HTML: the attributes of two images [1, 3, 256, 256], and how much the second looks like the same person."""
    labels = zip(NAMES, *_attributes()(torch.cat([before, after])).tolist(), strict=True)
    cells = [[name, f"{x:.2f}", f"{y:.2f}", UNITS[name]] for name, x, y in labels]
    cells.append(["same person", "1.00", f"{metrics.identity(before, after).item():.2f}", "ID"])
    return table([["measured", "before", "edited", ""], *cells])


_attributes = cache(Attributes)
