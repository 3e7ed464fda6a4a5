"""The explorer: inverts a photograph, slides through its steps, edits and films it; see `explore`.

Its panels share a `Session`, which is all of its state. They watch it, and give it whatever takes time; a further panel
needs to know nothing else. Each has a `stage`, the large picture that is shown while its tab is open.
"""

from collections.abc import Sequence

import ipywidgets as ipw

from restyle_lib.inversion.inverter import shipped_inverters
from restyle_lib.widgets.bootstrap import BootstrapPanel
from restyle_lib.widgets.edit import EditPanel
from restyle_lib.widgets.film import FilmPanel
from restyle_lib.widgets.invert import InvertPanel
from restyle_lib.widgets.parts import styled
from restyle_lib.widgets.photo import PhotoPanel
from restyle_lib.widgets.session import Session
from restyle_lib.widgets.steps import StepsPanel

__all__ = ["Explorer", "Session", "explore"]


class Explorer(ipw.VBox):
    """All panels; `session` is what they share."""

    def __init__(self, methods: Sequence[str], steps: int, renders: int):
        self.session = Session()
        self.steps = StepsPanel(self.session)
        self.edit = EditPanel(self.session)
        self.film = FilmPanel(self.session)
        self.bootstrap = BootstrapPanel(self.session, methods, steps, self.steps.stage)
        self.invert = InvertPanel(self.session, methods, steps)
        self.photo = PhotoPanel(self.session, renders)
        panels = {"Steps": self.steps, "Edit": self.edit, "Film": self.film, "Cartoon": self.bootstrap}
        self.tabs = ipw.Tab(list(panels.values()), titles=list(panels), selected_index=0)
        self.stage = styled(ipw.Box([self.steps.stage]), "restyle-stage")
        side = styled(ipw.Box([self.tabs]), "restyle-side")
        side.layout.display = self.stage.layout.display = "block"
        super().__init__([self.photo, self.invert, styled(ipw.Box([self.stage, side]), "restyle-main")])
        styled(self, "restyle-explorer")
        for button in (self.invert.button, self.bootstrap.button):
            button.on_click(self._show_steps)
        self.tabs.observe(self._show_stage, "selected_index")

    def _show_steps(self, _) -> None:
        """Where what begins now is seen."""
        self.tabs.selected_index = 0

    def _show_stage(self, change) -> None:
        self.stage.children = [self.tabs.children[change.new or 0].stage]


def explore(methods: Sequence[str] | None = None, steps: int = 5, renders: int = 6) -> Explorer:
    """The explorer: choose, upload or take a photograph, invert it, slide through the steps, edit it, film and save it.

    methods: inverters of faces by name, or paths of checkpoints; the shipped ones where not given
    steps:   how many to begin with
    renders: how many held-out renders to offer beside the photographs
    """
    return Explorer(methods or shipped_inverters(), steps, renders)
