"""The panel that slides through the steps of the inversion on show."""

import time
from functools import partial

import ipywidgets as ipw
from safetensors.torch import save

from restyle_lib.images import to_image
from restyle_lib.widgets.parts import BLANK, FILL, GAP, LABELLED, SHOWN, WIDTH, Card, beside, files, link, png, wide
from restyle_lib.widgets.pictures import change_caption, number_table, step_caption
from restyle_lib.widgets.session import Session


class StepsPanel(ipw.VBox):
    """Slides through the steps of the inversion on show: pictures, numbers, the full render, files."""

    def __init__(self, session: Session):
        self.session = session
        self.input, self.output, self.change = Card(SHOWN), Card(SHOWN), Card(SHOWN)
        self.play = ipw.Play(interval=700, show_repeat=False)
        self.slider = ipw.IntSlider(description="Step", style=LABELLED, layout=FILL)
        ipw.jslink((self.play, "value"), (self.slider, "value"))
        self.numbers, self.files = (ipw.HTML(layout=wide(SHOWN, margin="0")) for _ in range(2))
        self.button = ipw.Button(description="Render at 1024 px", icon="image", layout=wide(SHOWN, margin="0"))
        self.full = Card(2 * SHOWN + GAP)
        pictures = beside(self.input, self.output, self.change)
        slide = ipw.HBox([ipw.Box([self.play], layout=wide(SHOWN + GAP)), self.slider], layout=wide(WIDTH))
        left = ipw.VBox([self.numbers, self.button, self.files], layout=wide(SHOWN, grid_gap="8px"))
        super().__init__([pictures, slide, beside(left, self.full)])
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
            self.output.show(step_caption(step, self.shown.titles), self.shown.pictures[step])
            self.change.show(change_caption(step, self.shown.numbers.change[step]), self.shown.changes[step])
            self.numbers.value = number_table(self.shown.numbers, step)
        else:
            self.output.show("reconstruction ŷ", BLANK)
            self.change.show("what a step changes", BLANK)
            self.numbers.value = ""
        if step in self.renders:
            self.full.show(f"{step_caption(step, self.shown.titles)}, at {self.width} px", self.renders[step])
        self.full.layout.display = "flex" if step in self.renders else "none"
        self._follow()

    def _click(self, _) -> None:
        if self.shown:
            step = self.slider.value
            self.session.run(f"rendering step {step} at full size …", partial(self._render, step))

    def _render(self, step: int) -> str:
        start = time.perf_counter()
        G = self.session.generator(self.shown.renderer)
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
        self.files.value = files(links)

    def _follow(self, _=None) -> None:
        self.button.disabled = self.session.busy or not self.shown or self.slider.value in self.renders
