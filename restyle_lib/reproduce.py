"""Runs every notebook in order; figures/ and data/results/ fill with what they draw and measure; one page shows all."""

import time
from pathlib import Path
from typing import Literal

import papermill

from restyle_lib import assets, profiles, readme
from restyle_lib.data import REPOSITORY
from restyle_lib.evaluation import report

NOTEBOOKS = REPOSITORY / "notebooks"
EXECUTED = REPOSITORY / "data" / "results" / "executed"


def notebooks() -> list[Path]:
    """The project's notebooks in their order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def run(profile: Literal["smoke", "default", "full"] = "default") -> int:
    """Verifies the assets, then runs all notebooks through papermill; the executed copies go to data/results/executed.

    At the end stands one page with all of it, figures/report.html, and the executed notebooks as HTML. The default
    profile also brings the tables in README up to date.

    profile: smoke (seconds, for tests), default (minutes on two cores, the numbers that README shows), full (GPU)
    Stops at the first notebook that fails, with its error.
    """
    if problems := assets.verify():
        print("\n".join(f"warning: {problem}" for problem in problems))
    EXECUTED.mkdir(parents=True, exist_ok=True)
    for path in notebooks():
        start = time.perf_counter()
        print(f"{path.name} …", flush=True)
        papermill.execute_notebook(
            path, EXECUTED / path.name, {"profile": profile}, cwd=REPOSITORY, kernel_name="python3"
        )
        print(f"{path.name} done in {time.perf_counter() - start:.0f} s", flush=True)
    if profile == "default":
        readme.README.write_text(readme.filled(readme.README.read_text()))
    page = report.write(profiles.load(profile), EXECUTED)
    print("figures are in figures/, tables in data/results/, executed notebooks in data/results/executed/")
    print(f"all on one page: {page}")
    return 0
