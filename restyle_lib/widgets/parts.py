"""What the panels are made of: rows, lines of text, and bytes of pictures."""

import io
from html import escape

import ipywidgets as ipw
from PIL import Image
from torch import Tensor

from restyle_lib.images import to_image


def row(*children: ipw.Widget, kind: str = "") -> ipw.Box:
    """Widgets beside each other, which go on in the next line where there is no room."""
    return styled(ipw.Box(children), "restyle-row", *kind.split())


def styled(widget: ipw.Widget, *classes: str) -> ipw.Widget:
    """The widget, with classes of `browser/explorer.css`."""
    for name in classes:
        widget.add_class(name)
    return widget


def line(text: str, kind: str = "", details: str = "") -> str:
    """HTML of a line of plain text, with details to unfold; kind: "", "quiet" or "error"."""
    more = f"<details><summary>details</summary><pre>{escape(details)}</pre></details>" if details else ""
    colour = f' class="restyle-{kind}"' if kind else ""
    return f'<div role="status"{colour}>{escape(text)}{more}</div>'


def table(rows: list[list[str]], chosen: int | None = None) -> str:
    """HTML of rows of cells, the first one their titles; row number `chosen` of the others is shaded."""
    head, *body = rows
    lines = ["<tr>" + "".join(f"<th>{cell}</th>" for cell in head) + "</tr>"]
    for i, cells in enumerate(body):
        shade = ' class="chosen"' if i == chosen else ""
        lines.append(f"<tr{shade}>" + "".join(f"<td>{cell}</td>" for cell in cells) + "</tr>")
    return f'<table class="restyle-table">{"".join(lines)}</table>'


def png(image: Image.Image) -> bytes:
    """The image as a PNG file, compressed lightly: twice the size of the smallest, in a fifth of the time."""
    return _file(image, "PNG", compress_level=1)


def jpeg(image: Image.Image | Tensor) -> bytes:
    """An image, or a tensor [1, 3, h, w] in [-1, 1], as a file for the screen: made and sent in milliseconds."""
    return _file(image if isinstance(image, Image.Image) else to_image(image), "JPEG", quality=92, subsampling=0)


def _file(image: Image.Image, kind: str, **settings: int) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **settings)
    return file.getvalue()


def thumbnail(image: Image.Image, size: int = 120) -> bytes:
    """JPEG of a square image, small."""
    return jpeg(image.convert("RGB").resize((size, size), Image.Resampling.LANCZOS))
