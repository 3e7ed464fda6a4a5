"""All notebooks are run, a failed one stops the rest, and its error is the one that is shown."""

import nbformat
import pytest
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from restyle_lib.commands import reproduce


def notebook(folder, name, source):
    cells = [nbformat.v4.new_code_cell('profile = "default"', metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(source))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / name)
    return folder / name


def run(paths, folder, monkeypatch, jobs):
    monkeypatch.setattr(reproduce, "EXECUTED", folder)
    with tqdm(total=len(paths), disable=True) as bar:
        reproduce._run_all(paths, "smoke", jobs, bar)


def test_notebooks_share_the_cores_and_see_the_profile(tmp_path, monkeypatch):
    source = "import os, pathlib\npathlib.Path(r'{}').write_text(profile + os.environ['OMP_NUM_THREADS'])"
    paths = [notebook(tmp_path, f"{i}.ipynb", source.format(tmp_path / f"{i}.txt")) for i in range(3)]
    monkeypatch.setattr(reproduce.torch, "get_num_threads", lambda: 4)
    (tmp_path / "out").mkdir()
    run(paths, tmp_path / "out", monkeypatch, 2)
    assert [(tmp_path / f"{i}.txt").read_text() for i in range(3)] == ["smoke2"] * 3
    assert len(list((tmp_path / "out").glob("*.ipynb"))) == 3


def test_a_notebook_that_fails_stops_the_rest(tmp_path, monkeypatch):
    failing = notebook(tmp_path, "a.ipynb", "raise RuntimeError('what went wrong')")
    others = [notebook(tmp_path, f"b{i}.ipynb", "pass") for i in range(3)]
    (tmp_path / "out").mkdir()
    with pytest.raises(PapermillExecutionError, match="what went wrong"):
        run([failing, *others], tmp_path / "out", monkeypatch, 1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.ipynb"]


def test_the_notebooks_that_are_singled_out_exist():
    assert {*reproduce.LONG, reproduce.TIMED} <= {path.name for path in reproduce.notebooks()}
