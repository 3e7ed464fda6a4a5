"""What inversion does with photographs of faces, as they are seen at 256 px, and what edits of the results do.

    python benchmarks/photograph.py FOLDER --n 24 --save "whose photographs they are"

Prints a row for each encoder, for the search from where ReStyle-pSp ends, and for that with a tuned generator:
distances to the photographs, seconds for each, and the change of an attribute by an edit of +2, in its standard
deviations in W, with the mean change of all others, and identity to the photograph. ID is by the network of the losses,
JUDGE by one that nothing has learned from. Means over photographs, with 95 % bootstrap intervals.
"""

import time
from pathlib import Path

import pandas as pd
import torch
import tyro
from torch import Tensor
from tqdm.auto import tqdm

import restyle_lib as rl
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.evaluation import measure, methods, metrics, sets
from restyle_lib.evaluation.evaluate import mean_and_interval, save_table
from restyle_lib.faces.attributes import NAMES, Attributes
from restyle_lib.images import downsample
from restyle_lib.inversion.edit import deviations, edit
from restyle_lib.inversion.optimize import hybrid
from restyle_lib.paths import RESULTS
from restyle_lib.precision import best_device

RESTYLE, COMPARED, STEPS = "ReStyle-pSp", ("pSp", "e4e", "ReStyle-e4e"), 5
EDITS = ("smile", "age", "pose")
EFFECTS = ("wanted", "unwanted", "JUDGE")
SHOWN = ("L2", "ST-LPIPS", "ID", "JUDGE", "seconds")
STRENGTH = 2.0


def photograph(
    folder: tyro.conf.Positional[Path],
    n: int = 6,
    search: int = 40,
    tuning: int = 60,
    locality: float = 0.1,
    aligned: bool = False,
    out: Path | None = None,
    save: str = "",
) -> None:
    """Inverts the first n photographs of a folder.

    search, tuning: steps of each; locality: weight of the regularisation of `restyle_lib.inversion.tune`
    aligned: whether the photographs are FFHQ-aligned squares already
    out: folder for a picture of each: photograph, inversion and edits, a line for each stage
    save: name of the photographs' source; the tables then go to data/results/benchmark_photographs.csv and
          benchmark_edits.csv
    """
    x = _aligned(folder, n) if aligned else sets.of_folder(folder, DOMAINS["faces"], 512)[1][:n]
    encoders, attributes, rows = methods.load_encoders(), Attributes(), []
    inverter = encoders.pop(RESTYLE)
    for i, photo in enumerate(tqdm(x.split(1), desc="photographs", unit="photograph")):
        stages, seconds = [], []
        for label in COMPARED:
            start = time.perf_counter()
            found = encoders[label].invert(photo, STEPS)
            seconds.append(time.perf_counter() - start)
            name = label if encoders[label].one_pass else f"{label}, step {STEPS}"
            stages.append((name, encoders[label].G, found.latents[:, -1]))
        start = time.perf_counter()
        result = inverter.invert(photo, STEPS)
        encoded = time.perf_counter()
        result = hybrid(inverter, photo, result, search)
        searched = time.perf_counter()
        code = result.latents[:, -1]
        tuned = rl.tune(inverter.G, code, photo, tuning, lambda_locality=locality)
        ends = (start + (encoded - start) / STEPS, encoded, searched, time.perf_counter())
        seconds += [end - start for end in ends]  # from the beginning
        stages += [
            (f"{RESTYLE}, step 1", inverter.G, result.latents[:, 1]),
            (f"{RESTYLE}, step {STEPS}", inverter.G, result.latents[:, -2]),
            (f"+ search, {search} steps", inverter.G, code),
            (f"+ tuning, {tuning} steps", tuned, code),
        ]
        lines = []
        for (stage, G, w), s in zip(stages, seconds, strict=True):
            row, seen = _row(G, w, photo, attributes)
            rows.append({"": stage, "seconds": s} | row)
            lines.append(torch.cat([photo, *seen.split(1)], dim=3))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            rl.to_image(torch.cat(lines, dim=2)).save(out / f"{i}.png")
    rows = pd.DataFrame(rows)
    print(rows.groupby("", sort=False).mean().round(3).T.to_string())
    if save:
        source = {"photographs": save, "n": len(x), "machine": f"{measure.machine(best_device())}, batch 1"}
        for name, table in tables(rows).items():
            save_table(table.assign(**source), RESULTS / f"benchmark_{name}.csv")


def tables(rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Rows of all photographs -> "photographs", a row for each stage, and "edits", one for each edit at each stage."""
    stages = rows.groupby("", sort=False)
    photographs = [{"method": stage} | {name: interval(of[name]) for name in SHOWN} for stage, of in stages]
    edits = [
        {"method": stage, "edit": (name := f"{edited} {STRENGTH:+g}")}
        | {effect: interval(of[f"{name}: {effect}"]) for effect in EFFECTS}
        for edited in EDITS
        for stage, of in stages
    ]
    photographs = pd.DataFrame(photographs).rename(columns={"seconds": "s / image"})
    return {"photographs": photographs, "edits": pd.DataFrame(edits)}


def interval(values: pd.Series) -> str:
    """Mean [low, high]."""
    mean, low, high = mean_and_interval(values)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


@torch.no_grad()
def _row(G, code: Tensor, photo: Tensor, attributes: Attributes) -> tuple[dict[str, float], Tensor]:
    """Numbers of one photograph, and what they are of at 512 px: inversion and edits."""
    edits = [code, *(edit(code, name, STRENGTH) for name in EDITS)]
    large = torch.cat([downsample(G.synthesize(w).clamp(-1, 1), 512) for w in edits])
    seen = downsample(large, 256)
    target = downsample(photo, 256)
    y, labels = seen[:1], attributes(seen) / deviations()
    row = {
        "L2": metrics.l2(y, target).item(),
        "ST-LPIPS": metrics.st_lpips_distance(y, target).item(),
        "ID": metrics.identity(y, target).item(),
        "JUDGE": metrics.judged(y, target).item(),
    }
    for name, edited, label in zip(EDITS, seen[1:], labels[1:], strict=True):
        change, own = label - labels[0], NAMES.index(name)
        row[f"{name} {STRENGTH:+g}: wanted"] = change[own].item()
        row[f"{name} {STRENGTH:+g}: unwanted"] = change.abs().sum().sub(change[own].abs()).item() / (len(NAMES) - 1)
        row[f"{name} {STRENGTH:+g}: JUDGE"] = metrics.judged(edited[None], target).item()
    return row, large


def _aligned(folder: Path, n: int) -> Tensor:
    files = sorted(path for path in folder.iterdir() if path.is_file())[:n]
    return torch.cat([downsample(rl.to_tensor(rl.open_photo(path)), 512) for path in files])


if __name__ == "__main__":
    tyro.cli(photograph)
