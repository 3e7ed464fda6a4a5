"""The panel that begins with one encoder and goes on with another."""

import time
from collections.abc import Sequence
from functools import partial

import ipywidgets as ipw
from torch import Tensor

from restyle_lib.images import to_tensor
from restyle_lib.inversion.bootstrap import bootstrap
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS
from restyle_lib.widgets.invert import MOST_STEPS, count
from restyle_lib.widgets.parts import FILL, WIDTH, wide
from restyle_lib.widgets.pictures import draw
from restyle_lib.widgets.session import Photo, Session

ABOUT = """<b>Encoder bootstrapping</b>: the first encoder takes some steps from the mean face, the second goes on from
the code that it found. Both need the same W. The result is shown under <i>Steps</i>."""


class BootstrapPanel(ipw.VBox):
    """Chooses two encoders and the step at which the second takes over, and inverts."""

    def __init__(self, session: Session, methods: Sequence[str], steps: int):
        self.session = session
        labelled = {"style": {"description_width": "110px"}, "layout": wide(330)}
        self.first = ipw.Dropdown(options=methods, description="First encoder", **labelled)
        self.second = ipw.Dropdown(options=methods, description="Second encoder", **labelled)
        self.first.value = FOR_PHOTOGRAPHS if FOR_PHOTOGRAPHS in methods else methods[0]
        self.second.value = next((name for name in methods if name.startswith("toon/")), methods[-1])
        self.switch = ipw.BoundedIntText(1, 1, MOST_STEPS, description="Steps of the first", **labelled)
        self.steps = ipw.BoundedIntText(steps, 1, MOST_STEPS, description="Steps in all", **labelled)
        self.button = ipw.Button(description="Bootstrap", button_style="primary", icon="play", layout=wide(110))
        self.progress = ipw.IntProgress(0, 0, steps, layout=FILL)
        choices = [ipw.HBox([self.first, self.switch]), ipw.HBox([self.second, self.steps])]
        super().__init__(
            [ipw.HTML(ABOUT, layout=wide(WIDTH)), *choices, ipw.HBox([self.button, self.progress], layout=wide(WIDTH))]
        )
        self.button.on_click(self._click)
        session.observe(self._follow, ["photo", "busy"])
        self._follow()

    def _click(self, _) -> None:
        if photo := self.session.photo:
            choice = self.first.value, self.second.value, self.switch.value, self.steps.value
            self.session.run(f"bootstrapping {photo.name} …", partial(self._bootstrap, photo, *choice))

    def _bootstrap(self, photo: Photo, first: str, second: str, switch: int, steps: int) -> str:
        self.progress.value, self.progress.max = 0, steps
        one, two = self.session.inverter(first), self.session.inverter(second)
        start = time.perf_counter()
        result = bootstrap(one, two, to_tensor(photo.crop), steps, switch, self._advance)
        seconds = time.perf_counter() - start
        names = ["first" if t <= switch else "second" for t in range(1, steps + 1)]
        titles = ["the mean face", *(f"after {count(t)} ({name})" for t, name in enumerate(names, 1))]
        words = f"{first} then {second}"
        self.session.inverted = draw(photo, words, second, two, result, seconds, titles)
        return f"{photo.name}: {count(switch)} of {first}, then {second}, {seconds:.2f} s."

    def _advance(self, t: int, w: Tensor, y: Tensor) -> None:
        self.progress.value = t

    def _follow(self, _=None) -> None:
        for control in (self.first, self.second, self.switch, self.steps):
            control.disabled = self.session.busy
        self.button.disabled = self.session.busy or not self.session.photo
