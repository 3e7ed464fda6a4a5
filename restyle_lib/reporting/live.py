"""Curves and images that a notebook redraws while an encoder trains."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Image, Markdown, display

from restyle_lib.reporting import figures

EVERY = 2.0  # seconds between two drawings of the curves


def log_of(folder: Path) -> pd.DataFrame:
    """The log of the run in `folder` so far."""
    return pd.DataFrame([json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()])


def live(folder: Path, steps: int) -> Callable[[dict], None]:
    """A `watch` for `train.carry_out`: shows the loss curves, and below them the newest images of validation.

    Without a screen it draws the same, into the outputs of the executed notebook. steps: N, whose losses are drawn
    """
    curves, title, images = (display(Markdown(text), display_id=True) for text in ("*training begins …*", "", ""))
    drawn = 0.0

    def watch(record: dict) -> None:
        nonlocal drawn
        validated = "validation" in record
        log = log_of(folder)
        if "images_per_s" in log and (validated or time.monotonic() - drawn > EVERY):
            figure = figures.training_curves(log, steps)
            curves.update(figure)
            plt.close(figure)
            drawn = time.monotonic()
        if validated:
            i = record["iteration"]
            title.update(Markdown(f"After batch {i}: held-out images on the left, then what the steps make of them."))
            images.update(Image(filename=folder / f"validation-{i:06d}.png"))

    return watch
