"""The paper's claims, each measured of every image and decided by its interval: computed, never typed."""

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from restyle_lib.evaluation.evaluate import mean_and_interval
from restyle_lib.evaluation.labels import HIGHER_IS_BETTER

MARGIN = 0.05  # share by which an error may be larger and still count as the same
FEW_PASSES = 10  # "a small multiple" of one pass is less than this
MUCH_FASTER = 100  # times; what the paper's figure shows between its encoders and optimization


def claim(name: str, values, what: str) -> dict:
    """A row of the claims table: an effect, measured of each image [n], that is positive if the claim holds.

    confirmed: its 95 % interval is above zero; reversed: below; not confirmed: it holds zero, or has no bounds.
    """
    effect, low, high = mean_and_interval(values)
    verdict = "confirmed" if low > 0 else "reversed" if high < 0 else "not confirmed"
    row = {"claim": name, "what": what, "effect": effect, "low": low, "high": high, "n": len(values)}
    return row | {"verdict": verdict}


def beats(name: str, a: pd.DataFrame, b: pd.DataFrame, methods: tuple[str, str], metrics: list[str]) -> list[dict]:
    """That method b is better than a on the same images, a row for each metric; the effect is b's mean gain.

    a, b: rows of `evaluate.evaluate`, one for each image; none of a method that is not shipped
    """
    if lacking := _lacking(methods, a, b):
        return [not_measured(name, f"{methods[1]} beats {methods[0]}", lacking)]
    what = f"{methods[1]} beats {methods[0]}: gain in"
    signs = {metric: 1 if metric in HIGHER_IS_BETTER else -1 for metric in metrics}
    gains = {metric: sign * (_of_images(b, metric) - _of_images(a, metric)) for metric, sign in signs.items()}
    return [claim(name, gain, f"{what} {metric}") for metric, gain in gains.items()]


def converges(name: str, moves: Tensor, early: pd.DataFrame, late: pd.DataFrame) -> list[dict]:
    """That steps shrink, and that going on does no harm.

    moves:       rms changes of the codes in each step, [n, N]
    early, late: rows of `evaluate.evaluate` after N = 5 and after all steps, one for each image
    """
    steps = torch.arange(moves.shape[1], dtype=moves.dtype)
    centred = steps - steps.mean()
    slope = (moves.clamp_min(1e-9).log2() * centred).sum(1) / centred.square().sum()  # least squares
    early, late = (_of_images(rows, "L2") for rows in (early, late))
    room = (1 + MARGIN) * early - late
    return [
        claim(name, -slope.numpy(), "steps shrink: halvings of a step's length from one to the next"),
        claim(name, room, f"L2 after the last step is less than {MARGIN:.0%} above that after step 5: room left"),
    ]


def matches(name: str, a: pd.DataFrame, b: pd.DataFrame, methods: tuple[str, str], metrics: list[str]) -> list[dict]:
    """That method b is at most MARGIN worse than a on the same images; the effect is the room left.

    a, b: rows of `evaluate.evaluate`, one for each image; none of a method that is not shipped
    """
    if lacking := _lacking(methods, a, b):
        return [not_measured(name, f"{methods[1]} is no worse than {methods[0]}", lacking)]
    rows = []
    for metric in metrics:
        of_a, of_b = _of_images(a, metric), _of_images(b, metric)
        room = of_b - (1 - MARGIN) * of_a if metric in HIGHER_IS_BETTER else (1 + MARGIN) * of_a - of_b
        what = f"{methods[1]} is less than {MARGIN:.0%} worse than {methods[0]} in {metric}: room left"
        rows.append(claim(name, room, what))
    return rows


def costs_less(name: str, a: pd.DataFrame, b: pd.DataFrame, methods: tuple[str, str]) -> dict:
    """That method b takes less time than a: the effect is the share of a's time that it saves.

    a, b: rows of `timing.measure`, one for each image; none of a method that is not shipped
    """
    if lacking := _lacking(methods, a, b):
        return not_measured(name, f"{methods[1]} takes less time than {methods[0]}", lacking)
    saved = 1 - _of_images(b, "seconds") / _of_images(a, "seconds")
    return claim(name, saved, f"{methods[1]} takes less time than {methods[0]}: share saved")


