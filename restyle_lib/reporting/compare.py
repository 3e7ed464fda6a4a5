"""Whether a run found what the committed tables say."""

import re
from pathlib import Path

import pandas as pd

# Of a number, against the largest of its column: other processors round in other ways, and the loop adds that up.
TOLERANCE = 0.05
NOT_COMPARED = re.compile(r"s / image|seconds|time|machine|minutes|GiB|faster")  # they are of the machine
NUMBER = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?")


def compare(run: Path, committed: Path) -> pd.DataFrame:
    """Compares the tables (CSV) of two folders: a row for each table that both have, or only the committed one.

    Columns: table, outcome ("agrees", "differs", "not made"), and what differs most. Times are left out. Numbers agree
    within TOLERANCE of the largest in their column; of a cell "mean [low, high]" the mean counts. Text must be equal.
    """
    rows = []
    for path in sorted(committed.glob("*.csv")):
        if path.stem.startswith("benchmark_"):
            continue
        if not (run / path.name).exists():
            rows.append((path.stem, "not made", ""))
            continue
        worst = difference(pd.read_csv(run / path.name), pd.read_csv(path))
        rows.append((path.stem, "differs" if worst else "agrees", worst))
    return pd.DataFrame(rows, columns=["table", "outcome", "what differs most"])


def difference(found: pd.DataFrame, expected: pd.DataFrame) -> str:
    """What differs most between two tables, in words; empty where they agree."""
    if list(found) != list(expected) or len(found) != len(expected):
        return f"{found.shape[0]} rows and {found.shape[1]} columns, not {expected.shape[0]} and {expected.shape[1]}"
    worst, words = TOLERANCE, ""
    for column in expected:
        if NOT_COMPARED.search(column):
            continue
        ours, theirs = numbers(found[column]), numbers(expected[column])
        if theirs is None or ours is None:
            other = found[column].astype(str) != expected[column].astype(str)
            if other.any() and not words:
                i = int(other.idxmax())
                words = f"{column}, row {i + 1}: {found[column][i]!r}, not {expected[column][i]!r}"
            continue
        if (ours.isna() != theirs.isna()).any():
            worst, words = float("inf"), f"{column}: a number is missing"
            continue
        off = (ours - theirs).abs() / max(theirs.abs().max(), 1e-12)
        if off.max() > worst:
            i = int(off.idxmax())
            worst, words = off.max(), f"{column}, row {i + 1}: {ours[i]:.4g}, not {theirs[i]:.4g}"
    return words


def numbers(column: pd.Series) -> pd.Series | None:
    """A column as numbers, of cells that begin with one; None for text."""
    if pd.api.types.is_numeric_dtype(column):
        return column.astype(float)
    found = column.astype(str).map(NUMBER.match)
    if found.isna().any():
        return None
    return found.map(lambda match: float(match[0]))
