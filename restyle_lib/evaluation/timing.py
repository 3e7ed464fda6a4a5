"""Seconds per image of every method at batch 1, measured in one run and in turn, so that other load hits all alike."""

import numpy as np
import pandas as pd
from torch import Tensor

from restyle_lib.evaluation import methods
from restyle_lib.evaluation.evaluate import now, seconds_per_image
from restyle_lib.inversion.inverter import Inverter
from restyle_lib.inversion.tune import LOCALITY_EVERY


def measure(
    encoders: dict[str, Inverter], budgets: dict[str, list[int]], images: Tensor, steps: int, probe: int = 6
) -> pd.DataFrame:
    """Rows (method, image, step, seconds from the start to the end of the step), of images [n, 3, h, w] one by one.

    Encoders are timed after each of `steps`. Of each search in `budgets` `probe` steps are timed, of a tuning as many
    as have both kinds of its steps, without what they prepare once. Step t, of 0, 1 and the budgets, is then t times
    that after the encoder that a hybrid starts from, and for a tuning after the largest budget of its hybrid, which
    stands before it.
    """
    records = []
    for i, image in enumerate(images.split(1)):
        passed = {label: seconds_per_image(inverter, image, steps, repeats=1) for label, inverter in encoders.items()}
        for label, seconds in passed.items():
            seconds = seconds[: encoders[label].steps_taken(steps)]
            records += [{"method": label, "image": i, "step": t, "seconds": s} for t, s in enumerate(seconds, 1)]
        ended: dict[str, float] = {}  # seconds from the start to the end of each search's largest budget
        for label, ends in budgets.items():
            step, before = _seconds_of_a_step(label, encoders, image, probe), 0.0
            if start := methods.HYBRIDS.get(label):
                before = passed[start][encoders[start].steps_taken(methods.START_STEPS) - 1]
            if pivot := methods.PIVOTAL.get(label):
                before = ended[pivot]
            ended[label] = before + max(ends) * step
            records += [{"method": label, "image": i, "step": t, "seconds": before + t * step} for t in (0, 1, *ends)]
    return pd.DataFrame(records)


def _seconds_of_a_step(label: str, encoders: dict[str, Inverter], image: Tensor, probe: int) -> float:
    """Seconds of a step of a search or a tuning of an image [1, 3, h, w]."""
    marks: list[float] = []

    def mark(t: int, w: Tensor, y: Tensor) -> None:
        marks.append(now(y.device))

    if label not in methods.PIVOTAL:
        methods.invert(label, encoders, image, probe, mark)
        return float(np.median(np.diff(marks)))
    G = encoders[methods.HYBRIDS[methods.PIVOTAL[label]]].G
    # of any pivot; as many steps as there are from one with the locality term, which takes longer, to the next
    methods.tune_to(label, encoders, image, G.w_avg.expand(1, G.n_styles, -1), LOCALITY_EVERY + 1, mark)
    return float(np.mean(np.diff(marks)))
