"""What several trainings with different seeds say together."""

from collections.abc import Sequence

import pandas as pd

from restyle_lib.evaluation.evaluate import evaluate
from restyle_lib.inversion.inverter import Inverter


def over_seeds(variants: dict[str, Sequence[Inverter]], images, steps: int) -> pd.DataFrame:
    """Variants, each trained with several seeds, as `evaluate.summarise` has methods: method, step, metric, mean, …

    Means are over images [n, 3, h, w] and seeds; low and high are the means of the lowest and the highest seed, since
    it is another training, not another image, that would give another verdict. n is the number of seeds.
    """
    tables = []
    for variant, inverters in variants.items():
        for seed, inverter in enumerate(inverters):
            rows = evaluate({variant: inverter}, images, steps).drop(columns=["image", "size", "moved"])
            tables.append(rows.groupby(["method", "step"], sort=False).mean().reset_index().assign(seed=seed))
    means = pd.concat(tables).melt(["method", "step", "seed"], var_name="metric")
    of = means.groupby(["method", "step", "metric"], sort=False).value
    return of.agg(mean="mean", low="min", high="max", n="size").reset_index()
