"""Measures inverters on images: one row per image, method and step, and their means with intervals."""

import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib.evaluation.cache import digest, remembered
from restyle_lib.evaluation.labels import HIGHER_IS_BETTER
from restyle_lib.evaluation.metrics import table_metrics
from restyle_lib.inversion.inverter import Inverter
from restyle_lib.inversion.result import Inversion


@torch.no_grad()
def evaluate(
    inverters: dict[str, Inverter],
    images: Tensor | Iterable[Tensor],
    steps: int = 10,
    batch: int = 20,
    lpips: Path | None = None,
) -> pd.DataFrame:
    """Inverts images [n, 3, h, w] in [-1, 1] with each method: a row for each (method, image, step 0..steps).

    images: all of them, or batch after batch of a set that memory does not hold (`sets.batches`)
    lpips:  AlexNet's weights, for a metric more, see `metrics.lpips_alex`
    Metrics compare y_t, clamped, with the input, both at the size of the encoder's input; "moved" is the rms change of
    the code in step t. What was measured before, of the same images with the same weights and code, comes from the
    cache, so an interrupted evaluation goes on.
    """
    rows = {method: _measuring(inverter, steps, lpips) for method, inverter in inverters.items()}
    tables = {method: [] for method in inverters}
    start = 0
    if isinstance(images, Tensor):
        images = tqdm(images.split(batch), desc=f"evaluating {', '.join(inverters)}"[:60], unit="batch")
    for part in images:
        for method, measured in rows.items():
            found = measured(part)
            tables[method].append(found.assign(method=method, image=found.image + start))
        start += len(part)
    return pd.concat([table for each in tables.values() for table in each], ignore_index=True)


def _measuring(inverter: Inverter, steps: int, lpips: Path | None) -> Callable[[Tensor], pd.DataFrame]:
    """What gives the rows of a batch, from the cache where it knows them."""
    metrics, weights = table_metrics(inverter.domain.faces, lpips), digest(inverter)
    last = inverter.steps_taken(steps)

    def measure(x: Tensor) -> pd.DataFrame:
        result = inverter.invert(x, last)
        trail = result.images.clamp(-1, 1)
        moved = F.pad(result.latents.diff(dim=1).square().mean((2, 3)).sqrt(), (1, 0))  # [n, last + 1]
        compared = [
            {name: metric(trail[:, t], x).tolist() for name, metric in metrics.items()} for t in range(last + 1)
        ]
        each = [
            pd.DataFrame({"image": range(len(x)), "step": t, "moved": moved[:, t].tolist()} | values)
            for t, values in enumerate(compared)
        ]
        return pd.concat(each)

    def rows(images: Tensor) -> pd.DataFrame:
        x = inverter.prepare(images).cpu()
        begins = [] if inverter.from_mean else ["whole codes"]
        key = digest(weights, inverter.decay, x, last, list(metrics), *begins)
        return remembered(key, partial(measure, x)).assign(size=x.shape[2])

    return rows


@torch.no_grad()
def of_searches(found: dict[tuple[str, int], Inversion], images: Tensor) -> pd.DataFrame:
    """Rows as `evaluate` has them, of `methods.inverted` by (method, steps) on images [n, 3, s, s] of the loop's size.

    Step 0 is where a method began.
    """
    tables = []
    for (method, steps), inversion in found.items():
        for t, step in enumerate((0, steps)):
            y = inversion.images[:, t].clamp(-1, 1)
            values = {name: metric(y, images).tolist() for name, metric in table_metrics().items()}
            tables.append(pd.DataFrame({"image": range(len(y)), "step": step, "method": method} | values))
    return pd.concat(tables, ignore_index=True).drop_duplicates(["method", "image", "step"], ignore_index=True)


