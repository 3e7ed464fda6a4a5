"""Times what a user of the explorer waits for: each interaction, and how much of it the networks take.

    python benchmarks/explorer.py

An edit is timed until it is seen at 256 px, which should take no more than 0.3 s, and until it is seen at 1024 px,
which begins once the sliders have rested. Medians of a few repeats.
"""

import time
from collections.abc import Callable

import pandas as pd
import tyro

from restyle_lib import precision, widgets
from restyle_lib.evaluation import measure, metrics
from restyle_lib.evaluation.evaluate import save_table
from restyle_lib.faces.attributes import Attributes
from restyle_lib.inversion.inverter import Inverter
from restyle_lib.paths import RESULTS, destination
from restyle_lib.widgets import bootstrap, edit
from restyle_lib.widgets.session import QUIET


class Networks:
    """Counts the seconds that pass in some functions; each replaces itself by one that is timed."""

    def __init__(self):
        self.seconds, self.inside = 0.0, False

    def time(self, owner: object, name: str) -> None:
        """Times owner.name from now on; what is called within another of them counts once."""
        call = getattr(owner, name)

        def timed(*arguments, **named):
            if self.inside:
                return call(*arguments, **named)
            self.inside, begin = True, time.perf_counter()
            try:
                return call(*arguments, **named)
            finally:
                self.seconds += time.perf_counter() - begin
                self.inside = False

        setattr(owner, name, timed)


def main(repeats: int = 5, update: bool = False) -> None:
    """Measures an explorer without a browser; writes benchmark_explorer.csv into runs/measured/results/.

    repeats: of each interaction, after one that loads and warms up
    update:  for maintainers: into data/results/
    """
    explorer = widgets.explore()
    session, networks = explorer.session, Networks()
    session.wait(600)
    networks.time(Inverter, "invert")
    networks.time(bootstrap, "bootstrap")
    networks.time(metrics, "identity")
    networks.time(Attributes, "forward")
    networks.time(edit, "quick")
    networks.time(edit, "full")
    explorer.invert.quality.value = "fast"
    seen = explorer.edit.stage

    def moved(step: int) -> None:
        explorer.session.step = step

    def smile(strength: float) -> None:
        explorer.edit.strengths["smile"].value = strength

    def seen_at_256(strength: float) -> None:
        before = seen.after
        smile(strength)
        while seen.after == before:
            time.sleep(0.001)

    at_once = {"move the slider to another step", "edit, seen at 256 px"}
    interactions: dict[str, Callable[[int], None]] = {
        "invert in five steps": lambda i: explorer.invert.button.click(),
        "move the slider to another step": lambda i: moved(1 + i % 4),
        "edit, seen at 256 px": lambda i: seen_at_256(1.0 + 0.5 * i),
        "edit, seen and measured at 1024 px": lambda i: smile(-1.0 - 0.5 * i),
        "bootstrap": lambda i: explorer.bootstrap.button.click(),
    }
    rows = []
    for name, interact in interactions.items():
        times = []
        for i in range(repeats + 1):
            networks.seconds, begin = 0.0, time.perf_counter()
            interact(i)
            if name not in at_once:
                session.wait(600)
            times.append((time.perf_counter() - begin, networks.seconds))
            session.wait(600)
        table = pd.DataFrame(times[1:], columns=["seconds", "of which networks"])
        table["rest"] = table["seconds"] - table["of which networks"]
        rows.append({"interaction": name} | table.median().to_dict())
    table = pd.DataFrame(rows).assign(machine=measure.machine(precision.best_device()), repeats=repeats)
    path = destination(RESULTS, update) / "benchmark_explorer.csv"
    print(f"the pause of {QUIET} s before a picture is drawn at 1024 px counts as rest")
    print(f"{save_table(table, path).to_string(index=False, float_format='{:.3f}'.format)}\nin {path}")


if __name__ == "__main__":
    tyro.cli(main)
