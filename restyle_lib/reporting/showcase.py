"""The picture that README begins with: four photographs inverted, edited and drawn, with the seconds that it took.

python -m restyle_lib.reporting.showcase   # three minutes on two cores
"""

import pandas as pd
import torch
import tyro
from torch import Tensor
from tqdm.auto import tqdm

import restyle_lib as rl
from restyle_lib.evaluation import measure, metrics, sets
from restyle_lib.evaluation.evaluate import now, save_table
from restyle_lib.faces.attributes import NAMES, Attributes
from restyle_lib.images import downsample
from restyle_lib.inversion.inverter import FOR_PHOTOGRAPHS, Inverter, load_inverter
from restyle_lib.inversion.optimize import hybrid
from restyle_lib.inversion.quality import QUALITY, TUNED_SIZE
from restyle_lib.paths import FIGURES, RESULTS, destination
from restyle_lib.precision import best_device
from restyle_lib.reporting import figures

STEPS = 5
EDIT = 2.0  # standard deviations


def main(update: bool = False) -> None:
    """Writes photographs.jpg, two lines for each photograph, and benchmark_showcase.csv, into runs/measured/.

    update: for maintainers: they become the committed ones, in figures/ and data/results/
    """
    figures.use_style()
    device = best_device()
    inverter, toons = load_inverter(FOR_PHOTOGRAPHS).to(device), rl.load_generator("toon-1024").to(device)
    names, photos = sets.aligned_photographs(TUNED_SIZE)
    hybrid(inverter, photos[:1], inverter.invert(photos[:1], 1), 1)  # the first call loads what the others find loaded
    rows, captions, records = [], [], []
    for name, photo in zip(names, tqdm(photos.split(1), desc="photographs", unit="photograph"), strict=True):
        cells, numbers = shown(inverter, toons, photo)
        records += [{"photograph": name, "stage": stage} | values for stage, values in numbers.items()]
        for part in (list(cells)[:6], list(cells)[6:]):
            rows.append(torch.cat([cells[label] for label in part]))
            captions.append(part)
    picture = destination(FIGURES, update) / "photographs.jpg"
    figures.save(figures.image_grid(rows, [""] * 6, cell=1.8, captions=captions), picture)
    machine = measure.one_by_one(device)
    table = pd.DataFrame(records).groupby("stage", sort=False).mean(numeric_only=True).reset_index()
    path = destination(RESULTS, update) / "benchmark_showcase.csv"
    print(f"{save_table(table.assign(n=len(names), machine=machine), path).to_string()}\nin {picture} and {path}")


def shown(inverter: Inverter, toons, photo: Tensor) -> tuple[dict[str, Tensor], dict[str, dict[str, float]]]:
    """Twelve pictures [1, 3, 512, 512] of a photograph by caption, and numbers by stage; seconds from the start."""
    effort, G, device = QUALITY["best"], inverter.G, photo.device
    marks = [now(device)]
    result = inverter.invert(photo, STEPS, lambda t, w, y: marks.append(now(device)))
    found = hybrid(inverter, photo, result, effort.search)
    code = found.latents[:, -1]
    marks.append(now(device))
    tuned = rl.tune(G, code, photo, effort.tuning)
    marks.append(now(device))
    first, last, searched, ended = (mark - marks[0] for mark in (marks[1], marks[STEPS], *marks[-2:]))

    stages = {
        "encoder, step 1": (G, result.latents[:, 1], first),
        f"encoder, step {STEPS}": (G, result.latents[:, STEPS], last),
        f"search, {effort.search} steps": (G, code, searched),
        f"tuning, {effort.tuning} steps": (tuned, code, ended),
    }
    images = {stage: picture(generator, w) for stage, (generator, w, _) in stages.items()}
    one, five, search, tuning = images.values()
    smiling = Attributes()(downsample(tuning, 256))[0, NAMES.index("smile")] > 0  # log-odds
    edits = {
        "smile −2" if smiling else "smile +2": ("smile", -EDIT if smiling else EDIT),
        "age +2": ("age", EDIT),
        "age −2": ("age", -EDIT),
        "pose −2": ("pose", -EDIT),
        "pose +2": ("pose", EDIT),
    }
    cells = {
        "photograph": photo,
        "ŷ₀, the mean face": picture(G, result.latents[:, 0]),
        f"ŷ₁ · {first:.1f} s": one,
        f"ŷ₅ · {last:.1f} s": five,
        f"search · {searched:.0f} s": search,
        f"tuning · {ended:.0f} s": tuning,
    }
    cells |= {label: picture(tuned, rl.edit(code, *change)) for label, change in edits.items()}
    cells["as a cartoon"] = picture(toons, code)
    target = downsample(photo, 256)
    numbers = {}
    for (stage, (_, _, seconds)), image in zip(stages.items(), images.values(), strict=True):
        y = downsample(image, 256)
        compared = {"L2": metrics.l2, "ST-LPIPS": metrics.st_lpips_distance, "JUDGE": metrics.judged}
        numbers[stage] = {label: metric(y, target).item() for label, metric in compared.items()} | {"seconds": seconds}
    return cells, numbers


@torch.no_grad()
def picture(G, code: Tensor) -> Tensor:
    """A code's image at 512 px, [1, 3, 512, 512]."""
    return downsample(G.synthesize(code.to(G.w_avg.device)).clamp(-1, 1), TUNED_SIZE).cpu()


if __name__ == "__main__":
    tyro.cli(main)