def few_passes(name: str, one_pass: pd.DataFrame, loop: pd.DataFrame, methods: tuple[str, str]) -> dict:
    """That the loop costs a small multiple of one pass: the effect is how many passes are left to FEW_PASSES.

    one_pass, loop: rows of `timing.measure`, one for each image; none of a method that is not shipped
    """
    if lacking := _lacking(methods, one_pass, loop):
        return not_measured(name, f"{methods[1]} takes a small multiple of the time of {methods[0]}", lacking)
    passes = _of_images(loop, "seconds") / _of_images(one_pass, "seconds")
    what = f"{methods[1]} takes less than {FEW_PASSES} times as long as {methods[0]}: {FEW_PASSES} minus its multiple"
    return claim(name, FEW_PASSES - passes, what)


def much_faster(
    name: str,
    search: pd.DataFrame,
    goal: pd.DataFrame,
    metric: str,
    seconds: tuple[float, float],
    methods: tuple[str, str],
) -> dict:
    """That optimization needs MUCH_FASTER times as long to become as good, image by image: the effect is log10 of that.

    search:  rows of `evaluate.of_searches`, several steps for each image
    goal:    rows of the encoder that it is compared with, one for each image
    seconds: per step of the search, and per image of the encoder
    methods: names of search and encoder
    Rows are none where a method is not shipped. An image that no number of steps brings there counts as if the largest
    had. The truth is then larger: the claim may be confirmed like that, but is never called reversed, and the interval
    has no upper bound (NaN); where no image was brought there, no lower one either.
    """
    if lacking := _lacking(methods, search, goal):
        return not_measured(name, f"{methods[0]} takes much longer than {methods[1]}", lacking)
    sign, goal = -1 if metric in HIGHER_IS_BETTER else 1, goal.set_index("image")[metric]
    needed, never, most = [], 0, search.step.max()
    for image, rows in search.sort_values("step").groupby("image"):
        steps = steps_to_reach(rows.step.to_numpy(), sign * rows[metric].to_numpy(), sign * goal[image])
        never += steps is None
        needed.append(most if steps is None else steps)
    ratio = np.maximum(needed, 1) * seconds[0] / seconds[1]
    what = (
        f"{methods[0]} takes more than {MUCH_FASTER} times as long as {methods[1]} to reach its {metric}: log10 of "
        f"times / {MUCH_FASTER}; geometric mean {'at least ' if never else ''}{np.exp(np.log(ratio).mean()):.3g} times"
    )
    if never:
        what += f", {never} of {len(ratio)} images not reached in {most} steps and counted as that"
    row = claim(name, np.log10(ratio / MUCH_FASTER), what)
    if never:
        row["high"] = float("nan")
        row["verdict"] = "confirmed" if row["low"] > 0 else "not confirmed"
    if never == len(ratio):
        row["low"] = float("nan")
    return row


def steps_to_reach(steps: np.ndarray, errors: np.ndarray, goal: float) -> float | None:
    """The number of steps at which an error first is no more than `goal`, linear between those measured, or None."""
    reached = np.flatnonzero(errors <= goal)
    if not len(reached):
        return None
    i = reached[0]
    if i == 0:
        return float(steps[0])
    share = (errors[i - 1] - goal) / (errors[i - 1] - errors[i])
    return float(steps[i - 1] + share * (steps[i] - steps[i - 1]))


def not_measured(name: str, what: str, why: str) -> dict:
    """A row that says that a claim could not be measured, and why."""
    effect = dict.fromkeys(("effect", "low", "high"), float("nan"))
    return {"claim": name, "what": f"{what} ({why})"} | effect | {"n": 0, "verdict": "not measured"}


def _lacking(methods: tuple[str, str], *tables: pd.DataFrame) -> str:
    """Which of two methods have no rows, as the reason why a claim is not measured; empty where both have some."""
    lacking = [method for method, table in zip(methods, tables, strict=True) if table.empty]
    return f"not shipped: {' and '.join(lacking)}" if lacking else ""


def _of_images(rows: pd.DataFrame, column: str) -> np.ndarray:
    """A column in the order of the images."""
    return rows.set_index("image")[column].sort_index().to_numpy()
