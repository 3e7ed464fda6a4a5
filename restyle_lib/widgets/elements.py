"""What ipywidgets lacks, each a few lines of JavaScript in `browser/`: a divider, thumbnails, a camera, saved files."""

from collections.abc import Callable
from pathlib import Path

import anywidget
import traitlets

BROWSER = Path(__file__).parent / "browser"


class Element(anywidget.AnyWidget):
    """One of them; the style sheet is that of the whole explorer."""

    _css = BROWSER / "explorer.css"
    disabled = traitlets.Bool(False).tag(sync=True)


class Compare(Element):
    """Two pictures (bytes of PNG or JPEG) with a divider to drag: what is left of it, and what is right of it."""

    _esm = BROWSER / "compare.js"
    before, after = (traitlets.Bytes(b"").tag(sync=True) for _ in range(2))
    before_label, after_label, hint = (traitlets.Unicode("").tag(sync=True) for _ in range(3))


class Gallery(Element):
    """Pictures [{"name", "picture"}] to choose from; on_choose(i) is called with each click."""

    _esm = BROWSER / "gallery.js"
    items = traitlets.List(traitlets.Dict()).tag(sync=True)
    chosen = traitlets.Int(-1).tag(sync=True)

    def __init__(self, on_choose: Callable[[int], None]):
        super().__init__()
        self.on_msg(lambda _, content, buffers: on_choose(content["chosen"]))


class Source(Element):
    """Upload, drop or take a photograph: on_file(name, content), on_problem(words) where there is no camera."""

    _esm = BROWSER / "source.js"

    def __init__(self, on_file: Callable[[str, bytes], None], on_problem: Callable[[str], None]):
        super().__init__()
        self.on_file, self.on_problem, self._pieces = on_file, on_problem, []
        self.on_msg(self._receive)

    def _receive(self, _, content: dict, buffers: list) -> None:
        if "problem" in content:
            self.on_problem(content["problem"])
            return
        if content["begin"] == 0:
            self._pieces.clear()
        self._pieces.append(bytes(buffers[0]) if buffers else b"")
        if content["last"]:
            self.on_file(content["name"], b"".join(self._pieces))
            self._pieces.clear()


class Download(Element):
    """A button that saves a file: on_click(self) shall have it made, and then call `give`."""

    _esm = BROWSER / "download.js"
    label = traitlets.Unicode().tag(sync=True)

    def __init__(self, label: str, on_click: Callable[["Download"], None]):
        super().__init__(label=label, disabled=True)
        self.on_msg(lambda *_: on_click(self))

    def give(self, name: str, content: bytes) -> None:
        """Lets the browser save `content` in a file of that name; without a name, it waits no longer."""
        self.send({"name": name}, buffers=[content])
