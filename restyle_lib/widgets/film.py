"""Films: the steps in motion, an edit there and back, a morph between the people inverted so far."""

import tempfile
from functools import partial
from pathlib import Path

import ipywidgets as ipw

from restyle_lib.commands.film import script
from restyle_lib.inversion.edit import directions
from restyle_lib.reporting import films
from restyle_lib.widgets.elements import Compare, Download
from restyle_lib.widgets.parts import row, styled
from restyle_lib.widgets.session import Inverted, Session

SIZE = 512
STRENGTH = 2.0  # of an edit, to both sides
KINDS = {"steps": "from the mean face to the last step", "edit": "an edit there and back", "morph": "between people"}


class FilmPanel(ipw.VBox):
    """Chooses what to film, draws it, shows it on `stage`, and saves it."""

    def __init__(self, session: Session):
        self.session, self.film = session, ("", b"")
        self.video = ipw.Video(format="mp4", autoplay=True, loop=True)
        self.stage = styled(
            ipw.Box([Compare(hint="The film is shown here, and takes some seconds to draw")]), "restyle-film"
        )
        self.stage.layout.display = "block"
        style = {"style": {"description_width": "80px"}, "layout": {"width": "280px"}}
        self.kind = ipw.ToggleButtons(options=list(KINDS), tooltips=list(KINDS.values()))
        self.direction = ipw.Dropdown(options=list(directions()), description="Direction", **style)
        self.other = ipw.Dropdown(options=[], description="Morph with", **style)
        self.seconds = ipw.FloatSlider(1.0, min=0.1, max=3.0, step=0.1, description="Seconds", **style)
        self.about = styled(ipw.HTML(), "restyle-quiet")
        self.button = ipw.Button(description="Make the film", button_style="primary", layout={"width": "130px"})
        self.downloads = [Download(suffix, partial(self._save, suffix)) for suffix in ("MP4", "GIF")]
        save = row(self.button, ipw.HTML("Save"), *self.downloads)
        super().__init__(
            [self.kind, self.about, self.direction, self.other, self.seconds, save], layout={"grid_gap": "8px"}
        )
        self.kind.observe(self._follow, "value")
        self.button.on_click(self._click)
        session.observe(self._follow, ["inverted", "busy"])
        self._follow()

    def _follow(self, _=None) -> None:
        of, busy, kind = self.session.inverted, self.session.busy, self.kind.value
        others = [name for name, inverted in self.session.people.items() if inverted is not of]
        if list(self.other.options) != others:
            self.other.options, self.other.value = others, next(iter(others), None)
        self.direction.layout.display = "" if kind == "edit" else "none"
        self.other.layout.display = "" if kind == "morph" else "none"
        self.about.value = KINDS[kind] + (": invert another face first" if kind == "morph" and not others else "")
        for control in (self.kind, self.direction, self.other, self.seconds):
            control.disabled = busy
        self.button.disabled = busy or not of or (kind == "morph" and not others)
        for download in self.downloads:
            download.disabled = busy or not self.film[1]

    def _click(self, _) -> None:
        of, kind = self.session.inverted, self.kind.value
        assert of, "the button rests until there is one"
        people = [of, self.session.people[self.other.value]] if kind == "morph" else [of]
        make = partial(self._make, people, kind, self.direction.value, self.seconds.value)
        self.session.run("drawing the film …", make)

    def _make(self, people: list[Inverted], kind: str, direction: str, seconds: float) -> str:
        trails = [of.result.latents[0] for of in people]
        if len({trail.shape[1] for trail in trails}) > 1:
            raise ValueError("these two have codes of different numbers of styles: invert both by one method")
        codes = script(kind, trails, direction, STRENGTH, seconds)
        (G, mixed), drawn = drawn_by(people, kind, seconds), 0

        def advance() -> None:
            nonlocal drawn
            drawn += 1
            self.session.advance(drawn / len(codes), f"drawing the film, frame {drawn} of {len(codes)}")

        images = list(films.frames(G, codes, SIZE, advance, mixed))
        name = "-".join([*(of.stem for of in people), direction if kind == "edit" else kind])
        self.images, self.film = images, (name, written(images, "film.mp4"))
        self.video.value, self.stage.children = self.film[1], [self.video]
        return f"{kind}: a film of {len(codes) / films.FPS:.1f} s."

    def _save(self, suffix: str, download: Download) -> None:
        name, mp4 = self.film
        kind = suffix.lower()
        self.session.save(
            download, lambda: (f"{name}.{kind}", mp4 if kind == "mp4" else written(self.images, "film.gif"))
        )


def drawn_by(people: list[Inverted], kind: str, seconds: float) -> tuple:
    """The generator and shares of `films.frames`: each end of a way is drawn by its own generator, tuned or not.

    Of several families, which cannot be mixed, the first one's draws all.
    """
    first = people[0]
    if kind == "edit":
        return first.generator(first.last), None
    one_family = len({getattr(of.G, "family", id(of.G)) for of in people}) == 1
    if not one_family or not any(of.tuned for of in people):
        return first.G, None
    if kind == "steps":
        owners = [first.generator(t) for t in range(first.last + 1)]
    else:
        owners = [of.generator(of.last) for of in people]
    return owners, films.shares(len(owners), seconds, around=kind == "morph")


def written(images: list, name: str) -> bytes:
    """The bytes of a film; the name's ending says of which kind."""
    with tempfile.TemporaryDirectory() as folder:
        return films.write(Path(folder) / name, images).read_bytes()
