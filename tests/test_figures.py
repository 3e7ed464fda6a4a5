"""Charts draw every method in its own colour, a single pass unlike an iterative method."""

import matplotlib.pyplot as plt
import pandas as pd
import pytest
from matplotlib.colors import to_hex

from restyle_lib.evaluation.methods import COLOURS
from restyle_lib.reporting import figures

METRICS = ["L2", "ID", "MS-SSIM"]


@pytest.fixture
def summary():
    steps = [("pSp", 1), *(("ReStyle-pSp", step) for step in (0, 1, 2, 3))]
    rows = [(method, step, metric, 0.1 * (1 + step)) for method, step in steps for metric in METRICS]
    table = pd.DataFrame(rows, columns=["method", "step", "metric", "mean"])
    yield table.assign(low=table["mean"] - 0.01, high=table["mean"] + 0.01, seconds=table.step / 7)
    plt.close("all")


def lines(axis) -> dict[str, list[float]]:
    """What is drawn, by colour."""
    return {to_hex(line.get_color()): list(line.get_ydata()) for line in axis.lines}


def test_curves_over_steps(summary):
    axes = figures.curves(summary, METRICS).axes
    assert [axis.get_title() for axis in axes] == [
        "L2 (lower is better)",
        "ID (higher is better)",
        "MS-SSIM (higher is better)",
    ]
    drawn = lines(axes[0])
    assert drawn[COLOURS["pSp"]] == pytest.approx([0.2, 0.2])
    assert drawn[COLOURS["ReStyle-pSp"]] == pytest.approx([0.2, 0.3, 0.4])


def test_curves_against_time(summary):
    figure = figures.against_time(summary, METRICS)
    drawn = lines(figure.axes[0])
    assert drawn[COLOURS["pSp"]] == pytest.approx([0.2])
    assert drawn[COLOURS["ReStyle-pSp"]] == pytest.approx([0.2, 0.3, 0.4])
    assert figure.axes[0].get_xscale() == "log"
    assert [text.get_text() for text in figure.legends[0].texts] == ["pSp", "ReStyle-pSp"]


def test_ablations_have_a_panel_each(summary):
    axes = figures.ablations({"one": summary, "two": summary.replace("pSp", "p = 0")}, "L2", mark=2).axes
    assert [axis.get_title() for axis in axes] == ["one", "two"]
    assert COLOURS["pSp"] in lines(axes[0]) and COLOURS["pSp"] not in lines(axes[1])
