"""The photograph and the face in it that is inverted."""

import io
from collections.abc import Callable
from functools import partial
from itertools import chain, count

import ipywidgets as ipw
from PIL import Image

from restyle_lib.evaluation import sets
from restyle_lib.faces.align import NoFaceError, cut_face, cut_square, find_squares
from restyle_lib.images import open_photo, to_float, to_image
from restyle_lib.inversion.quality import TUNED_SIZE
from restyle_lib.widgets.elements import Gallery, Source
from restyle_lib.widgets.parts import row, styled, thumbnail
from restyle_lib.widgets.session import Photo, Session

NO_FACE = """no face found: use a photograph in which the face is upright, looks towards the camera and is at least \
about 40 pixels wide"""
MOST_FACES = 12


class PhotoPanel(ipw.Box):
    """Thumbnails of what can be inverted, what adds to them, and the faces of the photograph on show."""

    def __init__(self, session: Session, renders: int):
        super().__init__()
        self.session, self.photos, self.renders = session, {}, renders
        self.gallery, self.faces = Gallery(self._choose), Gallery(self._choose_face)
        self.source = Source(self.receive, lambda words: session.say(words, "error"))
        self.which = styled(ipw.HTML("Which face?"), "restyle-quiet")
        self.several = row(self.which, self.faces)
        self.children = [row(self.gallery, self.source, kind="restyle-head"), self.several]
        self.layout.display, self.layout.overflow = "block", "visible"
        session.observe(self._follow, ["photo", "busy"])
        self._follow()
        session.run("opening the samples …", self._open_samples)

    def receive(self, name: str, content: bytes) -> None:
        """Opens a file of that name that the browser sent; phones call all of theirs alike."""
        names = chain([name], (f"{name} ({n})" for n in count(2)))
        name = next(each for each in names if each not in self.photos)
        file = io.BytesIO(content)
        file.name = name
        self.session.run(f"{name}: looking for a face …", partial(self._show, partial(found, name, file)))

    def _open_samples(self) -> str:
        for name, image in sets.photographs().items():
            self.photos[name] = in_photograph(name, image)
        renders = to_float(sets.heldout(self.renders).images) if self.renders else []
        for i, render in enumerate(renders, 1):
            self.photos[f"render {i}"] = Photo(f"render {i}", to_image(render))
        self._list()
        return self._show(lambda: next(iter(self.photos.values())))

    def _choose(self, i: int) -> None:
        photo = list(self.photos.values())[i]
        self.session.run(f"{photo.name}: opening …", partial(self._show, lambda: photo))

    def _choose_face(self, i: int) -> None:
        photo = self.session.photo
        assert photo, "its faces are the ones to choose from"
        self.session.run(f"{photo.name}: opening face {i + 1} …", partial(self._show, partial(photo.of_face, i)))

    def _show(self, open_: Callable[[], Photo]) -> str:
        photo = open_()
        self.photos[photo.name] = photo
        self._list()
        self.session.inverted, self.session.photo = None, photo
        count = len(photo.squares)
        return f"{photo.name}: {f'{count} faces found; choose one, then invert' if count > 1 else 'ready to invert'}."

    def _list(self) -> None:
        self.gallery.items = [{"name": name, "picture": thumbnail(photo.crop)} for name, photo in self.photos.items()]

    def _follow(self, _=None) -> None:
        """Controls rest during work; what is marked is what is on show, also where another choice has failed."""
        photo, busy = self.session.photo, self.session.busy
        self.gallery.disabled = self.faces.disabled = self.source.disabled = busy
        if photo:
            self.gallery.chosen = list(self.photos).index(photo.name)
            squares = photo.squares if len(photo.squares) > 1 else ()
            crops = [cut_square(photo.whole, square, 120) for square in squares if photo.whole]
            self.faces.items = [{"name": f"face {i + 1}", "picture": thumbnail(crop)} for i, crop in enumerate(crops)]
            self.faces.chosen = photo.face
        self.several.layout.display = "flex" if self.faces.items else "none"


def found(name: str, file: io.BytesIO) -> Photo:
    """The photograph in a file, its largest face chosen. Raises PhotoError with the file's name."""
    return in_photograph(name, open_photo(file))


def in_photograph(name: str, image: Image.Image) -> Photo:
    """The faces of an upright RGB photograph. Raises NoFaceError where there is none."""
    squares = find_squares(image, small=False)[:MOST_FACES]
    if not squares:
        raise NoFaceError(f"{name}: {NO_FACE}")
    return Photo(name, cut_face(image, squares[0], TUNED_SIZE, TUNED_SIZE), image, tuple(squares))
