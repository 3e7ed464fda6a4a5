"""Figures in one style, written to files as they are drawn."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from matplotlib.ticker import LogLocator, MaxNLocator, MultipleLocator
from torch import Tensor, nn

from restyle_lib.evaluation.labels import COLOURS, HIGHER_IS_BETTER
from restyle_lib.images import to_uint8
from restyle_lib.inversion.inverter import Inverter

# seaborn's "colorblind". What draws charts imports it there: a second, for every command that draws none too.
PALETTE = ["#0173b2", "#de8f05", "#029e73", "#d55e00", "#cc78bc", "#ca9161", "#fbafe4", "#949494", "#ece133", "#56b4e9"]


def use_style() -> None:
    """Sets the shared look: quiet axes, a colour-blind safe palette, type that reads at notebook size."""
    import seaborn as sns

    sns.set_theme(context="notebook", style="whitegrid", palette=PALETTE)
    plt.rcParams.update({"figure.dpi": 110, "savefig.dpi": 150, "savefig.bbox": "tight", "axes.titlesize": "medium"})


def save(figure: plt.Figure, path: Path) -> plt.Figure:
    """Writes a figure and returns it, for the notebook to show. The ending of `path` chooses the format.

    Grids of photographs are .jpg, a sixth of the size; with less quality, smooth skin shows the blocks.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, pil_kwargs={"quality": 82} if path.suffix == ".jpg" else None)
    return figure


def image_grid(
    rows: Sequence[Tensor],
    columns: Sequence[str],
    labels: Sequence[str] = (),
    cell: float = 1.5,
    captions: Sequence[Sequence[str]] = (),
) -> plt.Figure:
    """A grid of images: rows of [n, 3, h, w] in [-1, 1] under column titles, with optional row labels.

    cell:     inches of an image's width; titles and labels come in addition, so that images fill their cells
    captions: a line of text below each image, row by row
    """
    height, width = rows[0].shape[2:]
    lines = 1 + max((title.count("\n") for title in columns), default=0)
    captioned = sum(any(line) for line in captions)
    text = 0.1 + 0.22 * lines + 0.18 * captioned
    size = (cell * len(columns) + (0.3 if labels else 0.0), cell * height / width * len(rows) + text)
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, layout="constrained")
    figure.get_layout_engine().set(w_pad=0.015, h_pad=0.015, wspace=0, hspace=0)
    for i, (row, line) in enumerate(zip(rows, axes, strict=True)):
        for j, (image, axis) in enumerate(zip(row, line, strict=True)):
            axis.imshow(to_uint8(image).permute(1, 2, 0).cpu().numpy(), interpolation="lanczos")
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
            if i == 0:
                axis.set_title(columns[j])
            if captions:
                axis.set_xlabel(captions[i][j], fontsize=5.2 * cell, labelpad=2)
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


def step_titles(steps: int, size: int = 1024, optimized: int = 0) -> list[str]:
    """Column titles that go with `step_rows`.

    size: width of the full render in pixels; optimized: steps of the optimization that came last, if any
    """
    last = [f"optimized,\n{optimized} steps"] if optimized else []
    return ["input", *(f"$\\hat{{y}}_{{{t}}}$" for t in range(steps + 1)), *last, f"{size} px"]


def curves(summary: pd.DataFrame, metrics: Sequence[str]) -> plt.Figure:
    """Each metric over steps, a line per method with its 95 % band; a one-pass method is a dashed level."""
    figure, panels = _panels([_titled(metric) for metric in metrics])
    for metric, axis in zip(metrics, panels, strict=True):
        for method, rows, colour in _by_method(summary, metric):
            rows = rows[rows.step > 0].sort_values("step")
            if len(rows) == 1:
                row = rows.iloc[0]
                axis.axhline(row["mean"], color=colour, linestyle="--", label=f"{method} (one pass)")
                axis.axhspan(row.low, row.high, color=colour, alpha=0.1)
            else:
                axis.plot(rows.step, rows["mean"], marker="o", markersize=4, color=colour, label=method)
                axis.fill_between(rows.step, rows.low, rows.high, color=colour, alpha=0.15)
        axis.set(xlabel="step")
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    return _with_legend(figure, axis)


