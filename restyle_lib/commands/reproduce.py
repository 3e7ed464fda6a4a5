"""Runs all notebooks; reproduced/ fills with what they draw and measure, and one page shows all of it."""

import os
import shutil
import time
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing import get_context
from pathlib import Path
from typing import Literal

import torch
from tqdm.auto import tqdm

from restyle_lib import assets
from restyle_lib.evaluation import profiles
from restyle_lib.paths import FIGURES, REPOSITORY, RESULTS
from restyle_lib.reporting.compare import compare

NOTEBOOKS = REPOSITORY / "notebooks"
# It says how long methods take, so nothing may run beside it. It runs beside the others before, to fill the cache with
# all else that it measures: two notebooks of one thread each take less time than one after the other with two threads.
TIMED = "03_eval.ipynb"
# The long ones start first, so that none is left alone at the end; 05 and 06 find searches of 03 and 02 in the cache.
LONG = (TIMED, "02_steps.ipynb", "01_train_encoders.ipynb", "08_ablations.ipynb", "05_editability.ipynb")


def notebooks() -> list[Path]:
    """The project's notebooks in their order."""
    return sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))


def run(profile: Literal["smoke", "default", "full"] = "default", jobs: int | None = None, update: bool = False) -> int:
    """Verifies the assets, then runs all notebooks through papermill; all that they write goes to reproduced/PROFILE/.

    At the end stands one page with all of it, report.html there, and the executed notebooks as HTML. The tables of the
    default profile are compared with the committed ones, and what differs is said.

    profile: smoke (seconds, for tests), default (minutes on two cores, the numbers that README shows), full (GPU)
    jobs:    notebooks at a time, which share the processor's cores: 2, or 1 where there is a GPU. 03_eval, which
             measures time, comes again at the end and has the machine to itself
    update:  for maintainers: the run's figures and tables become the committed ones, and README shows them
    Stops at the first notebook that fails, with its error.
    """
    from restyle_lib.reporting import page as report  # with nbconvert: half a second for every other command
    from restyle_lib.reporting import readme

    if problems := assets.verify():
        print("\n".join(f"warning: {problem}" for problem in problems))
    sizes = profiles.load(profile)
    executed = sizes.folder / "executed"
    executed.mkdir(parents=True, exist_ok=True)
    jobs = jobs or (1 if torch.cuda.is_available() else 2)
    long_first = sorted(notebooks(), key=lambda path: LONG.index(path.name) if path.name in LONG else len(LONG))
    timed = [path for path in long_first if path.name == TIMED and jobs > 1]
    with tqdm(total=len(long_first + timed), desc="notebooks", unit="notebook") as bar:
        run_all(long_first, executed, profile, jobs, bar)
        run_all(timed, executed, profile, 1, bar)
    page = report.write(sizes, executed)
    if update:
        for source, target in ((sizes.figures, FIGURES), (sizes.results, RESULTS)):
            shutil.copytree(source, target, dirs_exist_ok=True)
        readme.fill()
    elif profile == "default":
        print(compare(sizes.results, RESULTS).to_string(index=False))
    print(f"figures, tables and executed notebooks are in {sizes.folder}")
    print(f"all on one page: {page}")
    return 0


def run_all(paths: list[Path], executed: Path, profile: str, jobs: int, bar: tqdm) -> None:
    """Runs notebooks in this order, `jobs` at a time; raises the first error, and starts no other after it."""
    threads, waiting, running = max(1, torch.get_num_threads() // jobs), list(paths), set()
    with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
        while waiting or running:
            while waiting and len(running) < jobs:  # a pool would start what it has been given, error or not
                path = waiting.pop(0)
                running.add(pool.submit(_run, path, executed / path.name, profile, threads))
            done, running = wait(running, return_when=FIRST_COMPLETED)
            for each in done:
                bar.write(each.result())
                bar.update()


def _run(path: Path, out: Path, profile: str, threads: int) -> str:
    import papermill  # three seconds, for every other command too

    os.environ["OMP_NUM_THREADS"] = str(threads)  # for the kernel
    start = time.perf_counter()
    papermill.execute_notebook(
        path, out, {"profile": profile}, cwd=REPOSITORY, kernel_name="python3", progress_bar=False
    )
    return f"{path.name} done in {time.perf_counter() - start:.0f} s"
