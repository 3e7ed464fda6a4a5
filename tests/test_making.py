"""The script that trains all encoders on a GPU, at toy length on the CPU."""

import io
import json
import zipfile

from PIL import Image

import restyle_lib as rl
from restyle_lib.images import to_float, to_image
from restyle_lib.making import encoders as making


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