def ablations(summaries: dict[str, pd.DataFrame], metric: str, mark: int) -> plt.Figure:
    """A metric over steps, on a log scale: a panel with its own legend for each summary. A dot marks one step."""
    figure, panels = _panels(list(summaries))
    for (title, summary), axis in zip(summaries.items(), panels, strict=True):
        for method, rows, colour in _by_method(summary, metric):
            rows = rows[rows.step > 0].sort_values("step")
            style = {"marker": "o", "markersize": 7, "markevery": list(np.flatnonzero(rows.step == mark))}
            axis.plot(rows.step, rows["mean"], color=colour, label=method, **style)
            axis.fill_between(rows.step, rows.low, rows.high, color=colour, alpha=0.15)
        axis.set(title=title, xlabel="step", ylabel=metric, yscale="log")
        axis.xaxis.set_major_locator(MultipleLocator(5))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5, 7)))
        axis.yaxis.set_major_formatter("{x:g}")
        axis.yaxis.set_minor_formatter("")
        axis.legend(fontsize="small")
    return figure


def against_time(summary: pd.DataFrame, metrics: Sequence[str]) -> plt.Figure:
    """The paper's comparison: each metric over the column "seconds" per image, on a log scale.

    An iterative method is a curve with its 95 % bars, a one-pass method a point, each smaller than the one before,
    since they may lie on each other.
    """
    figure, panels = _panels([_titled(metric) for metric in metrics])
    for metric, axis in zip(metrics, panels, strict=True):
        diamonds = iter(range(12, 0, -3))
        for method, rows, colour in _by_method(summary, metric):
            rows = rows[rows.seconds > 0].sort_values("seconds")
            error = (rows["mean"] - rows.low, rows.high - rows["mean"])
            point = len(rows) == 1
            style = {"fmt": "D", "markersize": next(diamonds, 3)} if point else {"fmt": "o-", "markersize": 4}
            axis.errorbar(rows.seconds, rows["mean"], yerr=error, color=colour, elinewidth=1, label=method, **style)
        axis.set(xscale="log", xlabel="seconds per image")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter("{x:g}")
        axis.xaxis.set_minor_formatter("")
    return _with_legend(figure, axis)


