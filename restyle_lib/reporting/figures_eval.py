"""Figures of the comparison that show single images: the best and the worst, and methods image by image."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
import torch
from torch import Tensor

from restyle_lib.evaluation.evaluate import at
from restyle_lib.evaluation.metrics import HIGHER_IS_BETTER
from restyle_lib.inversion.inverter import Inverter
from restyle_lib.reporting.figures import PALETTE, image_grid, side_by_side


def extremes(rows: pd.DataFrame, encoders: dict[str, Inverter], images: Tensor, step: int, each: int = 4) -> plt.Figure:
    """The images with the lowest and with the highest L2 of ReStyle-pSp at a step, and what pSp makes of them.

    rows: of `evaluate.evaluate` on these images [n, 3, s, s]
    """
    order = at(rows, "ReStyle-pSp", step).sort_values("L2").image.tolist()
    each = min(each, len(order) // 2)
    picked = order[:each] + order[-each:]
    lines, captions, labels = [side_by_side(list(images[picked]))], [[""] * len(picked)], ["input"]
    for label, inverter in encoders.items():
        if label not in ("pSp", "ReStyle-pSp"):
            continue
        taken = 1 if inverter.one_pass else step
        found = inverter.invert(images[torch.tensor(picked)], taken).images[:, -1]
        values = at(rows, label, taken).set_index("image").loc[picked]
        lines.append(side_by_side(list(found.clamp(-1, 1))))
        captions.append([f"L2 {l2:.3f}  ID {same:.2f}" for l2, same in zip(values.L2, values.ID, strict=True)])
        labels.append(label if inverter.one_pass else f"{label},\nstep {taken}")
    titles = [*(f"best {i + 1}" for i in range(each)), *(f"worst {each - i}" for i in range(each))]
    return image_grid(lines, titles, labels, captions=captions)


def paired(rows: pd.DataFrame, pairs: Sequence[tuple[str, str]], metrics: Sequence[str], step: int) -> plt.Figure:
    """A dot for each image: a metric after one pass of the first of a pair, against the second's at `step`."""
    size = (3.4 * len(metrics), 3.2 * len(pairs))
    figure, axes = plt.subplots(len(pairs), len(metrics), figsize=size, squeeze=False, layout="constrained")
    for line, (one_pass, refined) in zip(axes, pairs, strict=True):
        a, b = (at(rows, *end).set_index("image").sort_index() for end in ((one_pass, 1), (refined, step)))
        for axis, metric in zip(line, metrics, strict=True):
            ends = [min(a[metric].min(), b[metric].min()), max(a[metric].max(), b[metric].max())]
            axis.plot(ends, ends, color="0.5", linewidth=1, zorder=1)
            axis.scatter(a[metric], b[metric], s=10, alpha=0.6, color=PALETTE[0], zorder=2)
            better = b[metric] > a[metric] if metric in HIGHER_IS_BETTER else b[metric] < a[metric]
            axis.set(
                title=f"{metric}: better on {better.mean():.0%}", xlabel=one_pass, ylabel=f"{refined}, step {step}"
            )
    return figure
