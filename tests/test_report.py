"""The page holds what was measured, needs no other file, and does not break where something is missing."""

import re
from dataclasses import dataclass
from pathlib import Path

import nbformat
import numpy as np
import pandas as pd
import pytest
from PIL import Image

from restyle_lib.commands.reproduce import notebooks
from restyle_lib.evaluation import claims
from restyle_lib.reporting import page as report


@dataclass(frozen=True)
class Folders:
    """Stands for a profile."""

    root: Path
    name: str = "test"

    @property
    def folder(self) -> Path:
        return self.root

    @property
    def figures(self) -> Path:
        return self.root / "figures"

    @property
    def results(self) -> Path:
        return self.root / "results"


@pytest.fixture
def run(tmp_path):
    """A run that drew two figures, one of them unknown to the report, and measured three claims."""
    folders = Folders(tmp_path)
    for folder in (folders.figures, folders.results, tmp_path / "executed"):
        folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (900, 3000, 3), dtype=np.uint8)
    Image.fromarray(noise).save(folders.figures / "eval_time.png")
    Image.fromarray(noise[:50, :50]).save(folders.figures / "cats_&_dogs.png")
    rows = [claims.claim("C1", [1.0, 1.2, 1.1], "a gain < 5"), claims.not_measured("C2", "another", "not shipped: e4e")]
    pd.DataFrame(rows).to_csv(folders.results / "claims_eval.csv", index=False)
    pd.DataFrame([claims.claim("C0", [-1.0, -1.2], "no gain")]).to_csv(folders.results / "claims_x.csv", index=False)
    summary = {"method": ["b", "b", "a", "a"], "metric": ["L2", "ID"] * 2, "mean": 0.5, "low": 0.4, "high": 0.6, "n": 7}
    pd.DataFrame(summary).to_csv(folders.results / "eval_photos.csv", index=False)
    cell = nbformat.v4.new_markdown_cell("# Hello")
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "executed" / "03_eval.ipynb")
    return folders


def test_the_page_says_what_was_measured(run):
    page = report.write(run, run.root / "executed").read_text()
    assert re.findall(r"<td><b>(C\d)</b></td>", page) == ["C0", "C1", "C2"]
    assert re.findall(r'class="verdict (\w+)"', page) == ["reversed", "confirmed", "not"]
    assert "a gain &lt; 5" in page and "not shipped: e4e" in page and not re.search(r"[>\[ ]nan[<,\]]", page)
    assert "0.5000 [0.4000, 0.6000]" in page and page.index("<td>b</td>") < page.index("<td>a</td>")
    assert page.index("All methods, measured") < page.index("cats &amp; dogs")
    assert "What each step changes</h2>" not in page  # nothing of it was made


def test_the_page_stands_alone_and_is_small(run):
    path = report.write(run, run.root / "executed")
    page = path.read_text()
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    links = [source for source in sources if not source.startswith(("data:image/webp", "#"))]
    assert {(path.parent / link).resolve() for link in links} == {run.root / "executed" / "03_eval.html"}
    assert "Hello" in (run.root / "executed" / "03_eval.html").read_text()
    assert sum(source.startswith("data:") for source in sources) == 2
    assert len(page) < 0.5 * (run.figures / "eval_time.png").stat().st_size


def test_nothing_measured_is_no_error(tmp_path):
    (tmp_path / "figures").mkdir()
    assert "Quoted" in report.write(Folders(tmp_path), tmp_path).read_text()


def test_every_section_is_a_notebook():
    names = {path.stem for path in notebooks()}
    assert {section.notebook for section in report.SECTIONS} <= names