def _panels(titles: Sequence[str]) -> tuple[plt.Figure, list[plt.Axes]]:
    """Titled panels in two columns."""
    rows = -(-len(titles) // 2)
    figure, axes = plt.subplots(rows, 2, figsize=(10, 3.4 * rows), layout="constrained", squeeze=False)
    panels = list(axes.flat)
    for axis in panels[len(titles) :]:
        axis.remove()
    for title, axis in zip(titles, panels, strict=False):
        axis.set_title(title)
    return figure, panels[: len(titles)]


def _titled(metric: str) -> str:
    """A metric, and which way is better."""
    return f"{metric} ({'higher' if metric in HIGHER_IS_BETTER else 'lower'} is better)"


def _by_method(summary: pd.DataFrame, metric: str) -> Iterator[tuple[str, pd.DataFrame, str]]:
    """Each method of a summary in its order with its rows of a metric and its colour; others have the palette's."""
    for i, method in enumerate(summary.method.unique()):
        rows = summary[(summary.metric == metric) & (summary.method == method)]
        yield method, rows, COLOURS.get(method, PALETTE[i % len(PALETTE)])


def _with_legend(figure: plt.Figure, axis: plt.Axes) -> plt.Figure:
    """The figure with one legend, below all panels."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False)
    return figure


def architecture(inverter: Inverter) -> plt.Figure:
    """The loop of a shipped inverter as a diagram, with the parameter counts of the parts."""

    def millions(module: nn.Module) -> str:
        return f"{sum(p.numel() for p in module.parameters()) / 1e6:.2f} M"

    encoder, G, (height, width) = inverter.encoder, inverter.G, inverter.input_size
    figure, axis = plt.subplots(figsize=(11, 3))
    for x, y, text in [
        (0.3, 1.7, f"image  x\n3 × {height} × {width}"),
        (0.3, 0.3, f"reconstruction  ŷ\n3 × {height} × {width}"),
        (2.6, 1.0, f"backbone\n{millions(encoder.body)}"),
        (4.7, 1.0, f"style heads\n{encoder.n_styles} × 512, {millions(encoder.heads)}"),
        (6.9, 1.0, f"w + Δ\n{encoder.n_styles} × 512"),
        (9.1, 1.0, f"generator\nfrozen, {G.resolution[0]} px\n{millions(G)}"),
    ]:
        axis.text(x, y, text, ha="center", va="center", bbox={"boxstyle": "round,pad=0.6", "fc": "white", "ec": "0.4"})
    arrow = {"arrowstyle": "->", "color": "0.3"}
    for start, end in [
        ((1.0, 1.7), (2.0, 1.2)),
        ((1.15, 0.3), (2.0, 0.8)),
        ((3.15, 1), (3.75, 1)),
        ((5.65, 1), (6.3, 1)),
        ((7.5, 1), (8.15, 1)),
    ]:
        axis.annotate("", end, start, arrowprops=arrow)
    axis.plot([9.1, 9.1, 0.3], [0.3, -0.8, -0.8], color="C0", linewidth=1.2)
    axis.annotate("", (0.3, -0.15), (0.3, -0.8), arrowprops={"arrowstyle": "->", "color": "C0", "shrinkA": 0})
    axis.text(4.7, -1.1, "the next step sees the new reconstruction", color="C0", ha="center")
    axis.set(xlim=(-1, 10.2), ylim=(-1.3, 2.3))
    axis.axis("off")
    return figure


def training_curves(log: pd.DataFrame, steps: int) -> plt.Figure:
    """The log of `restyle_lib.training`: error of known codes, and L2, of pairs, replayed states and the true loop."""
    import seaborn as sns

    phases = {"": "pairs", "_replay": "replayed, any step"} | {f"_{t}": f"loop, step {t}" for t in sorted({1, steps})}
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.2), layout="constrained")
    for axis, term, label in zip(axes, ("latent", "l2"), ("error of the code", "L2 in [-1, 1]"), strict=True):
        for (ending, phase), colour in zip(phases.items(), PALETTE, strict=False):
            if term + ending in log:  # a run may lack some phases
                sns.lineplot(log, x="iteration", y=term + ending, marker="o", ax=axis, color=colour, label=phase)
        axis.set(xlabel="batch", ylabel=label)
    if axes[0].get_legend():  # of photographs, no code is known
        axes[0].get_legend().remove()
    axes[1].legend(loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def heatmap_grid(
    rows: Sequence[Sequence[Tensor | None]],
    columns: Sequence[str],
    labels: Sequence[str],
    bars: Sequence[str],
    title: str,
    octaves: float | None = None,
    outline: Tensor | None = None,
) -> plt.Figure:
    """Images [3, s, s] in [-1, 1] and maps of factors [s, s] in one grid; None leaves a cell empty.

    Factors are shown on a log scale: below 1 blue, 1 grey, above it red.
    bars:    titles of the colour bars; one for each row that has maps, or a single one with `octaves`
    octaves: powers of two at the ends of the bar that all rows share; None: each row's own, 99 % of its values fit
    outline: bool [s, s], drawn over the maps
    """
    size = (1.5 * len(columns) + 1.5, 1.5 * len(rows) + 0.8)
    figure, axes = plt.subplots(len(rows), len(columns), figsize=size, squeeze=False, layout="constrained")
    scales = []
    for row, line, label in zip(rows, axes, labels, strict=True):
        logs = [x.clamp_min(1e-6).log2() if x is not None and x.ndim == 2 else None for x in row]
        values = [x.abs().flatten() for x in logs if x is not None]
        end = octaves or (max(0.25, torch.cat(values).quantile(0.99).item()) if values else 1.0)
        for x, log, axis in zip(row, logs, line, strict=True):
            axis.set(xticks=[], yticks=[])
            axis.grid(False)
            axis.spines[:].set_visible(False)
            if log is not None:
                shown = axis.imshow(log.numpy(), cmap="coolwarm", vmin=-end, vmax=end, interpolation="bilinear")
                if outline is not None:
                    axis.contour(outline.numpy(), [0.5], colors="black", linewidths=0.8, linestyles="dashed")
            elif x is not None:
                axis.imshow(to_uint8(x).permute(1, 2, 0).numpy(), interpolation="lanczos")
        next(axis for axis, x in zip(line, row, strict=True) if x is not None).set_ylabel(label)
        if values:
            scales.append((shown, line, end))
    for axis, column in zip(axes[0], columns, strict=True):
        axis.set_title(column)
    shared = [(shown, axes, octaves)] if octaves else scales
    for label, (shown, beside, end) in zip(bars, shared, strict=True):
        tick = int(end) or int(4 * end) / 4
        style = {"shrink": 0.4, "aspect": 30} if octaves else {"aspect": 12}
        bar = figure.colorbar(shown, ax=beside, ticks=[-tick, 0, tick], extend="both", pad=0.01, **style)
        bar.set_label(label, fontsize="small")
        bar.ax.set_yticklabels([f"÷ {2**tick:.2g}", "× 1", f"× {2**tick:.2g}"], fontsize="small")
    figure.suptitle(title, fontsize="medium")
    return figure


def when_parts_change(tables: dict[str, pd.DataFrame], title: str) -> plt.Figure:
    """Tables of `evaluation.changes.over_steps` in rows: shares per step of the first trail, and mean steps of all.

    tables: by what their parts are; the second column names the parts, drawn from top to bottom as they come
    """
    import seaborn as sns

    parts = [table.iloc[:, 1].nunique() for table in tables.values()]
    size = (10, 0.33 * sum(parts) + 0.5 * len(parts) + 0.8)
    figure, axes = plt.subplots(len(parts), 2, figsize=size, height_ratios=parts, sharex="col", layout="constrained")
    for (kind, table), (left, right) in zip(tables.items(), axes, strict=True):
        trails, names = (list(dict.fromkeys(table.iloc[:, column])) for column in (0, 1))
        table = table.set_index(table.columns[1])
        share = table[(table.trail == trails[0]) & (table.metric == "share")]
        share = 100 * share.pivot(columns="step", values="mean").loc[names]
        sns.heatmap(share, annot=True, fmt=".0f", cmap="Blues", vmin=0, vmax=100, cbar=False, ax=left)
        left.set(ylabel=kind, xlabel="")
        left.tick_params(axis="y", rotation=0)
        for trail, colour, fill in zip(trails, (PALETTE[0], "0.5"), ("full", "none"), strict=False):
            when = table[(table.trail == trail) & (table.metric == "mean step")].loc[names]
            error = (when["mean"] - when.low, when.high - when["mean"])
            style = {"fmt": "o", "color": colour, "fillstyle": fill, "label": trail}
            right.errorbar(when["mean"], left.get_yticks(), xerr=error, **style)
        right.set(ylim=left.get_ylim(), yticks=left.get_yticks(), yticklabels=[])
    axes[0, 0].set_title(f"{trails[0]}: share of each step, %")
    axes[0, 1].set_title("when: the mean step (95 % interval)")
    figure.suptitle(title, fontsize="medium")
    axes[-1, 0].set_xlabel("step")
    axes[-1, 1].set(xlabel="0: all in the first step … 1: all in the last", xlim=(0, None))
    axes[-1, 1].legend()
    return figure
