"""Claims are decided by their intervals, in the direction that each metric calls better."""

import pandas as pd
import pytest
import torch

from restyle_lib.evaluation import claims


@pytest.mark.parametrize(
    ("values", "verdict"),
    [([1.0, 1.1, 0.9, 1.0], "confirmed"), ([-1.0, -1.1, -0.9], "reversed"), ([-1.0, 1.0, 0.1], "not confirmed")],
)
def test_the_interval_decides(values, verdict):
    row = claims.claim("C0", values, "an effect")
    assert row["verdict"] == verdict and row["n"] == len(values) and row["low"] <= row["effect"] <= row["high"]


def test_better_is_lower_error_and_higher_identity():
    a = pd.DataFrame({"image": [0, 1, 2], "L2": [0.3, 0.4, 0.5], "ID": [0.5, 0.6, 0.7]})
    b = pd.DataFrame({"image": [2, 1, 0], "L2": [0.4, 0.3, 0.2], "ID": [0.6, 0.5, 0.4]})  # in another order
    l2, identity = claims.beats("C1", a, b, ("pSp", "ReStyle"), ["L2", "ID"])
    assert l2["effect"] == pytest.approx(0.1) and l2["verdict"] == "confirmed"
    assert identity["effect"] == pytest.approx(-0.1) and identity["verdict"] == "reversed"
    assert l2["what"] == "ReStyle beats pSp: gain in L2"


def test_convergence_is_shrinking_steps_and_no_harm():
    lengths = torch.tensor([1, 0.5, 0.25, 0.125])
    latents = torch.cat([torch.zeros(1), lengths.cumsum(0)])[None, :, None, None].expand(3, -1, 2, 4)
    early = pd.DataFrame({"image": [0, 1, 2], "L2": [0.1, 0.2, 0.3]})
    shrink, harm = claims.converges("C3", latents, early, early.assign(L2=1.02 * early.L2))
    assert shrink["effect"] == pytest.approx(1) and shrink["verdict"] == harm["verdict"] == "confirmed"
    shrink, harm = claims.converges("C3", latents.flip(1), early, early.assign(L2=1.2 * early.L2))
    assert shrink["effect"] == pytest.approx(-1) and shrink["verdict"] == harm["verdict"] == "reversed"
