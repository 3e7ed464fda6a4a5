"""All notebooks are run, a failed one stops the rest, and its error is the one that is shown."""

import nbformat
import pandas as pd
import pytest
from papermill.exceptions import PapermillExecutionError
from tqdm import tqdm

from restyle_lib.commands import reproduce
from restyle_lib.evaluation import profiles
from restyle_lib.reporting import page
from restyle_lib.reporting.compare import compare


def notebook(folder, name, source):
    cells = [nbformat.v4.new_code_cell('profile = "default"', metadata={"tags": ["parameters"]})]
    cells.append(nbformat.v4.new_code_cell(source))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / name)
    return folder / name


def run(paths, folder, jobs):
    with tqdm(total=len(paths), disable=True) as bar:
        reproduce.run_all(paths, folder, "smoke", jobs, bar)


def test_notebooks_share_the_cores_and_see_the_profile(tmp_path, monkeypatch):
    source = "import os, pathlib\npathlib.Path(r'{}').write_text(profile + os.environ['OMP_NUM_THREADS'])"
    paths = [notebook(tmp_path, f"{i}.ipynb", source.format(tmp_path / f"{i}.txt")) for i in range(3)]
    monkeypatch.setattr(reproduce.torch, "get_num_threads", lambda: 4)
    (tmp_path / "out").mkdir()
    run(paths, tmp_path / "out", 2)
    assert [(tmp_path / f"{i}.txt").read_text() for i in range(3)] == ["smoke2"] * 3
    assert len(list((tmp_path / "out").glob("*.ipynb"))) == 3


def test_a_notebook_that_fails_stops_the_rest(tmp_path):
    failing = notebook(tmp_path, "a.ipynb", "raise RuntimeError('what went wrong')")
    others = [notebook(tmp_path, f"b{i}.ipynb", "pass") for i in range(3)]
    (tmp_path / "out").mkdir()
    with pytest.raises(PapermillExecutionError, match="what went wrong"):
        run([failing, *others], tmp_path / "out", 1)
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.ipynb"]


def test_each_profile_has_notebooks_and_a_page_of_its_own(tmp_path, monkeypatch):
    """What one profile ran is not what another, which may stop halfway, shows as its own."""
    monkeypatch.setattr(profiles, "REPRODUCED", tmp_path)
    monkeypatch.setattr(reproduce.assets, "verify", list)
    monkeypatch.setattr(reproduce, "run_all", lambda paths, executed, *_: (executed / "run.ipynb").touch())
    monkeypatch.setattr(page, "write", lambda profile, executed: executed)
    monkeypatch.setattr(reproduce, "compare", lambda *_: pd.DataFrame())
    for profile in ("smoke", "default"):
        assert reproduce.run(profile, jobs=1) == 0
    found = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.ipynb")}
    assert found == {"smoke/executed/run.ipynb", "default/executed/run.ipynb"}


def test_the_notebooks_that_are_singled_out_exist():
    assert {*reproduce.LONG, reproduce.TIMED} <= {path.name for path in reproduce.notebooks()}


def test_a_run_is_compared_with_what_is_committed(tmp_path):
    """Rounding and times may differ; numbers, verdicts and rows may not."""
    table = pd.DataFrame({"method": ["a", "b"], "L2": ["0.05 [0.04, 0.06]", "0.02 [0.01, 0.03]"], "s / image": [1, 2]})
    other = {
        "same": table.assign(**{"L2": ["0.051 [0.04, 0.07]", "0.02 [0.01, 0.03]"], "s / image": [5, 9]}),
        "off": table.assign(L2=["0.05 [0.04, 0.06]", "0.03 [0.01, 0.03]"]),
        "named": table.assign(method=["a", "c"]),
        "short": table.head(1),
    }
    for folder in ("run", "committed"):
        (tmp_path / folder).mkdir()
    for name, made in other.items():
        table.to_csv(tmp_path / "committed" / f"{name}.csv", index=False)
        made.to_csv(tmp_path / "run" / f"{name}.csv", index=False)
    table.to_csv(tmp_path / "committed" / "missing.csv", index=False)
    found = compare(tmp_path / "run", tmp_path / "committed").set_index("table")
    assert found.outcome.to_dict() == {
        "missing": "not made",
        "named": "differs",
        "off": "differs",
        "same": "agrees",
        "short": "differs",
    }
    assert "0.03, not 0.02" in found["what differs most"]["off"] and "'c'" in found["what differs most"]["named"]
