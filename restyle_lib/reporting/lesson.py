"""Pictures of the first lesson: codes and images of two numbers each, as points of two planes."""

from collections.abc import Callable

import matplotlib.pyplot as plt
import torch
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from torch import Tensor

GRID, TARGET, ONE_PASS, LOOP = "#c8c8c8", "#333333", "#56b4e9", "#c04a00"


def planes(G: Callable[[Tensor], Tensor], side: float = 2.0) -> tuple[plt.Figure, list[Axes]]:
    """The plane of codes beside that of images, with a grid of codes [n, 2] and what G makes of it."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 4.5))
    line, ticks = torch.linspace(-side, side, 101), torch.linspace(-side, side, 9)
    for tick in ticks:
        for codes in (torch.stack([line, tick.expand(101)], 1), torch.stack([tick.expand(101), line], 1)):
            for ax, points in zip(axes, (codes, G(codes)), strict=True):
                ax.plot(*points.T, color=GRID, linewidth=0.8, zorder=0)
    for ax, title in zip(axes, ("codes $w$", "images $G(w)$"), strict=True):
        ax.set_title(title)
        ax.set_aspect("equal")
        ax.set_xticks([])
        ax.set_yticks([])
    return figure, list(axes)


def targets(ax: Axes, points: Tensor, label: str = "") -> None:
    """Crosses where the loop should arrive, [n, 2]."""
    ax.scatter(*points.T, marker="x", s=70, color=TARGET, label=label, zorder=3)


def trails(ax: Axes, trail: Tensor, colour: str, label: str = "") -> None:
    """Ways [steps + 1, n, 2] through a plane, a dot for every step."""
    for i, way in enumerate(trail.transpose(0, 1)):
        ax.plot(*way.T, "o-", color=colour, markersize=3.5, linewidth=1.2, label="" if i else label, zorder=2)


def errors(curves: dict[str, Tensor], ylabel: str = "mean squared error of the image") -> plt.Figure:
    """One curve [steps + 1] for each label, on a logarithmic scale."""
    figure, ax = plt.subplots(figsize=(6, 3.6))
    for label, curve in curves.items():
        ax.semilogy(range(len(curve)), curve.clamp(1e-12, 1e3), "o-", markersize=3.5, label=label)
    ax.set_xlabel("step")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    ax.set_ylabel(ylabel)
    ax.legend()
    return figure