def now(device: torch.device) -> float:
    """Seconds of the clock once `device` has done all that it was given: a GPU works on while Python goes ahead."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def seconds_per_image(inverter: Inverter, image: Tensor, steps: int, repeats: int = 5) -> list[float]:
    """Median seconds from the start to the end of each step 1..steps at batch 1, of an image [1, 3, h, w]."""
    x = inverter.prepare(image)
    runs = []

    for _ in range(repeats + 1):
        marks = [now(x.device)]
        inverter.invert(x, steps, lambda t, w, y, marks=marks: marks.append(now(y.device)))
        runs.append(np.array(marks[1:]) - marks[0])
    return np.median(runs[1:], axis=0).tolist()  # the first run warms up


def mean_and_interval(values, seed: int = 0) -> tuple[float, float, float]:
    """Mean and its 95 % percentile bootstrap interval over images (2000 resamples); of one image there is none: NaN."""
    values = np.asarray(values, dtype=float)
    if len(values) < 2:
        return values.mean(), np.nan, np.nan
    if np.ptp(values) == 0:
        return values.mean(), values.mean(), values.mean()
    from scipy.stats import bootstrap  # a second, for every command that measures nothing too

    interval = bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return values.mean(), interval.low, interval.high


def summarise(rows: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Means with 95 % intervals, one row for each (group, metric): columns mean, low, high, n."""
    metrics = [name for name in rows if name not in {"method", "image", "step", "size", "moved", *by}]
    records = []
    for keys, group in rows.groupby(by, sort=False):
        for metric in metrics:
            mean, low, high = mean_and_interval(group[metric])
            records.append(
                dict(zip(by, keys, strict=True))
                | {"metric": metric, "mean": mean, "low": low, "high": high, "n": len(group)}
            )
    return pd.DataFrame(records)


def at(rows: pd.DataFrame, method: str, step: int) -> pd.DataFrame:
    """The rows of one method after one step."""
    return rows[(rows.method == method) & (rows.step == step)]


def named(rows: pd.DataFrame, names: list[str], steps: dict[str, list[int]] | None = None) -> pd.DataFrame:
    """Rows with the images' names, image first, then method. steps: of each method those that are kept; None: all."""
    if steps is not None:
        rows = rows[[step in steps[method] for method, step in zip(rows.method, rows.step, strict=True)]]
    rows = rows.assign(image=[names[i] for i in rows.image])
    return rows[["image", "method", *(name for name in rows if name not in ("image", "method"))]]


def paired_difference(a: pd.DataFrame, b: pd.DataFrame, names: tuple[str, str]) -> pd.DataFrame:
    """b minus a image by image, for each metric: mean, 95 % interval, and the name of the side that is better.

    "neither" where the interval holds zero.
    """
    a, b = a.set_index("image").sort_index(), b.set_index("image").sort_index()
    records = []
    for metric in [name for name in table_metrics() if name in a]:
        mean, low, high = mean_and_interval((b[metric] - a[metric]).to_numpy())
        gain = mean if metric in HIGHER_IS_BETTER else -mean
        better = names[int(gain > 0)] if low > 0 or high < 0 else "neither"
        record = {"comparison": f"{names[1]} minus {names[0]}", "metric": metric, "difference": mean}
        records.append(record | {"low": low, "high": high, "n": len(a), "better": better})
    return pd.DataFrame(records)


def with_intervals(summary: pd.DataFrame, index: str | list[str]) -> pd.DataFrame:
    """A summary as a table to read: a row per `index`, a column per metric, cells "mean [low, high]" or "mean"."""
    columns = zip(summary["mean"], summary.low, summary.high, strict=True)
    cells = [f"{mean:.4f}" + (f" [{low:.4f}, {high:.4f}]" if low == low else "") for mean, low, high in columns]
    table = summary.assign(cell=cells).pivot(index=index, columns="metric", values="cell")
    return table[list(dict.fromkeys(summary.metric))]


def save_table(table: pd.DataFrame, path: Path) -> pd.DataFrame:
    """Writes a table as CSV with five digits, and returns it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False, float_format="%.5g")
    return table


def save_rows(table: pd.DataFrame, path: Path, keys: list[str]) -> pd.DataFrame:
    """Writes rows into the table that is there, in place of those with the same keys; the other rows stay.

    Returns the whole table. Rows that are new come first; those that were there keep their places.
    """
    table = table.set_index(keys)
    if path.exists():
        before = pd.read_csv(path).set_index(keys)
        order = [*table.index.difference(before.index, sort=False), *before.index]
        table = pd.concat([table, before[~before.index.isin(table.index)]]).loc[order]
    return save_table(table.reset_index(), path)
