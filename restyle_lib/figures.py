"""Figures in one style, written to files as they are drawn."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
import seaborn as sns
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_lib.data import to_uint8

PALETTE = sns.color_palette("colorblind")


def use_style() -> None:
    """Sets the shared look: quiet axes, a colour-blind safe palette, type that reads at notebook size."""
    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 150, "savefig.bbox": "tight", "axes.titlesize": "medium"})


def save(figure: plt.Figure, path: Path) -> plt.Figure:
    """Writes a figure (the ending of `path` chooses the format) and returns it, for the notebook to show."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
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


def side_by_side(images: Sequence[Tensor], size: int = 256) -> Tensor:
    """Images [3, h, w] of any sizes and one shape as a row [n, 3, size, ...] for `image_grid`."""
    height, width = images[0].shape[1:]
    shape = (size, round(size * width / height))
    return torch.cat([F.interpolate(x[None], shape, mode="bicubic", antialias=True) for x in images]).clamp(-1, 1)


def step_rows(images: Tensor, trajectory: Tensor, final: Tensor) -> list[Tensor]:
    """Rows for `image_grid`: input, y_0..y_N and the full render of each image."""
    return [side_by_side([x, *trail, end]) for x, trail, end in zip(images, trajectory, final, strict=True)]


def step_titles(steps: int, size: int = 1024) -> list[str]:
    """Column titles that go with `step_rows`; size: width of the full render in pixels."""
    return ["input", *(f"$\\hat{{y}}_{{{t}}}$" for t in range(steps + 1)), f"{size} px"]


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


def architecture(encoder: nn.Module, G: nn.Module) -> plt.Figure:
    """The loop as a diagram, with the parameter counts of the parts."""

    def millions(module: nn.Module) -> str:
        return f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M"

    size = G.resolution[0]
    figure, axis = plt.subplots(figsize=(11, 3))
    for x, y, text in [
        (0.3, 1.7, f"image  x\n3 × {size} × {size}"),
        (0.3, 0.3, f"reconstruction  ŷ\n3 × {size} × {size}"),
        (2.6, 1.0, f"backbone\n{millions(encoder.body)}"),
        (4.7, 1.0, f"style heads\n{encoder.heads.heads} × 512, {millions(encoder.heads)}"),
        (6.9, 1.0, f"w + Δ\n{encoder.n_styles} × 512"),
        (9.1, 1.0, f"generator\nfrozen, {size} px\n{millions(G)}"),
    ]:
        axis.text(x, y, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.6", "fc": "white", "ec": "0.4"})
    arrow = {"arrowstyle": "->", "color": "0.3"}
    for start, end in [
        ((1.0, 1.7), (2.0, 1.2)),
        ((1.15, 0.3), (2.0, 0.8)),
        ((3.15, 1), (3.75, 1)),
        ((5.65, 1), (6.3, 1)),
        ((7.5, 1), (8.3, 1)),
    ]:
        axis.annotate("", end, start, arrowprops=arrow)
    axis.plot([9.1, 9.1, 0.3], [0.3, -0.8, -0.8], color="C0", linewidth=1.2)
    axis.annotate("", (0.3, -0.15), (0.3, -0.8), arrowprops={"arrowstyle": "->", "color": "C0", "shrinkA": 0})
    axis.text(4.7, -1.1, "the next step sees the new reconstruction", color="C0", ha="center")
    axis.set(xlim=(-1, 10.2), ylim=(-1.3, 2.3))
    axis.axis("off")
    return figure


def training_curves(log: pd.DataFrame, steps: int) -> plt.Figure:
    """The log of `restyle_lib.training`: latent error of the warm start; L2 of replayed states and of the true loop."""
    loop = {"l2_replay": "replayed, any step"} | {f"l2_{t}": f"loop, step {t}" for t in sorted({1, steps})}
    log = log.reindex(columns=["iteration", "latent", *loop])  # a short run lacks some
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    sns.lineplot(log, x="iteration", y="latent", marker="o", ax=left)
    left.set(title="warm start", xlabel="batch", ylabel="latent error")
    for name, label in loop.items():
        sns.lineplot(log, x="iteration", y=name, marker="o", ax=right, label=label)
    right.set(title="images", xlabel="batch", ylabel="L2 in [-1, 1]")
    right.legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure
