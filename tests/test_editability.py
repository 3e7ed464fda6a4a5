"""What is measured of edits, on codes of which the answer is known."""

import pytest
import torch

import restyle_lib as rl
from restyle_lib.evaluation import claims, editability, evaluate, methods
from restyle_lib.inversion.edit import directions as directions_of_w
from restyle_lib.reporting import figures_edits


@pytest.fixture(scope="module")
def G():
    return rl.load_generator("faces-64")


@pytest.fixture(scope="module")
def codes(G):
    """Three codes in W, and the same with styles that differ."""
    rng = torch.Generator().manual_seed(3)
    in_w = G.map(torch.randn(3, 512, generator=rng), 0.7)[:, None].repeat(1, G.n_styles, 1)
    return {"true code": in_w, "Optimization, W+": in_w + 0.3 * torch.randn(in_w.shape, generator=rng)}


@pytest.fixture(scope="module")
def rows(G, codes, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RESTYLE_CACHE", str(tmp_path_factory.mktemp("cache")))
        cached = editability.measure(codes, G, ("smile", "pose"), (-2.0, 2.0))
        assert editability.measure(codes, G, ("smile", "pose"), (-2.0, 2.0)).equals(cached)
    return cached


def test_rows_of_every_edit(rows):
    assert len(rows) == 2 * 3 * 2 * 3
    unedited = rows[rows.strength == 0]
    assert (unedited[["wanted", "unwanted"]] == 0).all(axis=None) and (unedited.ID == 1).all()
    edits = rows[rows.strength != 0]
    assert edits.groupby(["method", "direction"]).wanted.mean().min() > 0.5, "both signs go the way they were asked to"
    assert (edits.unwanted > 0).all() and edits.ID.between(0, 1).all()


def test_ratios_are_of_means(rows):
    table = editability.of_images(rows).set_index(["method", "image"])
    some = rows[(rows.method == "true code") & (rows.image == 1) & (rows.strength != 0)]
    row = table.loc["true code", 1]
    assert row.wanted == pytest.approx(some.wanted.mean() / 2)
    assert row["side effects"] == pytest.approx(some.unwanted.sum() / some.wanted.sum())
    assert row["identity lost"] == pytest.approx((1 - some.ID).sum() / some.wanted.sum())
    wrong = editability.of_images(rows.assign(wanted=-rows.wanted))
    assert (wrong.wanted < 0).all() and (wrong[editability.LOWER_IS_BETTER].to_numpy() > 0).all()
    assert (wrong["side effects"].to_numpy() > table["side effects"].to_numpy()).all()


def test_distances_from_w(G, codes):
    table = editability.distances(codes, G).groupby("method").mean()
    assert table.spread["true code"] == 0 and table.spread["Optimization, W+"] > 0.1
    assert 0.4 < table.rarity["true code"] < 1 < table.rarity["Optimization, W+"]


def test_effects_are_those_of_the_named_directions(G, codes):
    directions = torch.stack([directions_of_w()[name] for name in ("smile", "pose")])
    effects = editability.effects(directions, codes["true code"][:, 0], G)
    assert effects.shape == (2, 5) and effects[0, 0] > 0.3 and effects[1, 2] > 0.3
    assert torch.allclose(editability.effects(-directions, codes["true code"][:, 0], G), -effects, atol=1e-4)


def test_claims_and_figures(rows, G, codes):
    table = editability.of_images(rows).merge(editability.distances(codes, G), on=["method", "image"])
    of = dict(list(table.groupby("method")))
    pair = ("Optimization, W+", "true code")
    measured = claims.beats("C6", of[pair[0]], of[pair[1]], pair, editability.LOWER_IS_BETTER)
    gain = (of[pair[0]]["side effects"].to_numpy() - of[pair[1]]["side effects"].to_numpy()).mean()
    assert measured[0]["effect"] == pytest.approx(gain)
    colours = methods.COLOURS | {"true code": "#8fbc5a"}
    summary = evaluate.summarise(rows, ["method", "direction", "strength"])
    figure = figures_edits.trade_offs(summary, colours, "title")
    line = figure.axes[0].lines[0].get_xdata()
    assert len(line) == 3 and line[0] < 0 == line[1] < line[2]
    assert [axis.get_ylabel() for axis in figure.axes].count("") == 2, "one label for each row"
    assert len(figures_edits.against_distance(table, colours).axes) == 2
    figures_edits.plt.close("all")
