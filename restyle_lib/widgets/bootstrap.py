"""Encoder bootstrapping: one encoder begins and another goes on, so that a face becomes a cartoon."""

import time
from collections.abc import Sequence
from functools import partial

import ipywidgets as ipw
from torch import Tensor

from restyle_lib.images import to_tensor
from restyle_lib.inversion.bootstrap import bootstrap
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS
from restyle_lib.widgets.elements import Compare
from restyle_lib.widgets.invert import MOST_STEPS, count
from restyle_lib.widgets.parts import row, styled
from restyle_lib.widgets.pictures import describe
from restyle_lib.widgets.session import Photo, Session

ABOUT = """The first encoder takes some steps from the mean face, the second goes on from the code that it found. Both
need the same W. The result is shown under <i>Steps</i>."""


class BootstrapPanel(ipw.VBox):
    """Chooses two encoders and the step at which the second takes over, and inverts."""

    def __init__(self, session: Session, methods: Sequence[str], steps: int, stage: Compare):
        self.session, self.stage = session, stage
        labelled = {"style": {"description_width": "110px"}, "layout": {"width": "330px"}}
        self.first = ipw.Dropdown(options=methods, description="First encoder", **labelled)
        self.second = ipw.Dropdown(options=methods, description="Second encoder", **labelled)
        self.first.value = FOR_PHOTOGRAPHS if FOR_PHOTOGRAPHS in methods else methods[0]
        self.second.value = next((name for name in methods if name.startswith("toon/")), methods[-1])
        self.switch = ipw.BoundedIntText(1, 1, MOST_STEPS, description="Steps of the first", **labelled)
        self.steps = ipw.BoundedIntText(steps, 1, MOST_STEPS, description="Steps in all", **labelled)
        self.button = ipw.Button(description="Make a cartoon", button_style="primary", layout={"width": "130px"})
        about = styled(ipw.HTML(ABOUT), "restyle-quiet")
        super().__init__(
            [about, self.first, self.switch, self.second, self.steps, row(self.button)], layout={"grid_gap": "6px"}
        )
        self.button.on_click(self._click)
        session.observe(self._follow, ["photo", "busy"])
        self._follow()

    def _click(self, _) -> None:
        if photo := self.session.photo:
            choice = self.first.value, self.second.value, self.switch.value, self.steps.value
            self.session.run(f"bootstrapping {photo.name} …", partial(self._bootstrap, photo, *choice))

    def _bootstrap(self, photo: Photo, first: str, second: str, switch: int, steps: int) -> str:
        begin = time.perf_counter()
        one, two = self.session.inverter(first), self.session.inverter(second)

        def advance(t: int, w: Tensor, y: Tensor) -> None:
            self.session.advance(t / steps, f"step {t} of {steps}")

        result = bootstrap(one, two, to_tensor(photo.crop), steps, switch, advance)
        names = ["first" if t <= switch else "second" for t in range(1, steps + 1)]
        titles = ["the mean face", *(f"after {count(t)} ({name})" for t, name in enumerate(names, 1))]
        G = self.session.generator(second)
        self.session.inverted = describe(photo, f"{first} then {second}", G, None, two, result, titles)
        took = time.perf_counter() - begin
        return f"{photo.name}: {count(switch)} of {first}, then {second}; {took:.1f} s."

    def _follow(self, _=None) -> None:
        for control in (self.first, self.second, self.switch, self.steps):
            control.disabled = self.session.busy
        self.button.disabled = self.session.busy or not self.session.photo
