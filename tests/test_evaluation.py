"""Metrics mean what they are called; intervals cover; tables keep every image."""

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import restyle_lib as rl
from restyle_lib import assets
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.commands import evaluate as evaluate_command
from restyle_lib.evaluation import cache, evaluate, metrics, profiles, seeds, sets
from restyle_lib.faces.detect import find_faces
from restyle_lib.features.perceptual import st_lpips
from restyle_lib.images import downsample, to_float, to_image, to_uint8
from restyle_lib.inversion.inverter import Viewed
from restyle_lib.inversion.result import Inversion


def test_l2_and_psnr_by_hand():
    a, b = torch.zeros(2, 3, 8, 8), torch.zeros(2, 3, 8, 8)
    b[1] = 0.2
    assert metrics.l2(a, b).tolist() == pytest.approx([0, 0.04])
    assert metrics.psnr(a, b)[1].item() == pytest.approx(20.0, abs=1e-4)


@torch.no_grad()
def test_every_metric_is_best_for_the_image_itself_and_worsens_with_noise(heldout):
    x = downsample(to_float(heldout.images[:4]), 64)
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    for name, metric in metrics.table_metrics().items():
        sign = 1 if name in metrics.HIGHER_IS_BETTER else -1
        same, little, much = (sign * metric((x + s * noise).clamp(-1, 1), x) for s in (0, 0.1, 0.5))
        assert (same >= little).all() and (little > much).all(), name
        assert same.shape == (4,)


@torch.no_grad()
def test_st_lpips_equals_the_package(heldout):
    a, b = downsample(to_float(heldout.images[:4]), 64).chunk(2)
    ours = metrics.st_lpips_distance(a, b)
    assert torch.allclose(ours, st_lpips().network(a, b).flatten(), atol=1e-5)


@pytest.fixture
def alexnet(tmp_path, monkeypatch):
    """AlexNet's convolutions with random weights under torchvision's names, in a file that passes for the real one."""
    shapes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3), 8: (256, 384, 3), 10: (256, 256, 3)}
    rng, state = torch.Generator().manual_seed(0), {"classifier.6.bias": torch.zeros(1000)}
    for number, (out, into, side) in shapes.items():
        state[f"features.{number}.weight"] = torch.randn(out, into, side, side, generator=rng) / (into * side**2) ** 0.5
        state[f"features.{number}.bias"] = torch.zeros(out)
    path = tmp_path / metrics.ALEXNET
    torch.save(state, path)
    monkeypatch.setattr(metrics, "ALEXNET_SHA256", assets.sha256(path)[:8])
    return path


@torch.no_grad()
def test_lpips_takes_the_weights_that_it_is_given(alexnet, heldout):
    """Its first layer by hand; the column is there only where a file is named, and for no other file."""
    x = downsample(to_float(heldout.images[:2]), 64)
    network, state = metrics.lpips_alex(alexnet), torch.load(alexnet, weights_only=True)
    (first, *_), seen = network.net(network.scaling_layer(x)), network.scaling_layer(x)
    by_hand = torch.conv2d(seen, state["features.0.weight"], state["features.0.bias"], stride=4, padding=2).relu()
    assert torch.allclose(first, by_hand, atol=1e-5)
    name = "LPIPS (AlexNet)"
    assert metrics.table_metrics(lpips=alexnet)[name](x, x).tolist() == [0, 0]
    assert (metrics.table_metrics(lpips=alexnet)[name](x, x.flip(0)) > 0).all()
    assert name not in metrics.table_metrics()


def test_another_file_than_alexnet_is_refused_before_anything_is_measured(tmp_path):
    path = tmp_path / metrics.ALEXNET
    with pytest.raises(ValueError, match=r"no such file; LPIPS needs https.*alexnet-owt-7be5be79\.pth"):
        evaluate_command.run(["faces/psp"], lpips=path)
    path.write_bytes(b"altered")
    with pytest.raises(ValueError, match="SHA-256 does not begin with 7be5be79"):
        evaluate_command.run(["faces/psp"], lpips=path)


def test_st_lpips_can_look_at_smaller_images(heldout):
    a, b = to_float(heldout.images[:2]).split(1)
    small = st_lpips()(downsample(a, 64), st_lpips().features(downsample(b, 64)))
    at_64 = st_lpips(64)
    assert torch.allclose(at_64(a, at_64.features(b)), small)
    assert not torch.allclose(st_lpips()(a, st_lpips().features(b)), small, atol=1e-3)


def test_st_lpips_has_finite_gradients_where_nothing_is_active():
    flat = torch.zeros(1, 3, 64, 64, requires_grad=True)
    distance = st_lpips()
    distance(flat, distance.features(torch.ones(1, 3, 64, 64))).sum().backward()
    assert flat.grad.isfinite().all()


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_eight_bit_round_trip(seed):
    images = torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(seed)) * 2 - 1
    assert (to_float(to_uint8(images)) - images).abs().max() <= 0.5 / 127.5 + 1e-6


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    intervals = [evaluate.mean_and_interval(rng.normal(3, 1, 50)) for _ in range(60)]
    assert sum(low <= 3 <= high for _, low, high in intervals) >= 50
    assert evaluate.mean_and_interval([2.0, 2.0]) == (2, 2, 2)


