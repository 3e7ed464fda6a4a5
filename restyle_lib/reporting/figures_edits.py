"""Figures of edits, in the style of `restyle_lib.reporting.figures`."""

from collections.abc import Iterable, Sequence

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
from torch import Tensor

from restyle_lib.inversion.edit import edit
from restyle_lib.reporting.figures import side_by_side

AXES = {"ID": "identity kept", "unwanted": "change of other\nattributes, deviations"}


def trade_offs(summary: pd.DataFrame, colours: dict[str, str], title: str) -> plt.Figure:
    """What edits cost against what they change: a column per direction, a line per method through all strengths.

    summary: of `evaluation.editability.measure` by method, direction and strength; bars are 95 % intervals
    """
    directions = list(dict.fromkeys(summary.direction))
    size = (3.6 * len(directions), 3.1 * len(AXES) + 0.6)
    figure, axes = plt.subplots(len(AXES), len(directions), figsize=size, sharey="row", layout="constrained")
    for column, direction in zip(axes.T, directions, strict=True):
        for axis, metric in zip(column, AXES, strict=True):
            for method, rows in summary[summary.direction == direction].groupby("method", sort=False):
                rows = rows.pivot(index="strength", columns="metric", values=["mean", "low", "high"])
                sign = rows.index.to_series().apply(lambda s: 1 if s > 0 else -1)
                y = rows["mean"][metric]
                bars = [y - rows["low"][metric], rows["high"][metric] - y]
                style = {"color": colours[method], "marker": "o", "markersize": 4, "capsize": 2, "label": method}
                axis.errorbar(sign * rows["mean"]["wanted"], y, yerr=bars, **style)
        column[0].set_title(direction)
        column[-1].set_xlabel("measured change of it,\nstandard deviations")
    for axis, label in zip(axes[:, 0], AXES.values(), strict=True):
        axis.set_ylabel(label)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=4)
    figure.suptitle(title, fontsize="medium")
    return figure


def against_distance(table: pd.DataFrame, colours: dict[str, str]) -> plt.Figure:
    """Identity lost to edits against both distances from W, a point per method and image, large ones the means."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True, layout="constrained")
    names = {"spread": "spread of the styles (0: in W)", "rarity": "rarity of the styles (1: as samples of W)"}
    for axis, (x, label) in zip(axes, names.items(), strict=True):
        shared = {"data": table, "x": x, "y": "identity lost", "hue": "method", "palette": colours, "ax": axis}
        sns.scatterplot(**shared, s=18, alpha=0.4, legend=False)
        means = table.groupby("method", sort=False)[[x, "identity lost"]].mean().reset_index()
        sns.scatterplot(**(shared | {"data": means}), s=110, edgecolor="black", legend=axis is axes[0])
        axis.set(xlabel=label, ylabel="identity lost per standard\ndeviation of wanted change")
    axes[0].get_legend().set_title("")
    return figure


@torch.no_grad()
def strip(image: Tensor, code: Tensor, settings: Sequence[tuple[str | Tensor, float]], G, size: int = 256) -> Tensor:
    """A row for `image_grid`: an image [3, h, w], its inversion, and the edits (direction, strength) of its code."""
    codes = [code[None], *(edit(code[None], *setting) for setting in settings)]
    return side_by_side([image, *(G.synthesize(each.to(G.w_avg.device))[0].cpu() for each in codes)], size)


def lines(methods: Iterable[str]) -> list[str]:
    """Names of methods as labels of rows, on two lines where they have two parts."""
    return [method.replace(", ", ",\n") for method in methods]
