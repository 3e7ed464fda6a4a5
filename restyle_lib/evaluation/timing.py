"""Seconds per image of every method at batch 1, measured in one run and in turn, so that other load hits all alike."""

import numpy as np
import pandas as pd
from torch import Tensor

from restyle_lib.evaluation import methods
from restyle_lib.evaluation.evaluate import now, seconds_per_image
from restyle_lib.inversion.inverter import Inverter

PROBE = 6  # steps of a search that are timed; all of its steps cost the same


def measure(encoders: dict[str, Inverter], budgets: dict[str, list[int]], images: Tensor, steps: int) -> pd.DataFrame:
    """Rows (method, image, step, seconds from the start to the end of the step), of images [n, 3, h, w] one by one.

    Encoders are timed after each of `steps`. Of the searches in `budgets` a few steps are timed, without what they
    prepare once; step t, of 0, 1 and the budgets, is then t times their median after the encoder that they start from.
    """
    records = []
    for i, image in enumerate(images.split(1)):
        passed = {label: seconds_per_image(inverter, image, steps, repeats=1) for label, inverter in encoders.items()}
        for label, seconds in passed.items():
            seconds = seconds[: encoders[label].steps_taken(steps)]
            records += [{"method": label, "image": i, "step": t, "seconds": s} for t, s in enumerate(seconds, 1)]
        for label, ends in budgets.items():
            marks: list[float] = []
            methods.invert(label, encoders, image, PROBE, lambda t, w, y, marks=marks: marks.append(now(y.device)))
            step, before = np.median(np.diff(marks)), 0.0
            if start := methods.HYBRIDS.get(label):
                before = passed[start][encoders[start].steps_taken(methods.START_STEPS) - 1]
            records += [{"method": label, "image": i, "step": t, "seconds": before + t * step} for t in (0, 1, *ends)]
    return pd.DataFrame(records)
