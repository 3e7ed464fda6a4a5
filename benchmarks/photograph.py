"""What inversion does with photographs of faces, as they are seen at 256 px, and what edits of the results do.

    python benchmarks/photograph.py FOLDER --n 24 --name london --source "whose photographs they are"

Prints a row for each encoder, for the search from where ReStyle-pSp ends, and for that with a tuned generator:
distances to the photographs and seconds for each; for some of them the change of an attribute by an edit of +2, in its
standard deviations in W, with the mean change of all others, and identity to the photograph. A tuned generator is asked
for edits of +2.2 too, since in it they change less. ID is by the network of the losses, JUDGE by one that nothing has
learned from. Means over photographs, with 95 % bootstrap intervals.
"""

import io
import time
from pathlib import Path

import pandas as pd
import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

import restyle_lib as rl
from restyle_lib import precision
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.evaluation import measure, methods, metrics, sets
from restyle_lib.evaluation.evaluate import mean_and_interval, save_rows, save_table
from restyle_lib.faces import judge
from restyle_lib.faces.attributes import NAMES, Attributes
from restyle_lib.generators.averaged import averaged
from restyle_lib.images import downsample
from restyle_lib.inversion import detail
from restyle_lib.inversion.edit import deviations, edit
from restyle_lib.inversion.optimize import hybrid
from restyle_lib.paths import RESULTS, destination
from restyle_lib.precision import best_device

RESTYLE, STEPS = "ReStyle-pSp", 5
EDITED = ("pSp", "e4e", f"ReStyle-e4e, step {STEPS}", f"{RESTYLE}, step {STEPS}")  # and what begins there
NAMED = ("smile", "age", "pose")
EDITS = {f"{name} +2": (name, 2.0) for name in NAMED}
STRONGER = {f"{name} +2.2": (name, 2.2) for name in NAMED}  # of tuned generators, which such edits change less
EFFECTS = ("wanted", "unwanted", "JUDGE")
SHOWN = ("L2", "ST-LPIPS", "ID", "JUDGE", "seconds")
JPEG = 50


def photograph(
    folder: tyro.conf.Positional[Path],
    n: int = 6,
    search: int = 40,
    tuning: int = 60,
    locality: float = 0.1,
    aligned: bool = False,
    out: Path | None = None,
    name: str = "",
    source: str = "",
    encoders: tuple[str, ...] = tuple(methods.ENCODERS),
    update: bool = False,
) -> None:
    """Inverts the first n photographs of a folder.

    search, tuning: steps of each, neither where search is 0
    locality: weight of the regularisation of `restyle_lib.inversion.tune`
    aligned: whether the photographs are FFHQ-aligned squares already; if they have less than 256 px, they are compared
             at their own resolution
    out: folder for a picture of each: photograph, inversion and edits, a line for each stage
    name: the tables go to runs/measured/results/benchmark_<name>.csv, benchmark_<name>_edits.csv and, of what tuning
          changes, benchmark_<name>_paired.csv; else they are not kept
    source: of the photographs, with their licence
    encoders: which of them; of a table that is there already, the rows of the others stay. Search and tuning go with
              ReStyle-pSp
    update: for maintainers: the rows go into the committed tables, in data/results/
    """
    x = _aligned(folder, n) if aligned else sets.of_folder(folder, DOMAINS["faces"], 512)[1][:n]
    inverters, attributes, rows = methods.load_encoders(labels=encoders), Attributes(), []
    restyle = inverters.pop(RESTYLE, None)
    for i, photo in enumerate(tqdm(x.split(1), desc="photographs", unit="photograph")):
        stages, seconds = [], []
        for label, inverter in inverters.items():
            start = time.perf_counter()
            found = inverter.invert(photo, STEPS)
            seconds.append(time.perf_counter() - start)
            stages.append((label if inverter.one_pass else f"{label}, step {STEPS}", inverter.G, found.latents[:, -1]))
        if restyle:
            start = time.perf_counter()
            result = restyle.invert(photo, STEPS)
            encoded = time.perf_counter() - start
            seconds += [encoded / STEPS, encoded]
            for t in (1, STEPS):
                stages.append((f"{RESTYLE}, step {t}", restyle.G, result.latents[:, t]))
        if restyle and search:
            code = hybrid(restyle, photo, result, search).latents[:, -1]
            seconds.append(time.perf_counter() - start)  # from the beginning
            tuned = rl.tune(restyle.G, code, photo, tuning, lambda_locality=locality)
            seconds.append(time.perf_counter() - start)
            stages += [(f"+ search, {search} steps", restyle.G, code), (f"+ tuning, {tuning} steps", tuned, code)]
        lines = []
        for (stage, G, w), s in zip(stages, seconds, strict=True):
            edits = EDITS if stage in EDITED or stage.startswith("+") else {}
            row, seen = _row(G, w, photo, attributes, edits | STRONGER if "tuning" in stage else edits)
            rows.append({"": stage, "seconds": s} | row)
            seen = seen[: len(EDITS) + 1]
            missing = len(EDITS) + 1 - len(seen)
            pictures = torch.cat([detail.fitted(photo, (512, 512)), *seen.split(1)], dim=3)
            lines.append(F.pad(pictures, (0, 512 * missing, 0, 0)))
        if out:
            out.mkdir(parents=True, exist_ok=True)
            rl.to_image(torch.cat(lines, dim=2)).save(out / f"{i}.png")
    rows = pd.DataFrame(rows)
    print(rows.groupby("", sort=False).mean().round(3).T.to_string())
    if name:
        origin = {
            "photographs": source,
            "n": len(x),
            "px": x.shape[-1],
            "JUDGE of strangers among them": strangers(detail.fitted(x, (256, 256))),
            f"their own JPEGs of quality {JPEG}": compressed(x),
        }
        device = best_device()
        origin |= {"computed in": precision.name(device), "machine": f"{measure.machine(device)}, batch 1"}
        inverted, edited = (table.assign(**origin) for table in tables(rows))
        folder = destination(RESULTS, update)
        save_rows(inverted, folder / f"benchmark_{name}.csv", ["method"])
        if len(edited):
            save_rows(edited, folder / f"benchmark_{name}_edits.csv", ["method", "edit"])
        if restyle and search:
            save_table(paired(rows).assign(**origin), folder / f"benchmark_{name}_paired.csv")


