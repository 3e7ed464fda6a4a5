"""The steps of the inversion on show: pictures, numbers, files."""

import tempfile
from functools import partial
from pathlib import Path

import ipywidgets as ipw
from safetensors.torch import save

from restyle_lib.generators.mobile import MobileGenerator
from restyle_lib.images import to_image
from restyle_lib.inversion.tune import save_tuned
from restyle_lib.precision import autocast
from restyle_lib.widgets.elements import Compare, Download
from restyle_lib.widgets.parts import jpeg, png, row, styled
from restyle_lib.widgets.pictures import change_caption, contact_sheet, number_table
from restyle_lib.widgets.session import Inverted, Session

DIGITS = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


class StepsPanel(ipw.VBox):
    """Slides through the steps. `stage` shows the photograph beside the step, at full size once the slider rests."""

    def __init__(self, session: Session):
        self.session = session
        self.stage = Compare()
        self.slider = ipw.IntSlider(description="Step", style={"description_width": "40px"}, layout={"width": "98%"})
        self.caption, self.numbers = ipw.HTML(), ipw.HTML()
        self.change = ipw.Image(format="jpeg", layout={"width": "180px", "height": "180px"})
        change = styled(ipw.VBox([self.caption, self.change]), "restyle-change")
        self.files = {
            "Picture": self._picture,
            "In the photograph": self._pasted,
            "All steps": lambda of, step: (f"{of.stem}-steps.png", png(contact_sheet(of))),
            "Codes": lambda of, step: (f"{of.stem}.safetensors", save({"latents": of.result.latents[0].contiguous()})),
            "Tuned generator": self._tuned,
        }
        self.downloads = {name: Download(name, partial(self._save, make)) for name, make in self.files.items()}
        self.save = row(ipw.HTML("Save"), *self.downloads.values())
        self.measures = row(change, self.numbers)
        super().__init__([self.slider, self.measures, self.save], layout={"grid_gap": "10px"})
        self.slider.observe(self._move, "value")
        session.observe(self._restart, ["photo", "inverted"])
        session.observe(self._show, "step")
        session.observe(self._preview, "preview")
        session.observe(self._follow, "busy")
        self._restart()

    def _restart(self, _=None) -> None:
        """Shows another photograph or inversion, from its last step on."""
        photo, inverted = self.session.photo, self.session.inverted
        self.slider.unobserve(self._move, "value")
        self.slider.value = 0  # a step that every inversion has: the user may move it at this moment
        self.slider.max = self.slider.value = self.session.step = inverted.last if inverted else 0
        self.slider.observe(self._move, "value")
        self.slider.disabled = not inverted
        self.stage.before = jpeg(photo.shown) if photo else b""
        self.stage.before_label = "photograph" if photo else ""
        self._show()

    def _move(self, _) -> None:
        self.session.step = self.slider.value

    def _show(self, _=None) -> None:
        """Shows the step at once as the encoder saw it, then at full size."""
        of, step = self.session.inverted, self.session.step
        if of:
            self.stage.after, self.stage.after_label = of.pictures[step], step_name(of, step)
            self.change.value, self.caption.value = of.changes[step], change_caption(step, of.numbers.change[step])
            self.numbers.value = number_table(of.numbers, of.titles, step)
            self.session.draw(self, partial(self._sharpen, of, step))
        else:
            self.stage.after, self.stage.after_label = b"", ""
        self.measures.layout.visibility = "visible" if of else "hidden"
        self._follow()

    def _sharpen(self, of: Inverted, step: int) -> None:
        if self.session.settled():
            with autocast(of.G.w_avg.device):
                picture = jpeg(of.result.final(of.generator(step), step))
            if (of, step) == (self.session.inverted, self.session.step):
                self.stage.after = picture

    def _preview(self, change) -> None:
        self.stage.after, self.stage.after_label = change.new

    def _follow(self, _=None) -> None:
        of = self.session.inverted
        for download in self.downloads.values():
            download.disabled = self.session.busy or not of
        self.downloads["In the photograph"].layout.display = "none" if of and not of.photo.whole else ""
        self.downloads["Tuned generator"].layout.display = "" if of and of.tuned else "none"

    def _save(self, make, download: Download) -> None:
        self.session.save(download, partial(make, self.session.inverted, self.session.step))

    def _picture(self, of: Inverted, step: int) -> tuple[str, bytes]:
        image = of.result.final(of.generator(step), step)
        return f"{of.stem}-step{step}-{image.shape[-1]}.png", png(to_image(image))

    def _pasted(self, of: Inverted, step: int) -> tuple[str, bytes]:
        return f"{of.stem}-step{step}-in-photograph.png", png(
            of.photo.with_face(of.result.final(of.generator(step), step))
        )

    def _tuned(self, of: Inverted, step: int) -> tuple[str, bytes]:
        assert isinstance(of.tuned, MobileGenerator), "its button is shown where there is one"
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / f"{of.stem}-generator.safetensors"
            save_tuned(path, of.tuned, of.result.latents[:, -1])
            return path.name, path.read_bytes()


def step_name(of: Inverted, step: int) -> str:
    """Names a reconstruction."""
    return f"ŷ{str(step).translate(DIGITS)}, {of.titles[step]}"
