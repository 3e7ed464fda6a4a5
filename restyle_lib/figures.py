"""Figures in one style, written to figures/ as they are drawn."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from torch import Tensor

from restyle_lib.data import REPOSITORY, to_uint8

FIGURES = REPOSITORY / "figures"
PALETTE = sns.color_palette("colorblind")


def use_style() -> None:
    """Sets the shared look: quiet axes, a colour-blind safe palette, type that reads at notebook size."""
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 150, "savefig.bbox": "tight", "axes.titlesize": "medium"})


def save(figure: plt.Figure, name: str) -> plt.Figure:
    """Writes figures/<name> (the ending chooses the format) and returns the figure, for the notebook to show."""
    FIGURES.mkdir(exist_ok=True)
    figure.savefig(FIGURES / name)
    return figure


def image_grid(rows: Sequence[Tensor], columns: Sequence[str], labels: Sequence[str] = (), cell: float = 1.5):
    """A grid of images: rows of [n, 3, s, s] in [-1, 1] under column titles, with optional row labels."""
    figure, axes = plt.subplots(
        len(rows), len(columns), figsize=(cell * len(columns), cell * len(rows)), squeeze=False, layout="constrained"
    )
    for i, (row, line) in enumerate(zip(rows, axes, strict=True)):
        for j, (image, axis) in enumerate(zip(row, line, strict=True)):
            axis.imshow(to_uint8(image).permute(1, 2, 0).cpu().numpy(), interpolation="lanczos")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            sns.despine(ax=axis, left=True, bottom=True)
            if i == 0:
                axis.set_title(columns[j])
        if labels:
            line[0].set_ylabel(labels[i])
    return figure


def step_rows(images: Tensor, trajectory: Tensor, final: Tensor, size: int = 256) -> list[Tensor]:
    """Rows for `image_grid`: input, y_0..y_N and the full render, each enlarged or reduced to `size` px."""

    def resize(x: Tensor) -> Tensor:
        return torch.nn.functional.interpolate(x, (size, size), mode="bicubic", antialias=True).clamp(-1, 1)

    return [
        torch.cat([resize(x[None]), resize(trail), resize(end[None])])
        for x, trail, end in zip(images, trajectory, final, strict=True)
    ]


def step_titles(steps: int) -> list[str]:
    """Column titles that go with `step_rows`."""
    return ["input", *(f"$\\hat{{y}}_{{{t}}}$" for t in range(steps + 1)), "1024 px"]


def curves(summary: pd.DataFrame, metrics: Sequence[str], x: str = "step") -> plt.Figure:
    """Each metric over steps, a line per method with its 95 % band; a one-pass method is a dashed level."""
    figure, axes = plt.subplots(1, len(metrics), figsize=(4 * len(metrics), 3.4), layout="constrained")
    for axis, metric in zip(axes, metrics, strict=True):
        for colour, (method, rows) in zip(PALETTE, summary[summary.metric == metric].groupby("method"), strict=False):
            rows = rows[rows.step > 0].sort_values("step")
            if len(rows) == 1:
                row = rows.iloc[0]
                axis.axhline(row["mean"], color=colour, linestyle="--", label=f"{method} (one pass)")
                axis.axhspan(row.low, row.high, color=colour, alpha=0.15)
            else:
                axis.plot(rows[x], rows["mean"], marker="o", markersize=4, color=colour, label=method)
                axis.fill_between(rows[x], rows.low, rows.high, color=colour, alpha=0.2)
        axis.set(title=metric, xlabel=x)
    axes[0].legend()
    return figure
