"""README shows what the runs measured, and names what exists."""

import re

import pandas as pd

from restyle_lib.paths import REPOSITORY
from restyle_lib.reporting import readme

TEXT = readme.README.read_text()


def test_its_tables_are_the_results():
    assert len(readme.PLACE.findall(TEXT)) >= 2
    assert readme.filled(TEXT) == TEXT


def test_its_figures_and_files_exist():
    paths = re.findall(r"!\[[^]]+\]\(([^)]+)\)", TEXT)
    paths += re.findall(r"`((?:restyle_lib|benchmarks|notebooks|data)/[\w./-]+)`", TEXT)
    assert len(paths) > 4
    assert [path for path in paths if not (REPOSITORY / path).exists()] == []


def test_columns_that_never_change_stand_below():
    table = pd.DataFrame({"method": ["a", "b"], "L2": [0.01234, 4321.0], "n": [200, 200]})
    assert readme.markdown(table).splitlines() == [
        "| method | L2 |",
        "| --- | --- |",
        "| a | 0.0123 |",
        "| b | 4321 |",
        "",
        "n: 200",
    ]


def test_what_was_not_measured_has_no_number():
    table = pd.DataFrame({"claim": ["C1", "C2"], "effect": [0.5, float("nan")], "n": [200, 0]})
    assert readme.markdown(table).splitlines()[2:] == ["| C1 | 0.5 | 200 |", "| C2 | – | 0 |", ""]
