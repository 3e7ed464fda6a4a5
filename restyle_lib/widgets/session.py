"""What the panels share: the face on show, its inversion, and one worker in the background."""

import re
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from pathlib import Path

import ipywidgets as ipw
import pandas as pd
import torch
import traitlets
from PIL import Image

from restyle_lib.assets import AssetError
from restyle_lib.inversion.inverter import Inverter, load_inverter
from restyle_lib.inversion.result import Inversion
from restyle_lib.precision import best_device
from restyle_lib.widgets.parts import WIDTH, wide

ERROR = "var(--jp-error-color1, #c62828)"


@dataclass(frozen=True)
class Photo:
    """A face to invert: its name, and the aligned crop, RGB, 256 px."""

    name: str
    crop: Image.Image


@dataclass(frozen=True, eq=False)
class Inverted:
    """An inversion, and what is shown of its steps 0..N."""

    photo: Photo
    method: str
    """What made it, in words."""
    renderer: str
    """The inverter whose full generator renders its codes."""
    result: Inversion
    seconds: float
    titles: list[str]
    """What each y_t is, in words."""
    numbers: pd.DataFrame
    """A row per step, see `pictures.step_numbers`."""
    pictures: list[bytes]
    """PNG of each y_t, enlarged to 256 px."""
    changes: list[bytes]
    """PNG of each |y_t - y_{t-1}|; that of step 0 is blank."""
    strip: bytes
    """PNG of all of them side by side."""

    @property
    def stem(self) -> str:
        """What the names of its files begin with."""
        words = f"{Path(self.photo.name).stem} {self.method.replace('faces/', '').replace('.pt', '')}"
        return re.sub(r"[^\w-]+", "-", words).strip("-")


class Session(traitlets.HasTraits):
    """What the panels share: the face on show, its inversion, and one worker in the background.

    Panels observe `photo`, `inverted` (None until there is one of this photo) and `busy`. Observers may run in the
    worker's thread.
    """

    photo = traitlets.Instance(Photo, allow_none=True)
    inverted = traitlets.Instance(Inverted, allow_none=True)
    busy = traitlets.Bool(False)

    def __init__(self):
        super().__init__()
        self.message = ipw.HTML(layout=wide(WIDTH))
        self.inverter = lru_cache(maxsize=2)(_load_inverter)  # an official checkpoint fills gigabytes
        self.generator = lru_cache(maxsize=2)(lambda method: self.inverter(method).full_generator().to(best_device()))
        self._worker = ThreadPoolExecutor(1)
        self._job = Future()

    def run(self, doing: str, work: Callable[[], str]) -> None:
        """Lets work() do in the background what takes time; it returns what to say at its end.

        Ignored while other work is under way. What goes wrong is shown, with advice where the error gives it.
        """
        if self.busy:
            return
        self.busy = True
        self.say(doing)
        self._job = self._worker.submit(self._work, work)

    def wait(self, timeout: float | None = None) -> None:
        """Returns when the work that `run` began last is done, and all that followed from it."""
        while not (job := self._job).done():
            job.result(timeout)

    def say(self, text: str, colour: str = "inherit", details: str = "") -> None:
        """Shows a line of plain text, and details to unfold."""
        more = f"<details><summary>details</summary><pre>{escape(details)}</pre></details>" if details else ""
        self.message.value = f'<div role="status" style="color: {colour}; line-height: 1.4">{escape(text)}{more}</div>'

    def _work(self, work: Callable[[], str]) -> None:
        try:
            with torch.no_grad():  # holds for one thread only, so the notebook's own setting does not reach this one
                self.say(work())
        except (AssetError, OSError, ValueError) as error:  # those that say what to do
            self.say(str(error), ERROR)
        except Exception as error:  # nobody would see it in a thread
            self.say(f"{type(error).__name__}: {error}", ERROR, traceback.format_exc())
        finally:
            self.busy = False


def _load_inverter(method: str) -> Inverter:
    return load_inverter(method).to(best_device())