def test_one_image_has_no_interval():
    mean, *bounds = evaluate.mean_and_interval([2.0])
    assert mean == 2 and np.isnan(bounds).all()
    one = pd.DataFrame({"method": ["pSp"], "step": [1], "image": [0], "L2": [0.25]})
    cells = evaluate.with_intervals(evaluate.summarise(one, ["method", "step"]), ["method", "step"])
    assert cells.L2.item() == "0.2500"
    assert evaluate.paired_difference(one, one.assign(L2=0.1), ("a", "b")).better.item() == "neither"


def test_paired_difference_names_the_better_side():
    rng = np.random.default_rng(0)
    a = pd.DataFrame({"image": range(50), "L2": rng.normal(1, 0.5, 50), "ID": 0.5, "MS-SSIM": rng.normal(0, 1, 50)})
    b = a.assign(L2=a.L2 - 0.1 + rng.normal(0, 0.01, 50), ID=0.4)
    b["MS-SSIM"] = rng.normal(0, 1, 50)
    better = evaluate.paired_difference(a, b, ("first", "second")).set_index("metric").better
    assert better.to_dict() == {"L2": "second", "ID": "first", "MS-SSIM": "neither"}


def test_evaluation_keeps_the_last_partial_batch(heldout):
    images = to_float(torch.cat([heldout.images[:4], heldout.images[:1]]))
    inverters = {"psp": rl.load_inverter("faces/psp"), "restyle": rl.load_inverter("faces/restyle-psp")}
    rows = evaluate.evaluate(inverters, images, steps=2, batch=4)
    assert rows.groupby(["method", "step"]).image.nunique().eq(5).all()
    assert set(rows[rows.method == "psp"].step) == {0, 1} and set(rows[rows.method == "restyle"].step) == {0, 1, 2}
    assert (rows[rows.step == 0].moved == 0).all() and (rows[rows.step > 0].moved > 0).all()
    twice = rows[(rows.method == "restyle") & (rows.step == 2)].set_index("image")
    assert twice.loc[4, "L2"] == pytest.approx(twice.loc[0, "L2"], rel=1e-3)
    summary = evaluate.summarise(rows, ["method", "step"])
    assert (summary.n == 5).all() and (summary.low <= summary["mean"]).all() and (summary["mean"] <= summary.high).all()
    assert "L2" in evaluate.with_intervals(summary, ["method", "step"])


def test_what_was_measured_is_remembered_until_anything_changes(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path))
    calls = []

    def compute():
        calls.append(1)
        return pd.DataFrame({"L2": [0.1 + 0.2, 1e-17]})

    x = torch.randn(2, 3)
    first, again = (cache.remembered(cache.digest("psp", x, 5), compute) for _ in range(2))
    assert len(calls) == 1 and first.equals(again) and first.L2[0] == 0.1 + 0.2
    for other in (cache.digest("psp", x + 1e-6, 5), cache.digest("psp", x, 6), cache.digest("psp", x.T, 5)):
        cache.remembered(other, compute)
    assert len(calls) == 4
    monkeypatch.setattr(cache, "_code", lambda: "another version")
    cache.remembered(cache.digest("psp", x, 5), compute)
    assert len(calls) == 5
    monkeypatch.undo()
    monkeypatch.setattr(cache, "WEIGHTS", tmp_path)
    hashes = {cache._code.__wrapped__()}
    for name in ("face-recognition.safetensors", "judge.safetensors", "faces-directions.json", "faces-psp.safetensors"):
        (tmp_path / name).write_text("other weights")
        hashes.add(cache._code.__wrapped__())
    assert len(hashes) == 4  # an encoder's are in the key of what it made
    layer = torch.nn.Linear(2, 2)
    before = cache.digest(layer)
    torch.nn.init.zeros_(layer.bias)
    assert cache.digest(layer) != before


def test_another_decay_is_another_measurement(heldout, tmp_path, monkeypatch):
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path))
    inverter, x = rl.load_inverter("faces/restyle-psp"), to_float(heldout.images[:1])
    key = cache.digest(inverter)
    inverter.y_avg += 1e-6  # as another number of threads would round it
    assert cache.digest(inverter) == key
    errors = []
    for inverter.decay in (0.0, 1.0):
        errors.append(evaluate.evaluate({"ReStyle": inverter}, x, steps=3).set_index("step").L2)
    assert errors[0][1] == errors[1][1] and errors[0][3] != errors[1][3]


