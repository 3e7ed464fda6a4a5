"""The scripts that made the shipped encoders, at toy length on the CPU."""

import io
import json
import zipfile

import torch
from PIL import Image

import restyle_lib as rl
from restyle_lib.images import to_float, to_image
from restyle_lib.making import encoders as making
from restyle_lib.making import shorten
from restyle_lib.training import states


def test_the_script_for_a_gpu_runs_on_a_cpu(tmp_path, monkeypatch, heldout):
    monkeypatch.setattr(making, "HELDOUT", 1)
    monkeypatch.setattr(making, "ON_ITS_WAY", 1)
    with zipfile.ZipFile(tmp_path / "faces.zip", "w") as archive:
        for i in range(9501):  # `prepare` keeps what follows the first 9,500 for validation
            if i < 4 or i >= 9500:
                encoded = io.BytesIO()
                to_image(to_float(heldout.images[i % 20][None])).resize((89, 109)).save(encoded, "JPEG")
            archive.writestr(f"{i:06d}.jpg", encoded.getvalue())
    making.prepare(tmp_path / "inputs", tmp_path / "faces.zip", train=4)
    with zipfile.ZipFile(tmp_path / "inputs" / "photographs.zip") as archive:
        assert len(archive.namelist()) == 5
        assert Image.open(io.BytesIO(archive.read("000000.webp"))).size == (80, 80)

    out = tmp_path / "out"
    making.train(tmp_path / "inputs", out, names=("restyle-psp", "e4e"), passes=5, renders=2, batch=2, size=64)
    for name in ("restyle-psp", "e4e"):
        recipe = json.loads((out / f"{name}.json").read_text())
        assert recipe["settings"]["replay_passes"] + recipe["settings"]["loop_passes"] == 4, "whole batches"
        assert recipe["validation"]["photographs learned from"] == 4
        assert rl.load_inverter(out / f"{name}.safetensors").one_pass == (name == "e4e")


def test_late_steps_are_shortened(tmp_path, heldout):
    """The first residual is taught as it is, a later one with the decay; what is learned is an encoder like others."""
    folder = tmp_path / "faces"
    folder.mkdir()
    for i in range(3):
        to_image(to_float(heldout.images[i][None])).resize((80, 80)).save(folder / f"{i}.png")
    done = shorten.shorten("restyle-psp", tmp_path, folder, decay=0.5, passes=8, batch=1, renders=20, validation=1)
    assert done["passes"] == 8 and 6 <= done["images"] <= 8 and len(done["validation"]["L2"]) == 10
    recipe = json.loads((tmp_path / "faces-restyle-psp.json").read_text())
    assert recipe["rounds"][-1] == done and recipe["rounds"][0]["round"] == "pairs"

    shortened = tmp_path / "faces-restyle-psp.safetensors"
    before, after = (rl.load_inverter(name) for name in ("faces/restyle-psp", shortened))
    x = to_float(heldout.images[:1])
    with torch.no_grad():
        moved = [inverter.invert(x, 1).latents.diff(dim=1) for inverter in (before, after)]
        assert 0 < (moved[0] - moved[1]).norm() < 0.1 * moved[0].norm(), "eight states change little"
        view, w = before.view(x), before.start(1)
        start = states.States(x, x, torch.tensor([256]), [], w, before.y_avg, torch.tensor([0]))
        first = shorten.decayed(before.encoder, view, start, 0.5)[0] - w
        start.taken += 3
        late = shorten.decayed(before.encoder, view, start, 0.5)[0] - w
        assert torch.allclose(late, first / 2, atol=1e-5), "the fourth residual is half as long with decay 0.5"