@torch.no_grad()
def strangers(x: Tensor) -> str:
    """JUDGE between photographs of different people: mean and standard deviation."""
    network = judge.shared(torch.device("cpu"))
    embedded = torch.cat([network(one) for one in x.split(1)])
    values = (embedded @ embedded.T)[*torch.triu_indices(len(x), len(x), 1)]
    return f"{values.mean().round(decimals=2) + 0.0:.2f} ± {values.std():.2f}"  # never -0.00


@torch.no_grad()
def compressed(x: Tensor) -> str:
    """L2 and JUDGE between photographs and their JPEGs: a small change, to compare those of inversion with.

    The fewer pixels a photograph has, the more the judge minds it.
    """
    again = []
    for photo in x.split(1):
        file = io.BytesIO()
        rl.to_image(photo).save(file, "JPEG", quality=JPEG)
        again.append(rl.to_tensor(Image.open(file).convert("RGB")))
    seen, target = (detail.fitted(images, (256, 256)) for images in (torch.cat(again), x))
    return f"L2 {metrics.l2(seen, target).mean():.4f}, JUDGE {metrics.judged(seen, target).mean():.2f}"


def tables(rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows of all photographs -> a table with a row for each stage, and one with a row for each edit of some stages."""
    stages = rows.groupby("", sort=False)
    photographs = [{"method": stage} | {name: interval(of[name]) for name in SHOWN} for stage, of in stages]
    edits = [
        {"method": stage, "edit": edited} | {effect: interval(of[f"{edited}: {effect}"]) for effect in EFFECTS}
        for name in NAMED
        for stage, of in stages
        for edited, (direction, _) in (EDITS | STRONGER).items()
        if direction == name and (wanted := f"{edited}: wanted") in rows and of[wanted].notna().all()
    ]
    return pd.DataFrame(photographs).rename(columns={"seconds": "s / image"}), pd.DataFrame(edits)


def paired(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of all photographs -> medians of search and tuning in each measure, and how they differ on a photograph.

    Edits of +2.2 after tuning are beside those of +2 before it.
    """
    search, tuning = (of.reset_index(drop=True) for stage, of in rows.groupby("", sort=False) if stage.startswith("+"))
    measures = {each: each.replace("+2.2", "+2") for each in rows if each != ""}
    return pd.DataFrame(
        {
            "measure": [after.replace("+2.2", "+2 before, +2.2 after") for after in measures],
            "search, median": [f"{search[before].median():.3f}" for before in measures.values()],
            "tuning, median": [f"{tuning[after].median():.3f}" for after in measures],
            "tuning - search": [interval(tuning[after] - search[before]) for after, before in measures.items()],
        }
    )


def interval(values: pd.Series) -> str:
    """Mean [low, high]."""
    mean, low, high = mean_and_interval(values)
    return f"{mean:.3f} [{low:.3f}, {high:.3f}]"


@torch.no_grad()
def _row(
    G, code: Tensor, photo: Tensor, attributes: Attributes, edits: dict[str, tuple[str, float]]
) -> tuple[dict[str, float], Tensor]:
    """Numbers of one photograph and of its edits, and what they are of at 512 px: inversion and edits."""
    codes = [code, *(edit(code, name, strength) for name, strength in edits.values())]
    large = torch.cat([averaged(G, w, 512).clamp(-1, 1) for w in codes])
    seen, target = downsample(large, 256), detail.fitted(photo, (256, 256))
    labels = attributes(seen) / deviations()
    seen = detail.at(seen, torch.full((len(seen),), photo.shape[-1]))  # as the photograph is, however small
    y = seen[:1]
    row = {
        "L2": metrics.l2(y, target).item(),
        "ST-LPIPS": metrics.st_lpips_distance(y, target).item(),
        "ID": metrics.identity(y, target).item(),
        "JUDGE": metrics.judged(y, target).item(),
    }
    for (title, (name, _)), edited, label in zip(edits.items(), seen[1:], labels[1:], strict=True):
        change, own = label - labels[0], NAMES.index(name)
        row[f"{title}: wanted"] = change[own].item()
        row[f"{title}: unwanted"] = change.abs().sum().sub(change[own].abs()).item() / (len(NAMES) - 1)
        row[f"{title}: JUDGE"] = metrics.judged(edited[None], target).item()
    return row, large


def _aligned(folder: Path, n: int) -> Tensor:
    files = sorted(path for path in folder.iterdir() if path.is_file())[:n]
    photos = [rl.open_photo(path) for path in files]
    side = min(512, *(photo.width for photo in photos))
    return torch.cat([rl.to_tensor(photo.resize((side, side), Image.Resampling.LANCZOS)) for photo in photos])


if __name__ == "__main__":
    tyro.cli(photograph)
