"""Every notebook runs headless from the repository's root and from notebooks/, and is committed clean."""

import subprocess
import sys

import nbformat
import pytest
import torch
from PIL import Image

from restyle_lib.commands.reproduce import NOTEBOOKS, notebooks
from restyle_lib.making.stand_ins import random_checkpoint
from restyle_lib.paths import REPOSITORY

NAMES = [path.name for path in notebooks()]


def test_notebooks_are_there_in_order():
    numbers = [int(name[:2]) for name in NAMES]
    assert numbers == [0, *range(11)]  # two begin: the lesson without a network, and the generator


@pytest.mark.parametrize("name", NAMES)
def test_first_code_cell_holds_the_parameters_and_no_output_is_committed(name):
    cells = nbformat.read(NOTEBOOKS / name, as_version=4).cells
    code = [cell for cell in cells if cell.cell_type == "code"]
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")
    assert code[0].metadata.get("tags") == ["parameters"] and 'profile = "default"' in code[0].source
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert not any("sys.path" in cell.source for cell in code)
    assert max(len(cell.source.splitlines()) for cell in code) <= 25, "notebooks call the library"


# Than they make: 03 and 08 a step beyond the five of training, the others as many as their claims need.
FEWER_STEPS = {"02_steps.ipynb": 3, "03_eval.ipynb": 6, "04_heatmaps.ipynb": 3, "05_editability.ipynb": 2}
FEWER_STEPS |= {"06_bootstrapping.ipynb": 3, "08_ablations.ipynb": 6}


@pytest.mark.parametrize(
    ("name", "folder"), [(name, REPOSITORY if i % 2 else NOTEBOOKS) for i, name in enumerate(NAMES)], ids=str
)
def test_runs_headless(name, folder, tmp_path):
    """Half of them from the root, half from notebooks/: the library finds its own folders, wherever it runs."""
    path = (NOTEBOOKS / name).relative_to(folder)
    command = [sys.executable, "-m", "papermill", str(path), str(tmp_path / "out.ipynb"), "-p", "profile", "smoke"]
    command += ["-p", "steps", str(FEWER_STEPS[name])] if name in FEWER_STEPS else []
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]


def test_a_checkpoint_on_a_folder_of_crops(tmp_path):
    """09's parameters are those of the commands: nothing is cropped again, and the size is what is asked for."""
    torch.save(random_checkpoint("church", size=16, mapping=1), tmp_path / "tiny.pt")
    folder = tmp_path / "crops"
    folder.mkdir()
    for name, size in (("a", (80, 80)), ("b", (64, 64)), ("wide", (80, 60))):
        Image.linear_gradient("L").resize(size).save(folder / f"{name}.png")
    words = {"profile": "smoke", "checkpoint": tmp_path / "tiny.pt", "folder": folder, "steps": 1, "aligned": True}
    words |= {"domain": "own", "input_size": 64}
    command = [sys.executable, "-m", "papermill", str(NOTEBOOKS / "09_full_scale.ipynb"), str(tmp_path / "out.ipynb")]
    command += [str(each) for name, value in words.items() for each in ("-p", name, value)]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]
    said = (tmp_path / "out.ipynb").read_text(encoding="utf-8")
    assert "own, on " in said and "encoder sees [64, 64] px" in said and "of 2 images" in said
    assert "skipped wide.png: 80 x 60, not cropped to 64 : 64" in said
