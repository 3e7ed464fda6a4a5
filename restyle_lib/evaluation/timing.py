"""Seconds per image of every method at batch 1, measured in one run and in turn, so that other load hits all alike."""

from collections.abc import Iterable

import numpy as np
import pandas as pd
from torch import Tensor

from restyle_lib.evaluation import methods
from restyle_lib.evaluation.evaluate import at, now, seconds_per_image
from restyle_lib.inversion.inverter import Inverter
from restyle_lib.inversion.tune import LOCALITY_EVERY


def measure(
    encoders: dict[str, Inverter], searched: Iterable[str], images: Tensor, steps: int, probe: int = 6
) -> pd.DataFrame:
    """Rows (method, image, step, seconds), of images [n, 3, h, w] one by one.

    Encoders have a row after each of `steps`: the seconds from the start to its end. Each of `searched`, searches and
    tunings, has one, for a step: of a search `probe` steps are timed, of a tuning as many as have both kinds of its
    steps, without what they prepare once.
    """
    records = []
    for i, image in enumerate(images.split(1)):
        for label, inverter in encoders.items():
            seconds = seconds_per_image(inverter, image, steps, repeats=1)[: inverter.steps_taken(steps)]
            records += [{"method": label, "image": i, "step": t, "seconds": s} for t, s in enumerate(seconds, 1)]
        for label in searched:
            seconds_of_a_step = _seconds_of_a_step(label, encoders, image, probe)
            records.append({"method": label, "image": i, "step": 1, "seconds": seconds_of_a_step})
    return pd.DataFrame(records)


def after(times: pd.DataFrame, budgets: dict[str, list[int]]) -> pd.DataFrame:
    """Rows of `measure`, those of searches and tunings replaced by seconds from the start to the end of step t.

    budgets: of each search or tuning the numbers of steps it was given; t is 0, 1 and these. A hybrid begins after the
             encoder that it starts from, a tuning after the largest budget of its hybrid, which stands before it
    """
    tables, ended = [times[~times.method.isin(budgets)]], {}
    for label, ends in budgets.items():
        step, before = at(times, label, 1).set_index("image").seconds, 0.0
        if start := methods.HYBRIDS.get(label):
            passes = min(methods.START_STEPS, times.step[times.method == start].max())
            before = at(times, start, passes).set_index("image").seconds
        if pivot := methods.PIVOTAL.get(label):
            before = ended[pivot]
        ended[label] = before + max(ends) * step
        for t in (0, 1, *ends):
            tables.append((before + t * step).reset_index().assign(method=label, step=t))
    return pd.concat(tables, ignore_index=True)


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
