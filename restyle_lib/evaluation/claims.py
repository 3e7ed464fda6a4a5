"""The paper's claims, each measured of every image and decided by its interval: computed, never typed."""

import pandas as pd
import torch
from torch import Tensor

from restyle_lib.evaluation.evaluate import mean_and_interval
from restyle_lib.evaluation.metrics import HIGHER_IS_BETTER

MARGIN = 0.05  # share of its L2 at step 5 by which an image may be worse at step 10 and still count as converged


def claim(name: str, values, what: str) -> dict:
    """A row of the claims table: an effect, measured of each image [n], that is positive if the claim holds.

    confirmed: its 95 % interval is above zero; reversed: below; not confirmed: it holds zero.
    """
    effect, low, high = mean_and_interval(values)
    verdict = "confirmed" if low > 0 else "reversed" if high < 0 else "not confirmed"
    row = {"claim": name, "what": what, "effect": effect, "low": low, "high": high, "n": len(values)}
    return row | {"verdict": verdict}


def beats(name: str, a: pd.DataFrame, b: pd.DataFrame, methods: tuple[str, str], metrics: list[str]) -> list[dict]:
    """That method b is better than a on the same images, a row for each metric; the effect is b's mean gain.

    a, b: rows of `evaluate.evaluate`, one for each image
    """
    a, b = a.set_index("image").sort_index(), b.set_index("image").sort_index()
    signs = {metric: 1 if metric in HIGHER_IS_BETTER else -1 for metric in metrics}
    what = f"{methods[1]} beats {methods[0]}"
    return [claim(name, (sign * (b[m] - a[m])).to_numpy(), f"{what}: gain in {m}") for m, sign in signs.items()]


def converges(name: str, latents: Tensor, early: pd.DataFrame, late: pd.DataFrame) -> list[dict]:
    """That steps shrink, and that going on does no harm.

    latents:     codes [n, N+1, k, 512] of trajectories
    early, late: rows of `evaluate.evaluate` after N = 5 and after all steps, one for each image
    """
    moves = latents.diff(dim=1).square().mean((2, 3)).sqrt()  # [n, N]
    steps = torch.arange(moves.shape[1], dtype=torch.float32)
    centred = steps - steps.mean()
    slope = (moves.clamp_min(1e-9).log2() * centred).sum(1) / centred.square().sum()  # least squares
    early, late = (rows.set_index("image").L2.sort_index() for rows in (early, late))
    room = ((1 + MARGIN) * early - late).to_numpy()
    return [
        claim(name, -slope.numpy(), "steps shrink: halvings of a step's length from one to the next"),
        claim(name, room, f"L2 after the last step is less than {MARGIN:.0%} above that after step 5: room left"),
    ]
