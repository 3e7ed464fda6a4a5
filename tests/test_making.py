"""The script that trains all encoders on a GPU, at toy length on the CPU."""

import io
import json
import zipfile

import pytest
import torch
from PIL import Image

import restyle_lib as rl
from restyle_lib.images import to_float, to_image
from restyle_lib.making import encoders as making


def test_the_script_for_a_gpu_runs_on_a_cpu(tmp_path, monkeypatch, heldout):
    monkeypatch.setattr(making, "HELDOUT", 4)
    monkeypatch.setattr(making, "PAIRS_BATCH", 2)
    monkeypatch.setattr(making, "STEPS", 2)
    monkeypatch.setattr(making, "STARTED", making.time.perf_counter())
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for i in range(9504):  # `prepare` keeps what follows the first 9,500 for validation
            if i < 6 or i >= 9500:
                encoded = io.BytesIO()
                to_image(to_float(heldout.images[i % 20][None])).resize((89, 109)).save(encoded, "JPEG")
            archive.writestr(f"{i:06d}.jpg", encoded.getvalue())
    making.prepare(tmp_path / "inputs", tmp_path / "faces.zip", train=6)
    photographs = making.load_photographs(tmp_path / "inputs" / "photographs.zip", torch.device("cpu"))
    assert photographs.shape == (10, 3, 80, 80)

    out, states = tmp_path / "out", tmp_path / "states"
    names = ("restyle-psp", "idinvert")
    few = {"renders": 4, "heldout": 4}
    making.train(tmp_path / "inputs", out, 10, 0, names=names, passes=8, states=states, batch=4, **few)
    making.extend(tmp_path / "inputs", out, states=states, passes=4, batch=4, **few)
    begun = out / "restyle-psp.safetensors"
    again = {"names": ("psp", "e4e"), "passes": 10, "states": states, "batch": 4, "start": begun, **few}
    making.train(tmp_path / "inputs", out, 10, **again)  # two batches each: ten passes are no whole number of them
    monkeypatch.setattr(making, "learn_loop", lambda *arguments: pytest.fail("they are there"))
    making.train(tmp_path / "inputs", out, 10, **again)
    recipes = json.loads((out / "recipes.json").read_text())
    assert [recipes[name]["passes"] for name in (*names, "psp", "e4e")] == [8, 8, 8, 8]
    assert recipes["restyle-psp-long"]["passes"] == 4
    for name in ("start", *names, "psp", "e4e", "restyle-psp-long"):
        inverter = rl.load_inverter(out / f"{name}.safetensors")
        assert inverter.input_size == (256, 256) and inverter.one_pass == (name in {"idinvert", "psp", "e4e"})


def test_a_low_resolution_is_an_average_enlarged():
    resolutions = making.Resolutions(torch.device("cpu"))
    x = torch.rand(2, 3, 256, 256)
    seen = resolutions.of(x, torch.tensor([0, 3]))
    assert torch.equal(seen[0], x[0])
    small = torch.nn.functional.adaptive_avg_pool2d(x[1:], 80)
    assert torch.allclose(seen[1:], resolutions.enlarged(small), atol=1e-5)
    expected = Image.fromarray((small[0, 0] * 255).numpy()).resize((256, 256), Image.Resampling.BICUBIC)
    interior = slice(8, -8)  # edges are extended in another way
    difference = seen[1, 0] - torch.frombuffer(bytearray(expected.tobytes()), dtype=torch.float32).view(256, 256) / 255
    assert difference[interior, interior].abs().max() < 0.1


def test_an_interrupted_learner_goes_on_where_it_was(tmp_path):
    def learner():
        torch.manual_seed(0)
        return making.Learner(torch.nn.Linear(2, 2), 1e-2, torch.device("cpu"))

    def learn(one, steps):
        for _ in range(steps):
            one.step(one.encoder(torch.ones(1, 2)).square().sum(), one.taken / 6)

    whole, half, again = learner(), learner(), learner()
    learn(whole, 6)
    learn(half, 3)
    half.save(tmp_path / "half.pt")
    again.load(tmp_path / "half.pt")
    learn(again, 3)
    assert torch.equal(whole.encoder.weight, again.encoder.weight) and torch.equal(whole.ema.weight, again.ema.weight)
