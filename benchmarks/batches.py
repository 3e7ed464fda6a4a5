"""Whether several photographs in one batch are inverted sooner than one after the other, on this machine.

    python benchmarks/batches.py

Both are timed in turn, so that other load hits both: seconds a photograph for five steps of the default encoder at
256 px, and how many times as fast a batch is.
"""

import time

import pandas as pd
import torch
import tyro

from restyle_lib import precision
from restyle_lib.evaluation import measure, sets
from restyle_lib.evaluation.evaluate import save_table
from restyle_lib.images import to_float
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS, load_inverter
from restyle_lib.paths import RESULTS, destination

STEPS = 5


def batches(sizes: tuple[int, ...] = (2, 4, 8), repeats: int = 5, update: bool = False) -> None:
    """Writes benchmark_batches.csv into runs/measured/results/.

    sizes:   images in a batch
    repeats: of each, of which the median counts
    update:  for maintainers: into data/results/
    """
    device = precision.best_device()
    inverter = load_inverter(FOR_PHOTOGRAPHS).to(device)
    images = to_float(sets.heldout(max(sizes)).images)

    def seconds(batch: int, n: int) -> float:
        """Of each of the first n images, in batches."""
        begin = time.perf_counter()
        for x in images[:n].split(batch):
            inverter.invert(x, STEPS)  # its result is on the CPU, so it has waited for a GPU
        return (time.perf_counter() - begin) / n

    seconds(max(sizes), max(sizes))
    rows = []
    for size in sizes:
        pairs = torch.tensor([(seconds(1, size), seconds(size, size)) for _ in range(repeats)])
        alone, together = pairs.median(0).values.tolist()
        ratio = (pairs[:, 0] / pairs[:, 1]).median().item()
        rows.append(
            {"batch": f"{size} images", "one by one, s": alone, "in a batch, s": together, "times as fast": ratio}
        )
    table = pd.DataFrame(rows).assign(steps=STEPS, machine=measure.machine(device), repeats=repeats)
    path = destination(RESULTS, update) / "benchmark_batches.csv"
    print(f"{save_table(table, path).to_string(index=False)}\nin {path}")


if __name__ == "__main__":
    tyro.cli(batches)
