"""README and docs/ show what the runs measured, and name what exists."""

import re

import pandas as pd
import pytest

from restyle_lib.paths import REPOSITORY
from restyle_lib.reporting import readme

TEXTS = {page: page.read_text() for page in readme.PAGES}


def test_its_tables_are_the_results():
    assert sum(len(readme.PLACE.findall(text)) for text in TEXTS.values()) >= 8
    assert [page.name for page, text in TEXTS.items() if readme.filled(text) != text] == []


def test_its_figures_and_files_exist():
    paths = []
    for page, text in TEXTS.items():
        links = [link for link in re.findall(r"\]\(([^)#]+)", text) if not link.startswith("http")]
        named = re.findall(r"`((?:restyle_lib|benchmarks|notebooks|data)/[\w./-]+)`", text)
        paths += [page.parent / link for link in links] + [REPOSITORY / path for path in named]
    assert len(paths) > 20
    assert [str(path) for path in paths if not path.exists()] == []


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


def test_some_columns_can_be_chosen():
    table = pd.DataFrame({"method": ["a", "b"], "L2": [0.5, 0.25], "ID": [0.1, 0.2], "n": [200, 200]})
    assert readme.markdown(table, "method, ID").splitlines()[2:] == ["| a | 0.1 |", "| b | 0.2 |", "", "n: 200"]
    table.loc[2] = ["c, step 1", 0.1, 0.3, 200]
    kept = readme.markdown(table, "method, ID", "c, step 1").splitlines()
    assert kept[2:] == ["| a | 0.1 |", "| b | 0.2 |", "", "n: 200"], "and a row can be left out"


def test_what_was_not_measured_has_no_number():
    table = pd.DataFrame({"claim": ["C1", "C2"], "effect": [0.5, float("nan")], "n": [200, 0]})
    assert readme.markdown(table).splitlines()[2:] == ["| C1 | 0.5 | 200 |", "| C2 | – | 0 |", ""]


def test_a_claim_is_said_to_be_what_it_was_found():
    table = pd.DataFrame(
        {"claim": ["C1", "C1", "C1", "C3"], "verdict": ["confirmed", "reversed", "confirmed", "reversed"]}
    )
    assert readme.verdicts(table, "C1") == "confirmed in 2 of 3, reversed in 1"
    assert readme.verdicts(table, "C3") == "reversed"
    with pytest.raises(KeyError, match="C2"):
        readme.verdicts(table, "C2")


def test_a_sentence_has_its_number_from_the_results():
    table = pd.DataFrame(
        {"method": ["a", "b, step 5"], "L2": ["0.05 [0.04, 0.06]", "0.03 [0.02, 0.04]"], "s": [1.0, 2.5]}
    )
    assert readme.value(table, "b, step 5", "L2") == "0.03" and readme.value(table, "b, step 5", "s") == "2.5"
    said = "L2 is <!-- value: benchmark_london | ReStyle-pSp, step 5 | L2 -->9<!-- end -->."
    filled = readme.filled(said)
    assert filled != said and readme.filled(filled) == filled
    assert readme.filled(said.replace("9", "")) == filled, "an empty place is filled too"
