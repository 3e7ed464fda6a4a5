"""The panel that inverts the face."""

import time
from collections.abc import Sequence
from functools import partial

import ipywidgets as ipw
from torch import Tensor

from restyle_lib.images import to_tensor
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS, Inverter
from restyle_lib.inversion.optimize import hybrid
from restyle_lib.inversion.refine import Callback
from restyle_lib.widgets.parts import FILL, LABELLED, WIDTH, wide
from restyle_lib.widgets.pictures import draw
from restyle_lib.widgets.session import Inverted, Photo, Session

MOST_STEPS = 10  # as many as any training looked at
MOST_OPTIMIZED = 1000


class InvertPanel(ipw.HBox):
    """Chooses the method, the number of steps, and of steps of optimization after them (the hybrid), and inverts."""

    def __init__(self, session: Session, methods: Sequence[str], steps: int):
        self.session = session
        self.method = ipw.Dropdown(options=methods, description="Method", style=LABELLED, layout=wide(242))
        self.method.value = FOR_PHOTOGRAPHS if FOR_PHOTOGRAPHS in methods else methods[0]
        self.steps = ipw.BoundedIntText(steps, 1, MOST_STEPS, description="Steps", style=LABELLED, layout=wide(110))
        tooltip = (
            "hybrid: steps of optimization that go on from the encoder's code, five a second at 256 px; 0 for none"
        )
        more = {"description": "then optimize", "tooltip": tooltip, "style": {"description_width": "96px"}}
        self.optimize = ipw.BoundedIntText(0, 0, MOST_OPTIMIZED, step=20, layout=wide(160), **more)
        self.button = ipw.Button(description="Invert", button_style="primary", icon="play", layout=wide(90))
        self.progress = ipw.IntProgress(0, 0, steps, layout=FILL)
        super().__init__([self.method, self.steps, self.optimize, self.button, self.progress], layout=wide(WIDTH))
        self.button.on_click(self._click)
        session.observe(self._follow, "busy")
        self._follow()

    def _click(self, _) -> None:
        if photo := self.session.photo:
            work = partial(self._invert, photo, self.method.value, self.steps.value, self.optimize.value)
            self.session.run(f"{self.method.value}: inverting {photo.name} …", work)

    def _invert(self, photo: Photo, method: str, steps: int, optimized: int) -> str:
        self.progress.value = 0
        inverter = self.session.inverter(method)
        steps = 1 if inverter.one_pass else steps
        self.progress.max = steps + optimized
        self.session.inverted = invert(photo, method, inverter, steps, optimized, self._advance)
        took = f"{count(steps)}{f' and {optimized} of optimization' * bool(optimized)}"
        return f"{method}: {photo.name} inverted in {took}, {self.session.inverted.seconds:.2f} s."

    def _advance(self, t: int, w: Tensor, y: Tensor) -> None:
        self.progress.value = t

    def _follow(self, _=None) -> None:
        self.method.disabled = self.steps.disabled = self.optimize.disabled = self.session.busy
        self.button.disabled = self.session.busy or not self.session.photo


def invert(
    photo: Photo, method: str, inverter: Inverter, steps: int, optimized: int = 0, callback: Callback | None = None
) -> Inverted:
    """Inverts a face, and draws all its steps; one step more with optimization.

    callback(t, w_t, y_t) counts on through the steps of optimization.
    """
    x = to_tensor(photo.crop)
    start = time.perf_counter()
    result = inverter.invert(x, steps, callback)
    if optimized:
        result = hybrid(inverter, x, result, optimized, callback and (lambda t, w, y: callback(steps + t, w, y)))
    seconds = time.perf_counter() - start
    titles = ["the mean face", *(f"after {count(t)}" for t in range(1, steps + 1))]
    words, titles = (f"{method} optimized", [*titles, "optimized"]) if optimized else (method, titles)
    return draw(photo, words, method, inverter, result, seconds, titles)


def count(steps: int) -> str:
    """The number of steps in words."""
    return "1 step" if steps == 1 else f"{steps} steps"
