"""Times what a user of the explorer waits for: each interaction, and how much of it the networks take.

    python benchmarks/explorer.py

The rest (pictures, PNG, numbers, messages to the browser) should stay below 0.3 s. Prints the median of a few repeats.
"""

import time
from collections.abc import Callable

import pandas as pd
import tyro

from restyle_lib import precision, widgets
from restyle_lib.evaluation import measure, metrics
from restyle_lib.faces.attributes import Attributes
from restyle_lib.inversion.inverter import Inverter
from restyle_lib.widgets import bootstrap, edit


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


def main(repeats: int = 5) -> None:
    """Measures an explorer without a browser. repeats: of each interaction, after one that loads and warms up"""
    explorer = widgets.explore()
    session, networks = explorer.session, Networks()
    session.wait(600)
    networks.time(Inverter, "invert")
    networks.time(bootstrap, "bootstrap")
    networks.time(metrics, "identity")
    networks.time(Attributes, "forward")
    networks.time(edit, "render")

    def moved(step: int) -> None:
        explorer.steps.slider.value = step

    def smile(strength: float) -> None:
        explorer.edit.strengths["smile"].value = strength

    interactions: dict[str, Callable[[int], None]] = {
        "invert in five steps": lambda i: explorer.invert.button.click(),
        "move the slider to another step": lambda i: moved(1 + i % 4),
        "edit": lambda i: smile(1.0 + 0.5 * i),
        "bootstrap": lambda i: explorer.bootstrap.button.click(),
    }
    rows = []
    for name, interact in interactions.items():
        times = []
        for i in range(repeats + 1):
            networks.seconds, begin = 0.0, time.perf_counter()
            interact(i)
            session.wait(600)
            times.append((time.perf_counter() - begin, networks.seconds))
        table = pd.DataFrame(times[1:], columns=["seconds", "of which networks"])
        table["rest"] = table["seconds"] - table["of which networks"]
        rows.append({"interaction": name} | table.median().to_dict())
    print(f"on {measure.machine(precision.best_device())}")
    print(pd.DataFrame(rows).to_string(index=False, float_format="{:.3f}".format))


if __name__ == "__main__":
    tyro.cli(main)
