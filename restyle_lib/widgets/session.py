"""The state of the explorer, and the one worker that does what takes time."""

import re
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import traitlets
from PIL import Image

from restyle_lib.assets import AssetError
from restyle_lib.faces.align import cut_face
from restyle_lib.faces.paste import paste
from restyle_lib.inversion.inverter import Inverter, load_inverter
from restyle_lib.inversion.quality import TUNED_SIZE
from restyle_lib.inversion.result import Inversion
from restyle_lib.precision import best_device
from restyle_lib.widgets.elements import Download

PEOPLE = 12  # of whom a morph can be made; a tuned one holds a generator, so that not all of a day can be kept
QUIET = 0.25  # seconds without another wish, after which a picture is drawn at its full size


@dataclass(frozen=True, eq=False)
class Photo:
    """A face to invert: its aligned crop, RGB, and the photograph it is in, unless it is a render.

    The crop has TUNED_SIZE px, or as many as a small face has.
    """

    name: str
    crop: Image.Image
    whole: Image.Image | None = None
    squares: tuple[np.ndarray, ...] = ()
    """Of all faces in `whole`, largest first; see `align.find_square`."""
    face: int = 0
    """Which of them."""

    @property
    def shown(self) -> Image.Image:
        """The crop as it is looked at, at TUNED_SIZE px."""
        return self.crop.resize((TUNED_SIZE, TUNED_SIZE), Image.Resampling.BICUBIC)

    def of_face(self, i: int) -> "Photo":
        """Another face of the same photograph."""
        assert self.whole, "a render is a face, and has no squares"
        crop = cut_face(self.whole, self.squares[i], TUNED_SIZE, TUNED_SIZE)
        return Photo(self.name, crop, self.whole, self.squares, i)

    def with_face(self, image: torch.Tensor, before: torch.Tensor | None = None) -> Image.Image:
        """The photograph with another face [1, 3, s, s] at its place, see `faces.paste.paste`."""
        assert self.whole, "a render has no photograph around it"
        return paste(self.whole, self.squares[self.face], image, before)


@dataclass(frozen=True, eq=False)
class Inverted:
    """An inversion, and what is shown of its steps 0..N."""

    photo: Photo
    method: str
    """What made it, in words."""
    G: torch.nn.Module
    """The full generator of its codes."""
    tuned: torch.nn.Module | None
    """What pivotal tuning made of `G` for the last step."""
    result: Inversion
    titles: list[str]
    """What each y_t is, in words."""
    numbers: pd.DataFrame
    """A row per step, see `pictures.step_numbers`."""
    pictures: list[bytes]
    """JPEG of each y_t as the encoder saw it."""
    changes: list[bytes]
    """JPEG of each |y_t - y_{t-1}|; that of step 0 is blank."""

    @property
    def last(self) -> int:
        return len(self.titles) - 1

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        face = f" face {self.photo.face + 1}" if self.photo.face else ""
        words = f"{Path(self.photo.name).stem}{face} {self.method.replace('faces/', '').replace('.pt', '')}"
        return re.sub(r"[^\w-]+", "-", words).strip("-")

    def generator(self, step: int) -> torch.nn.Module:
        """What draws the code of a step."""
        return self.tuned if self.tuned and step == self.last else self.G