def test_searches_have_rows_as_encoders_have():
    x = torch.zeros(2, 3, 64, 64)
    ends = {steps: Inversion(torch.zeros(2, 2, 16, 512), torch.stack([x + 0.5, x + 1 / steps], 1)) for steps in (4, 8)}
    rows = evaluate.of_searches({("Hybrid", steps): end for steps, end in ends.items()}, x)
    assert len(rows) == 6 and set(rows.step) == {0, 4, 8}
    assert rows[rows.step == 8].L2.tolist() == pytest.approx([1 / 64] * 2)
    assert rows[rows.step == 0].L2.tolist() == pytest.approx([0.25] * 2)


@torch.no_grad()
def test_a_render_without_a_face_is_counted_and_not_dropped(heldout):
    G = Viewed(rl.load_generator("faces-1024"), (256, 256))
    nothing = torch.randn(1, 16, 512, generator=torch.Generator().manual_seed(0)) * 5
    codes = {"good": heldout.codes[:2], "lost": torch.cat([heldout.codes[:1], nothing])}
    images = {name: G.synthesize(code).clamp(-1, 1) for name, code in codes.items()}
    found = {name: sum(bool(find_faces(to_image(each[None]))) for each in y) for name, y in images.items()}
    assert found == {"good": 2, "lost": 1}
    x = to_float(heldout.images[:2])
    values = torch.stack([metric(y, x) for y in images.values() for metric in metrics.table_metrics().values()])
    assert values.shape[1] == 2 and values.isfinite().all()


def test_an_interrupted_measurement_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("RESTYLE_CACHE", str(tmp_path))

    def fail():
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.remembered("key", fail)
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_seconds_grow_with_steps():
    seconds = evaluate.seconds_per_image(rl.load_inverter("faces/restyle-psp"), torch.zeros(1, 3, 64, 64), 3, repeats=2)
    assert len(seconds) == 3 and 0 < seconds[0] < seconds[1] < seconds[2]


def test_profiles():
    assert profiles.load("smoke").images < profiles.load("default").images == 24
    with pytest.raises(ValueError, match="smoke, default, full"):
        profiles.load("quick")


def test_a_gpu_is_waited_for_before_the_clock_is_read(monkeypatch):
    waited = []
    monkeypatch.setattr(torch.cuda, "synchronize", waited.append)
    before = evaluate.now(torch.device("cpu"))
    assert evaluate.now(torch.device("cuda", 0)) >= before and waited == [torch.device("cuda", 0)]


def test_a_folder_is_measured_batch_by_batch(heldout, tmp_path):
    """As a stream it gives the rows that all images at once give, and holds no more than a batch of them."""
    folder = tmp_path / "renders"
    folder.mkdir()
    for i, image in enumerate(to_float(heldout.images[:5])):
        rl.to_image(image).save(folder / f"{i}.png")
    (folder / "broken.png").write_text("no picture")
    (folder / "notes.txt").write_text("not called like one")
    skipped = {}
    stream = sets.batches(folder, DOMAINS["faces"], skipped, aligned=True, batch=2)
    inverters = {name: rl.load_inverter(name) for name in ("faces/psp", "faces/restyle-psp")}
    rows = evaluate.evaluate(inverters, stream, steps=1)
    names, images, also = sets.of_folder(folder, DOMAINS["faces"], aligned=True)
    assert names == [f"{i}.png" for i in range(5)] and skipped == also and list(skipped) == ["broken.png", "notes.txt"]
    together = evaluate.evaluate(inverters, images, steps=1, batch=2)
    pd.testing.assert_frame_equal(rows, together)
    assert list(dict.fromkeys(rows.method)) == list(inverters) and set(rows.image) == set(range(5))
    (tmp_path / "none").mkdir()
    with pytest.raises(rl.PhotoError, match="none of its 0 files"):
        next(sets.batches(tmp_path / "none", DOMAINS["faces"], {}))


def test_rows_that_are_measured_again_take_the_place_of_the_old_ones(tmp_path):
    path = tmp_path / "table.csv"
    evaluate.save_rows(pd.DataFrame({"method": ["a", "b"], "L2": [1.0, 2.0]}), path, ["method"])
    whole = evaluate.save_rows(pd.DataFrame({"method": ["c", "b"], "L2": [4.0, 3.0]}), path, ["method"])
    assert whole.method.tolist() == ["c", "a", "b"]
    assert pd.read_csv(path).L2.tolist() == [4, 1, 3]


def test_a_band_over_seeds_goes_from_the_lowest_to_the_highest(monkeypatch):
    """Two trainings, two images: means are over both, the band is of the trainings' means."""

    def measured(variants, images, steps):
        (method, offset), *_ = variants.items()
        rows = [{"method": method, "step": 1, "image": i, "size": 256, "moved": 0.0, "L2": offset + i} for i in (0, 2)]
        return pd.DataFrame(rows)

    monkeypatch.setattr(seeds, "evaluate", measured)
    table = seeds.over_seeds({"N = 1": [0.0, 4.0]}, None, 1).set_index(["method", "step", "metric"])
    assert table.loc[("N = 1", 1, "L2")].to_dict() == {"mean": 3.0, "low": 1.0, "high": 5.0, "n": 2.0}
