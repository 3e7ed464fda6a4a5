"""The tables in README and docs/ are the files in data/results, and the settings that stand in the code.

`python -m restyle_lib.reporting.readme` fills them.
"""

import re

import pandas as pd

from restyle_lib.paths import REPOSITORY, RESULTS
from restyle_lib.reporting import settings

PAGES = [REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").glob("*.md"))]
PLACE = re.compile(r"(<!-- table: (\w+)(?: \| ([^>|]+))?(?: \| without ([^>|]+))? -->\n).*?(<!-- end -->)", re.DOTALL)
# A number in a sentence: the results file, the entry of its first column that names the row, and the column.
VALUE = re.compile(r"(<!-- value: (\w+) \| ([^|>]+) \| ([^|>]+) -->).*?(<!-- end -->)")
# How often a claim of a table of claims was confirmed.
VERDICTS = re.compile(r"(<!-- verdicts: (\w+) \| (\w+) -->).*?(<!-- end -->)")

VERDICT_ORDER = ("confirmed", "not confirmed", "reversed", "not measured")
FROM_CODE = {"settings": settings.reasons, "settings_of_domains": settings.domains}


def filled(text: str) -> str:
    """`text` with its places filled: `<!-- table: NAME --> … <!-- end -->` with the table of that name.

    `<!-- table: NAME | COLUMN, COLUMN -->` shows some of its columns, and what is the same in all rows below;
    `<!-- table: NAME | COLUMN, COLUMN | without ROW -->` leaves out the row that its first column names so.
    And `<!-- value: NAME | ROW | COLUMN --> … <!-- end -->` in a sentence with one number of it, and
    `<!-- verdicts: NAME | CLAIM --> … <!-- end -->` with how many of its rows say what.
    """
    text = PLACE.sub(lambda place: place[1] + markdown(named(place[2]), place[3], place[4]) + place[5], text)
    text = VALUE.sub(lambda place: place[1] + value(named(place[2]), place[3], place[4]) + place[5], text)
    return VERDICTS.sub(lambda place: place[1] + verdicts(named(place[2]), place[3]) + place[4], text)


def value(table: pd.DataFrame, row: str, column: str) -> str:
    """A number as sentences show it, without its interval. Raises KeyError where there is no such row or column."""
    found = table.set_index(table.columns[0])[column]
    return cell(found.loc[row]).partition(" [")[0]


def verdicts(table: pd.DataFrame, claim: str) -> str:
    """What became of a claim: "confirmed in 2 of 3, not confirmed in 1", or the word alone where all rows agree.

    Raises KeyError where the table has no such claim.
    """
    counts = table.loc[table.claim == claim, "verdict"].value_counts()
    if counts.empty:
        raise KeyError(f"no claim {claim}")
    if len(counts) == 1:
        return str(counts.index[0])
    words = [f"{verdict} in {counts[verdict]}" for verdict in VERDICT_ORDER if verdict in counts]
    return ", ".join([f"{words[0]} of {counts.sum()}", *words[1:]])


def named(name: str) -> pd.DataFrame:
    """The table of data/results/NAME.csv, or the one that the code makes."""
    return FROM_CODE[name]() if name in FROM_CODE else pd.read_csv(RESULTS / f"{name}.csv")


def markdown(table: pd.DataFrame, columns: str | None = None, without: str | None = None) -> str:
    """A GitHub table; columns that say the same in every row become a line below it.

    columns: of the others, those to show, divided by commas; none: all
    without: the row that is left out, by its entry in the first column
    """
    table = table[table.iloc[:, 0] != without]
    constant = [name for name in table if len(table) > 1 and table[name].nunique(dropna=False) == 1]
    table, below = table.drop(columns=constant), table[constant].head(1)
    table = table[columns.split(", ")] if columns else table
    lines = [list(table), ["---"] * len(table.columns), *table.itertuples(index=False)]
    rows = ["| " + " | ".join(map(cell, line)) + " |" for line in lines]
    note = [", ".join(f"{name}: {cell(below[name].iloc[0])}" for name in below)]
    return "\n".join([*rows, "", *(note if constant else [])]) + "\n"


def cell(value) -> str:
    """A value as tables show it: three digits of a number, a dash for none."""
    if value != value:  # NaN
        return "–"
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return str(value)


def fill() -> None:
    """Brings all pages up to date."""
    for page in PAGES:
        page.write_text(filled(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    fill()