class Session(traitlets.HasTraits):
    """What the panels share. They observe it, and give it what takes time; observers may run in the worker's thread.

    Two kinds of work: `run` is for what the user waits for, with progress and a stop; `draw` for pictures that follow
    a slider, of which only the newest counts.
    """

    photo = traitlets.Instance(Photo, allow_none=True)
    inverted = traitlets.Instance(Inverted, allow_none=True)
    step = traitlets.Int(0)
    """Which step of `inverted` is on show, and is edited."""
    preview = traitlets.Tuple(default_value=(b"", ""))
    """What a search sees at the moment: JPEG, and words."""
    busy = traitlets.Bool(False)
    progress = traitlets.Float(0.0)
    """Share of the work that is done, 0..1."""
    message = traitlets.Tuple(default_value=("", "", ""))
    """A line to show, its kind ("", "quiet" or "error"), details to unfold."""

    def __init__(self) -> None:
        super().__init__()
        self.observe(self._remember, "inverted")
        self.people: dict[str, Inverted] = {}
        """The newest inversion of each of the last PEOPLE faces."""
        self.inverter = lru_cache(maxsize=2)(_load_inverter)  # an official checkpoint fills gigabytes
        self.generator = lru_cache(maxsize=2)(lambda method: self.inverter(method).G.to(best_device()))
        self._worker, self._jobs = ThreadPoolExecutor(1), []
        self._wishes: dict[Hashable, Callable[[], None]] = {}
        self._wished, self._stopping = threading.Event(), threading.Event()

    def run(self, doing: str, work: Callable[[], str]) -> None:
        """Lets work() do what takes time; it returns what to say at its end. Ignored while other work is under way.

        What goes wrong is shown, with advice where the error gives it.
        """
        if self.busy:
            return
        self._stopping.clear()
        self.busy, self.progress = True, 0.0
        self.say(doing, "quiet")
        self._began = time.monotonic()
        self._submit(self._work, work)

    def draw(self, owner: Hashable, draw: Callable[[], None]) -> None:
        """Lets draw() follow as soon as the worker is free, unless the same owner has another wish before."""
        self._wishes[owner] = draw
        self._submit(self._draw, owner)

    def save(self, download: Download, make: Callable[[], tuple[str, bytes]]) -> None:
        """Lets make() give the name and content of a file, which the browser saves."""

        def give() -> None:
            name, content = "", b""
            try:
                name, content = make()
                self.say(f"saved {name}")
            finally:
                download.give(name, content)

        self._submit(self._guarded, give)

    def settled(self) -> bool:
        """Asked between a quick picture and a fine one: whether nobody has had another wish for a moment."""
        return not self._wished.wait(QUIET)

    def stop(self) -> None:
        """Lets the work end at its next step, with what it has."""
        self._stopping.set()
        self.say("stopping …", "quiet")

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def advance(self, share: float, doing: str) -> None:
        """Shows progress and the time left. Raises KeyboardInterrupt, as Ctrl-C would, where a stop was asked for."""
        if self.stopping:
            raise KeyboardInterrupt
        self.progress = share
        left = (time.monotonic() - self._began) * (1 - share) / max(share, 1e-6)
        self.say(f"{doing}, {left:.0f} s left" if share > 0.04 else doing, "quiet")

    def say(self, text: str, kind: str = "", details: str = "") -> None:
        """Shows a line of plain text, and details to unfold."""
        self.message = text, kind, details

    def wait(self, timeout: float = 600) -> None:
        """Returns when all work is done, and all that followed from it."""
        end = time.monotonic() + timeout
        while self._jobs:
            self._jobs[0].result(max(0.0, end - time.monotonic()))
            self._jobs = [job for job in self._jobs if not job.done()]

    def _remember(self, change) -> None:
        if of := change.new:
            name = of.photo.name + (f", face {of.photo.face + 1}" if of.photo.face else "")
            self.people.pop(name, None)  # so that the newest comes last
            self.people[name] = of
            for oldest in list(self.people)[:-PEOPLE]:
                del self.people[oldest]

    def _submit(self, *work) -> Future:
        self._wished.set()
        job = self._worker.submit(*work)
        self._jobs = [*(job for job in self._jobs if not job.done()), job]
        return job

    def _draw(self, owner: Hashable) -> None:
        self._wished.clear()
        if draw := self._wishes.pop(owner, None):
            self._guarded(draw)

    def _work(self, work: Callable[[], str]) -> None:
        done = self._guarded(work)
        self.progress = 1.0 if done else 0.0
        if done:
            self.say(done)
        self.busy = False

    def _guarded(self, work: Callable[[], str | None]) -> str | None:
        """What work() returns; None where it was stopped or went wrong, which is then said."""
        try:
            # no_grad is this thread's, so the notebook's own setting does not reach it; warnings are caught of every
            # thread while this one works, and those of other packages are lost
            with torch.no_grad(), warnings.catch_warnings(record=True) as noted:
                warnings.simplefilter("ignore")
                warnings.simplefilter("always", UserWarning)
                done = work()
            notes = [str(note.message) for note in noted if "restyle_lib" in note.filename]
            return " ".join([done, *(f"Note: {note}." for note in notes)]) if done else done
        except KeyboardInterrupt:
            self.say("stopped")
        except (AssetError, OSError, ValueError) as error:  # those that say what to do
            self.say(str(error), "error")
        except Exception as error:  # nobody would see it in a thread
            self.say(f"{type(error).__name__}: {error}", "error", traceback.format_exc())
        return None


def _load_inverter(method: str) -> Inverter:
    return load_inverter(method).to(best_device())
