"""What the panels are made of: sizes, pictures below captions, links that save a file."""

import io
from base64 import b64encode
from html import escape

import ipywidgets as ipw
from PIL import Image

SHOWN = 216  # px of a picture on the screen: all of it and the slider fit into a notebook 750 px high
GAP = 16  # px between pictures
CAPTION = 28  # px above a picture
WIDTH = 3 * SHOWN + 2 * GAP  # px of the explorer
LABELLED = {"description_width": "56px"}
FILL = {"width": "auto", "flex": "1 1 auto"}


def wide(width: int, **layout: str) -> ipw.Layout:
    """The layout of something `width` px wide that neither grows nor shrinks."""
    return ipw.Layout(width=f"{width}px", flex="0 0 auto", **layout)


def beside(*children: ipw.Widget) -> ipw.HBox:
    """Widgets in a row, GAP px apart."""
    return ipw.HBox(children, layout={"grid_gap": f"{GAP}px"})


class Card(ipw.VBox):
    """A picture of a fixed size below a caption."""

    def __init__(self, size: int):
        self.caption = ipw.HTML(layout={"height": f"{CAPTION}px", "margin": "0"})
        self.picture = ipw.Image(format="png", layout=wide(size, height=f"{size}px", margin="0"))
        super().__init__([self.caption, self.picture], layout=wide(size, overflow="hidden"))

    def show(self, caption: str, picture: bytes) -> None:
        """Shows PNG bytes below a line of HTML."""
        self.picture.value, self.caption.value = picture, caption


def png(image: Image.Image) -> bytes:
    """The image as a PNG file, compressed lightly: twice the size of the smallest, in a fifth of the time."""
    file = io.BytesIO()
    image.save(file, "PNG", compress_level=1)
    return file.getvalue()


BLANK = png(Image.new("RGB", (8, 8), "#e8e8e8"))


def link(text: str, content: bytes, name: str) -> str:
    """HTML of a link that saves `content` in a file of that name."""
    kind = "image/png" if name.endswith(".png") else "application/octet-stream"
    data, name = b64encode(content).decode(), escape(name)
    style = "color: var(--jp-content-link-color, #1565c0); text-decoration: underline"
    return f'<a style="{style}" title="{name}" download="{name}" href="data:{kind};base64,{data}">{escape(text)}</a>'


def files(links: list[str]) -> str:
    """HTML of what there is to save."""
    return f'<div style="line-height: 1.7"><b>Save</b><br>{"<br>".join(links)}</div>' if links else ""
