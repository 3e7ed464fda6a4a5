"""Claims are decided by their intervals, in the direction that each metric calls better."""

import numpy as np
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
    moves = torch.tensor([1, 0.5, 0.25, 0.125]).expand(3, -1)
    early = pd.DataFrame({"image": [0, 1, 2], "L2": [0.1, 0.2, 0.3]})
    shrink, harm = claims.converges("C3", moves, early, early.assign(L2=1.02 * early.L2))
    assert shrink["effect"] == pytest.approx(1) and shrink["verdict"] == harm["verdict"] == "confirmed"
    shrink, harm = claims.converges("C3", moves.flip(1), early, early.assign(L2=1.2 * early.L2))
    assert shrink["effect"] == pytest.approx(-1) and shrink["verdict"] == harm["verdict"] == "reversed"


def rows(**columns) -> pd.DataFrame:
    return pd.DataFrame({"image": range(len(next(iter(columns.values()))))} | columns)


NONE = rows(L2=[])
PAIR = ("a", "b")


def test_as_good_is_within_the_margin():
    fpn = rows(L2=[0.1, 0.2, 0.3], ID=[0.5, 0.6, 0.7])
    close = claims.matches("C7", fpn, fpn.assign(L2=1.03 * fpn.L2, ID=0.97 * fpn.ID), PAIR, ["L2", "ID"])
    assert [row["verdict"] for row in close] == ["confirmed", "confirmed"]
    far = claims.matches("C7", fpn, fpn.assign(L2=1.1 * fpn.L2, ID=0.9 * fpn.ID), PAIR, ["L2", "ID"])
    assert [row["verdict"] for row in far] == ["reversed", "reversed"]


def test_costs():
    slow, fast = rows(seconds=[1.0, 2.0, 3.0]), rows(seconds=[0.2, 0.4, 0.6])
    assert claims.costs_less("C7", slow, fast, PAIR)["effect"] == pytest.approx(0.8)
    few = claims.few_passes("C4", fast, slow, PAIR)
    assert few["effect"] == pytest.approx(claims.FEW_PASSES - 5) and few["verdict"] == "confirmed"
    assert claims.few_passes("C4", fast, slow.assign(seconds=20.0), PAIR)["verdict"] == "reversed"


def test_when_a_search_is_as_good():
    steps = np.array([0, 10, 20])
    assert claims.steps_to_reach(steps, np.array([1.0, 0.5, 0.1]), 0.3) == pytest.approx(15)
    assert claims.steps_to_reach(steps, np.array([1.0, 0.5, 0.1]), 0.5) == pytest.approx(10)
    assert claims.steps_to_reach(steps, np.array([1.0, 0.5, 0.6]), 0.45) is None
    assert claims.steps_to_reach(steps, np.array([0.2, 0.5, 0.6]), 0.45) == 0


def test_how_much_faster():
    goal = rows(L2=[0.3, 0.3, 0.3])
    search = pd.concat(rows(L2=[error] * 3).assign(step=step) for step, error in ((0, 1.0), (10, 0.5), (20, 0.1)))
    slow, quick = (claims.much_faster("C4", search, goal, "L2", (step, 0.1), ("W+", "ReStyle")) for step in (2.0, 0.02))
    assert slow["effect"] == pytest.approx(np.log10(15 * 2 / 0.1 / 100)) and slow["verdict"] == "confirmed"
    assert quick["verdict"] == "reversed" and "mean 3 times" in quick["what"] and "not reached" not in quick["what"]
    identity = claims.much_faster("C4", search.assign(ID=-search.L2), goal.assign(ID=-0.3), "ID", (2.0, 0.1), PAIR)
    assert identity["effect"] == pytest.approx(slow["effect"])
    never = claims.much_faster("C4", search, goal.assign(L2=0.01), "L2", (2.0, 0.1), ("W+", "ReStyle"))
    assert never["effect"] == pytest.approx(np.log10(20 * 2 / 0.1 / 100)) and "3 of 3 images" in never["what"]
    unknown = claims.much_faster("C4", search, goal.assign(L2=0.01), "L2", (0.02, 0.1), PAIR)
    assert unknown["verdict"] == "not confirmed" and unknown["effect"] < 0  # nobody knows how long it would take
    assert np.isnan([unknown["low"], unknown["high"], never["low"], never["high"]]).all()
    assert never["verdict"] == "confirmed"  # it takes longer still
    some = claims.much_faster("C4", search, goal.assign(L2=[0.3, 0.2, 0.01]), "L2", (0.02, 0.1), PAIR)
    assert np.isfinite(some["low"]) and np.isnan(some["high"]) and some["verdict"] == "not confirmed"


@pytest.mark.parametrize(
    "measure",
    [
        lambda a, b: claims.beats("C0", a, b, ("pSp", "e4e"), ["L2"])[0],
        lambda a, b: claims.matches("C0", a, b, ("pSp", "e4e"), ["L2"])[0],
        lambda a, b: claims.costs_less("C0", a, b, ("pSp", "e4e")),
        lambda a, b: claims.few_passes("C0", a, b, ("pSp", "e4e")),
        lambda a, b: claims.much_faster("C0", a, b, "L2", (1.0, 1.0), ("pSp", "e4e")),
    ],
)
def test_what_is_not_shipped_is_not_measured_and_named(measure):
    row = measure(rows(L2=[0.1]), NONE)
    assert row["verdict"] == "not measured" and row["n"] == 0 and np.isnan(row["effect"])
    assert "not shipped: e4e" in row["what"]
    assert "not shipped: pSp and e4e" in measure(NONE, NONE)["what"]
