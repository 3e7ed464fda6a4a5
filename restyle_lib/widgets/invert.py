"""The controls that invert: the quality in one word, and what it means in numbers."""

import time
from collections.abc import Sequence
from functools import partial

import ipywidgets as ipw
import torch
from torch import Tensor

from restyle_lib.generators.averaged import averaged
from restyle_lib.images import to_tensor
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS, Viewed
from restyle_lib.inversion.optimize import hybrid
from restyle_lib.inversion.quality import QUALITY, Effort
from restyle_lib.inversion.result import Inversion
from restyle_lib.inversion.tune import tune
from restyle_lib.widgets.parts import jpeg, line, row, styled
from restyle_lib.widgets.pictures import describe
from restyle_lib.widgets.session import Photo, Session

MOST_STEPS = 10  # as many as any training looked at
MOST_EFFORT = 1000
SECONDS = {"encoder": 0.1, "search": 0.26, "tuning": 0.34}  # of a step on two cores: what shares of the work are
EVERY = 0.4  # seconds between two previews
ABOUT = {  # on two cores that compute in bf16; two to four times as long on others
    "fast": "the encoder alone: about a second",
    "good": "search for a better code: a quarter of a minute, longer on older processors",
    "best": "tune the generator too: about a minute, longer on older processors",
}


class InvertPanel(ipw.Box):
    """Quality, invert, stop and progress; below them, folded, the method and the numbers of steps."""

    def __init__(self, session: Session, methods: Sequence[str], steps: int):
        super().__init__()
        self.session = session
        self.quality = ipw.ToggleButtons(
            options=list(QUALITY), value="good", tooltips=[ABOUT[word] for word in QUALITY]
        )
        self.button = ipw.Button(description="Invert", button_style="primary", layout={"width": "96px"})
        self.stop = ipw.Button(description="Stop", layout={"width": "72px"}, tooltip="ends it with the best so far")
        self.bar = ipw.FloatProgress(0, min=0, max=1, layout={"width": "100%"})
        self.message = ipw.HTML(line("starting …", "quiet"))
        status = styled(ipw.VBox([self.bar, self.message]), "restyle-status")
        number = {"style": {"description_width": "initial"}, "layout": {"width": "150px"}}
        self.method = ipw.Dropdown(
            options=methods, description="Method", style={"description_width": "initial"}, layout={"width": "280px"}
        )
        self.method.value = FOR_PHOTOGRAPHS if FOR_PHOTOGRAPHS in methods else methods[0]
        self.steps = ipw.BoundedIntText(steps, 1, MOST_STEPS, description="Steps", **number)
        self.search = ipw.BoundedIntText(0, 0, MOST_EFFORT, description="then search", **number)
        self.tuning = ipw.BoundedIntText(0, 0, MOST_EFFORT, description="then tune", **number)
        self.details = row(self.method, self.steps, self.search, self.tuning, kind="restyle-settings")
        self.more = ipw.ToggleButton(False, description="Settings", layout={"width": "90px"})
        self.children = [
            row(self.quality, self.button, self.stop, self.more, status, kind="restyle-work"),
            self.details,
        ]
        self.layout.display, self.layout.overflow = "block", "visible"
        self.button.on_click(self._click)
        self.stop.on_click(lambda _: session.stop())
        self.quality.observe(self._say_quality, "value")
        self.more.observe(self._unfold, "value")
        session.observe(self._follow, ["photo", "busy"])
        session.observe(self._report, ["message", "progress"])
        self._say_quality()
        self._unfold()
        self._follow()

    def _say_quality(self, _=None) -> None:
        self.search.value, self.tuning.value = QUALITY[self.quality.value]

    def _unfold(self, _=None) -> None:
        self.details.layout.display = "flex" if self.more.value else "none"

    def _report(self, _) -> None:
        self.bar.value, self.message.value = self.session.progress, line(*self.session.message)

    def _follow(self, _=None) -> None:
        busy = self.session.busy
        for control in (self.quality, self.method, self.steps, self.search, self.tuning):
            control.disabled = busy
        self.button.disabled = busy or not self.session.photo
        self.stop.disabled = not busy

    def _click(self, _) -> None:
        if photo := self.session.photo:
            effort = Effort(self.search.value, self.tuning.value)
            work = partial(invert, self.session, photo, self.method.value, self.steps.value, effort)
            self.session.run(f"{photo.name}: inverting …", work)


def invert(session: Session, photo: Photo, method: str, steps: int, effort: Effort) -> str:
    """Inverts a face as `restyle invert` does, shows each stage as it comes, and says what was done.

    A stop ends the search or the tuning with the best so far, and what would have followed.
    """
    begin = time.perf_counter()
    inverter, G, x = session.inverter(method), session.generator(method), to_tensor(photo.crop)
    steps = inverter.steps_taken(steps)
    stages = {"encoder": steps, "search": effort.search, "tuning": effort.tuning}
    total, done = sum(n * SECONDS[name] for name, n in stages.items()), 0.0

    def watch(stage: str, doing: str):
        """A callback for a stage: progress, and now and then a preview."""
        before, shown = done, 0.0

        def callback(t: int, w: Tensor, y: Tensor) -> None:
            nonlocal shown
            if time.monotonic() - shown > EVERY and stage != "encoder":
                shown = time.monotonic()
                session.preview = jpeg(y[:1]), f"{doing}, step {t}"
            session.advance((before + t * SECONDS[stage]) / total, f"{doing}, step {t} of {stages[stage]}")

        return callback

    result = inverter.invert(x, steps, watch("encoder", "the encoder looks"))
    titles = ["the mean face", *(f"after {count(t)}" for t in range(1, steps + 1))]
    words, did, tuned = method, [count(steps)], None

    def show() -> None:
        session.inverted = describe(photo, words, G, tuned, inverter, result, titles)

    show()
    done = steps * SECONDS["encoder"]
    if effort.search and not session.stopping:
        result = hybrid(inverter, x, result, effort.search, watch("search", "searching"))
        words, titles, did = f"{words} searched", [*titles, "searched"], [*did, "a search"]
        show()
    done += effort.search * SECONDS["search"]
    if effort.tuning and not session.stopping:
        code = result.latents[:, -1]
        tuned = tune(G, code, x, effort.tuning, callback=watch("tuning", "tuning the generator"))
        result = with_tuned(result, tuned, inverter.view(x))
        words, titles, did = f"{words} tuned", [*titles, "tuned"], [*did, "tuning"]
        show()
    early = ", stopped early" if session.stopping else ""
    return f"{photo.name}: inverted in {', '.join(did)}{early}; {time.perf_counter() - begin:.1f} s."


def with_tuned(result: Inversion, tuned: torch.nn.Module, view: Viewed) -> Inversion:
    """An inversion with one step more: the same code, drawn by the tuned generator as `view` shows the others."""
    code = result.latents[:, -1:]
    on_device = code[:, 0].to(tuned.w_avg.device)
    image = view.beside(averaged(tuned, on_device, view.size[0])).cpu()
    return Inversion(torch.cat([result.latents, code], 1), torch.cat([result.images, image[:, None]], 1))


def count(steps: int) -> str:
    """The number of steps in words."""
    return "1 step" if steps == 1 else f"{steps} steps"
