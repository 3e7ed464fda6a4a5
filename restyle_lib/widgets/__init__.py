"""The explorer: widgets that invert a photograph, slide through what each step did to it, and edit it; see `explore`.

Its panels share a `Session`. They watch it for the photograph and the inversion that are on show, and give it
whatever takes time; a further panel needs to know nothing else.
"""

from collections.abc import Sequence

import ipywidgets as ipw

from restyle_lib.inversion.inverter import shipped_inverters
from restyle_lib.widgets.bootstrap import BootstrapPanel
from restyle_lib.widgets.edit import EditPanel
from restyle_lib.widgets.invert import InvertPanel
from restyle_lib.widgets.parts import BLANK, WIDTH, wide
from restyle_lib.widgets.photo import PhotoPanel
from restyle_lib.widgets.session import ERROR, Session
from restyle_lib.widgets.steps import StepsPanel

__all__ = ["BLANK", "ERROR", "Explorer", "Session", "explore"]

NOT_OFFERED = {"faces/start"}  # what the other encoders began as


class Explorer(ipw.VBox):
    """All panels; `session` is what they share."""

    def __init__(self, methods: Sequence[str], steps: int, renders: int):
        self.session = Session()
        self.steps = StepsPanel(self.session)
        self.edit = EditPanel(self.session)
        self.bootstrap = BootstrapPanel(self.session, methods, steps)
        self.invert = InvertPanel(self.session, methods, steps)
        self.photo = PhotoPanel(self.session, renders)
        panels = {"Steps": self.steps, "Edit": self.edit, "Bootstrap": self.bootstrap}
        self.tabs = ipw.Tab(list(panels.values()), titles=list(panels), layout=wide(WIDTH + 34))  # and its padding
        super().__init__([self.photo, self.invert, self.session.message, self.tabs])
        self.session.observe(self._show_steps, "inverted")

    def _show_steps(self, change) -> None:
        if change.new:
            self.tabs.selected_index = 0


def explore(methods: Sequence[str] | None = None, steps: int = 5, renders: int = 6) -> Explorer:
    """The explorer: choose or upload a photograph, invert it, slide through the steps, edit it, render and save.

    methods: inverters of faces by name, or paths of checkpoints; the shipped ones where not given
    steps:   how many to begin with
    renders: how many held-out renders to offer beside the two photographs
    """
    return Explorer(methods or [name for name in shipped_inverters() if name not in NOT_OFFERED], steps, renders)
