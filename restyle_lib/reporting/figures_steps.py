"""Inversions step by step, each with what is still wrong and two numbers under it."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import torch
from torch import Tensor

from restyle_lib.evaluation import metrics
from restyle_lib.reporting.figures import image_grid


def measured(images: Tensor, trail: Tensor, labels: Sequence[str]) -> plt.Figure:
    """Two rows for each image: what the loop has after each step, with L2 and ID; and below, the error.

    images: [n, 3, s, s] in [-1, 1] as the encoder sees them; trail: [n, steps + 1, 3, s, s], y_0 .. y_N
    """
    trail = trail.clamp(-1, 1)
    rows, captions, names = [], [], []
    for x, ys, label in zip(images, trail, labels, strict=True):
        same = x.expand_as(ys)
        numbers = zip(metrics.l2(ys, same), metrics.identity(ys, same), strict=True)
        rows += [torch.cat([x[None], ys]), torch.cat([torch.ones_like(x)[None], error(same, ys)])]
        captions += [["", *(f"L2 {l2:.3f}  ID {likeness:.2f}" for l2, likeness in numbers)], [""] * (1 + len(ys))]
        names += [label, "error"]
    columns = ["input", *(f"$\\hat{{y}}_{{{t}}}$" for t in range(trail.shape[1]))]
    return image_grid(rows, columns, names, captions=captions)


def error(a: Tensor, b: Tensor, largest: float = 1.0) -> Tensor:
    """The mean absolute difference of the colours of [n, 3, h, w] as images: black is none, bright is much.

    largest: the difference that is drawn brightest, of pixels in [-1, 1]
    """
    values = (a - b).abs().mean(1) / largest
    colours = torch.from_numpy(plt.get_cmap("inferno")(values.clamp(0, 1).cpu().numpy())[..., :3])
    return colours.permute(0, 3, 1, 2).to(a.dtype) * 2 - 1
