"""example.py and the Python of README run, and the first stays short enough to be read."""

import re
import subprocess
import sys

import skimage.data
from PIL import Image

from restyle_lib.paths import REPOSITORY

EXAMPLE = REPOSITORY / "example.py"


def test_it_fits_on_two_screens():
    assert len(EXAMPLE.read_text().splitlines()) <= 100


def test_it_inverts_searches_and_edits(tmp_path):
    command = [sys.executable, str(EXAMPLE), "--steps", "2", "--search", "2", "--out", str(tmp_path / "grid.jpg")]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    errors = [float(line.split()[-1]) for line in result.stdout.splitlines() if line.startswith("step")]
    assert len(errors) == 2 and errors[1] < errors[0]
    assert Image.open(tmp_path / "grid.jpg").size == (256 * 6, 256)


def test_the_python_of_readme_runs(tmp_path, monkeypatch):
    (code,) = re.findall(r"```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)
    Image.fromarray(skimage.data.astronaut()).save(tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(re.sub(r"steps=\d+", "steps=1", code), found)
    assert found["image"].size == (1024, 1024) and found["smiling"].shape == (1, 3, 1024, 1024)
