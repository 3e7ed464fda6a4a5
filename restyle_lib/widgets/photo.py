"""The panel that chooses the face."""

import io
from collections.abc import Callable
from functools import partial
from pathlib import Path

import ipywidgets as ipw
from PIL import Image

from restyle_lib.evaluation import sets
from restyle_lib.faces.align import align
from restyle_lib.images import open_photo, to_float, to_image
from restyle_lib.widgets.parts import FILL, LABELLED, WIDTH, wide
from restyle_lib.widgets.pictures import SIZE
from restyle_lib.widgets.session import Photo, Session

RENDER = "held-out render"


class PhotoPanel(ipw.HBox):
    """Chooses the face: one of the samples, or in a photograph of the user's own, uploaded or opened where it lies."""

    def __init__(self, session: Session, renders: int):
        self.session, self.crops = session, samples(renders)
        self.picker = ipw.Dropdown(options=list(self.crops), description="Photo", style=LABELLED, layout=wide(250))
        self.upload = ipw.FileUpload(
            accept="image/*", description="Upload a photo", tooltip="up to 10 MB", layout=wide(170)
        )
        # Jupyter drops messages over 10 MB, in silence; a file that the kernel opens itself may be of any size
        self.path = ipw.Text(placeholder="or its path, if over 10 MB", continuous_update=False, layout=FILL)
        super().__init__([self.picker, self.upload, self.path], layout=wide(WIDTH))
        self.picker.observe(self._pick, "value")
        self.upload.observe(self._receive, "value")
        self.path.observe(self._open, "value")
        session.observe(self._follow, "busy")
        self._pick()

    def _pick(self, _=None) -> None:
        name = self.picker.value
        wait = " The first time, some faces are rendered, for up to a minute." if name.startswith(RENDER) else ""
        self.session.run(f"{name}: opening …{wait}", partial(self._show, name, self.crops[name]))

    def _receive(self, change) -> None:
        if change.new:
            self.upload.value = ()  # else the same file could not be chosen twice
            file = io.BytesIO(change.new[0]["content"])
            file.name = change.new[0]["name"]
            self._take(file.name, file)

    def _open(self, change) -> None:
        if path := change.new.strip():
            self._take(Path(path).name, Path(path).expanduser())

    def _take(self, name: str, file: Path | io.BytesIO) -> None:
        work = partial(self._show, name, lambda: align(open_photo(file), SIZE))
        self.session.run(f"{name}: looking for a face …", work)

    def _show(self, name: str, crop: Callable[[], Image.Image]) -> str:
        try:
            photo = Photo(name, crop())
        except ValueError as error:
            message = str(error)
            raise ValueError(message if name in message else f"{name}: {message}") from error
        self.crops[name] = lambda: photo.crop
        self.session.inverted, self.session.photo = None, photo
        return f"{name}: cropped as FFHQ is. Now choose a method and invert."

    def _follow(self, change) -> None:
        """Controls rest during work; then the picker shows what is on show, also where another choice has failed."""
        self.picker.disabled = self.upload.disabled = self.path.disabled = change.new
        if not change.new and self.session.photo:
            self.picker.unobserve(self._pick, "value")
            if self.picker.options != tuple(self.crops):
                self.picker.options = tuple(self.crops)
            self.picker.value = self.session.photo.name
            self.picker.observe(self._pick, "value")


def samples(renders: int) -> dict[str, Callable[[], Image.Image]]:
    """Names of the samples, and what makes their aligned crops, some of which takes time."""
    photos = {name: partial(align, photo, SIZE) for name, photo in sets.photographs().items()}
    return photos | {f"{RENDER} {i + 1}": partial(_heldout, i, renders) for i in range(renders)}


def _heldout(i: int, n: int) -> Image.Image:
    return to_image(to_float(sets.heldout(n).images[i]))
