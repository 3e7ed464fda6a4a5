"""What is drawn of an inversion's steps: pictures, heatmaps, and the numbers beside them."""

from collections.abc import Sequence

import matplotlib
import pandas as pd
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from restyle_lib.evaluation import metrics
from restyle_lib.images import to_image, to_tensor
from restyle_lib.inversion.inverter import Inverter
from restyle_lib.inversion.result import Inversion
from restyle_lib.widgets.parts import jpeg, table
from restyle_lib.widgets.session import Inverted, Photo

SIZE = 256  # px of the pictures in files
GAP, CAPTION = 16, 28  # px between them, and above them
COLOURS = "RdYlBu_r"  # blue little, red much, also for the colour-blind


def describe(
    photo: Photo,
    method: str,
    G: nn.Module,
    tuned: nn.Module | None,
    inverter: Inverter,
    result: Inversion,
    titles: list[str],
) -> Inverted:
    """An inversion with all its steps drawn, so that moving between them costs nothing; see `Inverted`."""
    seen = result.images[0].clamp(-1, 1)
    changes = [jpeg(heatmap(y, before)) for y, before in zip(seen, [seen[0], *seen], strict=False)]
    numbers = step_numbers(inverter.prepare(to_tensor(photo.crop)).cpu(), result)
    return Inverted(photo, method, G, tuned, result, titles, numbers, [*map(jpeg, seen)], changes)


def step_numbers(x: Tensor, result: Inversion) -> pd.DataFrame:
    """A row per step of the one image x [1, 3, s, s]: L2 and ID of y_t against x, and two measures of the step itself.

    move is the rms change of the code, change the red end of its heatmap.
    """
    seen, latents = result.images[0].clamp(-1, 1), result.latents[0]
    moves = (latents[1:] - latents[:-1]).square().mean((1, 2)).sqrt()
    return pd.DataFrame(
        {
            "L2": metrics.l2(seen, x).tolist(),
            "ID": metrics.identity(seen, x.expand_as(seen)).tolist(),
            "move": [float("nan"), *moves.tolist()],
            "change": [0.0, *map(peak, seen[1:], seen[:-1])],
        }
    )


def heatmap(y: Tensor, before: Tensor) -> Image.Image:
    """|y - before| of images [3, s, s] in [-1, 1], mean of the channels, 256 px: blue none, red `peak` and more."""
    change = (y - before).abs().mean(0)
    smooth = F.interpolate(change[None, None], (SIZE, SIZE), mode="bilinear")[0, 0]
    share = (smooth / max(peak(y, before), 1e-6)).clamp(max=1)
    return Image.fromarray(matplotlib.colormaps[COLOURS](share.numpy(), bytes=True)).convert("RGB")


def peak(y: Tensor, before: Tensor) -> float:
    """The change that all but 1 % of the pixels stay below, in [0, 2]; one odd pixel must not turn the rest blue."""
    return (y - before).abs().mean(0).quantile(0.99).item()


def contact_sheet(inverted: Inverted) -> Image.Image:
    """The input and every step in a row, with what each changed below."""
    seen = inverted.result.images[0].clamp(-1, 1)
    pictures = [to_image(y).resize((SIZE, SIZE), Image.Resampling.LANCZOS) for y in seen]
    changes = [heatmap(y, before) for y, before in zip(seen, [seen[0], *seen], strict=False)]
    crop, titles = inverted.photo.crop.resize((SIZE, SIZE), Image.Resampling.LANCZOS), inverted.titles
    shown: list[Image.Image | None] = [None, *changes[1:]]  # the first step has no step before it
    columns = [("input", crop, None), *zip(titles, pictures, shown, strict=True)]
    sheet = Image.new("RGB", (len(columns) * (SIZE + GAP) + GAP, 2 * (SIZE + GAP) + CAPTION + GAP), "white")
    pen, font = ImageDraw.Draw(sheet), ImageFont.load_default(16)
    for i, (title, picture, change) in enumerate(columns):
        x = GAP + i * (SIZE + GAP)
        pen.text((x, GAP // 2), title, "black", font)
        sheet.paste(picture, (x, CAPTION))
        if change:
            sheet.paste(change, (x, CAPTION + SIZE + GAP))
    below = "What each step changed:\nblue little, red much, each\nstep on a scale of its own."
    pen.text((SIZE + 2 * GAP, CAPTION + SIZE + GAP), below, "black", font, spacing=8)
    return sheet


def change_caption(step: int, most: float) -> str:
    """HTML that says which change is shown, and its scale."""
    if step == 0:
        return "What a step changed: nothing yet"
    colours = ", ".join(map(matplotlib.colors.to_hex, matplotlib.colormaps[COLOURS]([0.0, 0.5, 1.0])))
    style = f"display: inline-block; width: 60px; height: 9px; background: linear-gradient(90deg, {colours})"
    return f'Changed: 0 <span style="{style}"></span> {most:.2f}'


def number_table(numbers: pd.DataFrame, titles: Sequence[str], step: int) -> str:
    """HTML of the numbers of all steps: the current one shaded, the best ones bold."""
    columns = {"L2": (4, numbers.L2.idxmin()), "ID": (3, numbers.ID.idxmax()), "move": (3, None)}
    rows = [["", "L2 ↓", "ID ↑", "move"]]
    for t, row in numbers.iterrows():
        cells = [titles[t].removeprefix("after ")]
        for name, (digits, best) in columns.items():
            value = "–" if pd.isna(row[name]) else f"{row[name]:.{digits}f}"
            cells.append(f"<b>{value}</b>" if t == best else value)
        rows.append(cells)
    return table(rows, step)
