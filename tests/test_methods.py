"""One order, one name and one colour for each method; whatever is shipped is compared, what is missing is not."""

import pytest
import torch

from restyle_lib.evaluation import methods, sets, timing
from restyle_lib.evaluation.cache import digest
from restyle_lib.inversion.inverter import shipped_inverters


@pytest.fixture(scope="module")
def encoders():
    return methods.load_encoders()


def test_every_shipped_encoder_of_faces_has_its_place():
    faces = {name for name in shipped_inverters() if name.startswith("faces/")}
    assert set(methods.shipped().values()) == faces


def test_every_method_has_a_colour_of_its_own():
    labels = [*methods.ENCODERS, *methods.OPTIMIZATIONS, *methods.HYBRIDS, *methods.PIVOTAL]
    assert list(methods.COLOURS) == labels and len(set(methods.COLOURS.values())) == len(labels)


def test_what_is_not_shipped_is_left_out(monkeypatch):
    monkeypatch.setattr(methods, "shipped_inverters", lambda: ["toon/restyle-psp", "faces/e4e", "faces/psp"])
    assert list(methods.shipped()) == ["pSp", "e4e"]
    assert methods.searches(methods.shipped()) == ["Optimization, W", "Optimization, W+", "Hybrid, pSp"]
    assert methods.tunings(methods.shipped()) == []


def test_a_method_begins_where_it_says_and_is_remembered(encoders, tmp_path, monkeypatch):
    photos = sets.aligned_photographs()[1][:2]
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path))
    monkeypatch.setattr(methods, "START_STEPS", 2)
    encoded = torch.cat([encoders["ReStyle-pSp"].invert(x, methods.START_STEPS).latents for x in photos.split(1)])
    for label in ("ReStyle-pSp", "Optimization, W+", "Hybrid, ReStyle-pSp"):
        found = methods.inverted(label, encoders, photos, steps=2, batch=1)
        start = encoded[:, -1] if label in methods.HYBRIDS else encoders["pSp"].G.w_avg.expand(2, 16, -1)
        assert found.latents.shape == (2, 2, 16, 512)
        assert torch.allclose(found.latents[:, 0], start, atol=1e-4)
        assert (found.latents[:, 1] - found.latents[:, 0]).abs().mean() > 1e-3
    assert len(list((tmp_path / "results").glob("*.safetensors"))) == 6 + 2  # and where the hybrid begins
    monkeypatch.setattr(methods, "invert", lambda *arguments: pytest.fail("it was done before"))
    again = methods.inverted("Hybrid, ReStyle-pSp", encoders, photos, steps=2, batch=1)
    assert torch.equal(again.latents, found.latents) and torch.equal(again.images, found.images)
    other = methods.inverted("Hybrid, ReStyle-pSp", encoders, photos.flip(0)[1:], steps=2)
    assert torch.equal(other.latents, found.latents[:1]), "an image is remembered whatever else was asked for with it"
    few = {label: encoders[label] for label in ("pSp", "ReStyle-pSp")}
    assert torch.equal(methods.inverted("Hybrid, ReStyle-pSp", few, photos, steps=2).latents, found.latents)
    methods.inverted("Optimization, W+", few, photos, steps=2)  # neither depends on encoders that it does not use


def test_pivotal_tuning_goes_on_from_its_hybrid_and_leaves_the_generator_alone(encoders, tmp_path, monkeypatch):
    (label,), inverter = methods.tunings(encoders), encoders["ReStyle-pSp"]
    x = sets.aligned_photographs()[1][:2]
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path))
    pivots = inverter.invert(x, 1).latents[:, -1]
    weights = digest(inverter.G)
    found = methods.tuned(label, encoders, x, pivots, steps=3)
    assert found.latents.shape == (2, 2, 16, 512) and found.images.shape == (2, 2, *x.shape[1:])
    assert torch.equal(found.latents[:, 0], pivots) and torch.equal(found.latents[:, 1], pivots)
    before, after = (found.images - x[:, None]).square().mean((0, 2, 3, 4))
    assert after < before and digest(inverter.G) == weights
    assert len(list((tmp_path / "results").glob("*.safetensors"))) == 2
    monkeypatch.setattr(methods, "tune_to", lambda *arguments: pytest.fail("it was done before"))
    assert torch.equal(methods.tuned(label, encoders, x, pivots, steps=3).images, found.images)


def test_times_of_all_methods(encoders, monkeypatch):
    monkeypatch.setattr(methods, "START_STEPS", 2)
    few = {label: encoders[label] for label in ("pSp", "ReStyle-pSp")}
    budgets = {"Optimization, W+": [10, 100], "Hybrid, pSp": [10]}
    times = timing.after(timing.measure(few, budgets, torch.zeros(2, 3, 64, 64), steps=3, probe=2), budgets)
    assert times.groupby(["method", "step"]).image.nunique().eq(2).all()
    times = times.groupby(["method", "step"]).seconds.mean()
    assert list(times["pSp"].index) == [1] and list(times["ReStyle-pSp"].index) == [1, 2, 3]
    assert times["ReStyle-pSp", 1] < times["ReStyle-pSp", 3] < times["Optimization, W+", 10]
    assert times["Optimization, W+", 0] == 0 < times["Hybrid, pSp", 0] < times["pSp", 1] * 5
    assert times["Optimization, W+", 100] == pytest.approx(10 * times["Optimization, W+", 10])


def test_a_tuning_takes_the_time_of_its_hybrid_too(encoders, monkeypatch):
    monkeypatch.setattr(timing, "_seconds_of_a_step", lambda label, *_: 3.0 if label in methods.PIVOTAL else 2.0)
    few = {"ReStyle-pSp": encoders["ReStyle-pSp"]}
    budgets = {"Hybrid, ReStyle-pSp": [4, 7], "PTI, ReStyle-pSp": [10]}
    times = timing.after(timing.measure(few, budgets, torch.zeros(1, 3, 64, 64), steps=5), budgets)
    times = times.set_index(["method", "step"]).seconds
    searched = times["ReStyle-pSp", 5] + 7 * 2
    assert times["Hybrid, ReStyle-pSp", 7] == pytest.approx(searched)
    assert times["PTI, ReStyle-pSp", 0] == pytest.approx(searched)
    assert times["PTI, ReStyle-pSp", 10] == pytest.approx(searched + 10 * 3)
