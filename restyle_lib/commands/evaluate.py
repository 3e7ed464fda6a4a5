"""`restyle eval` and `restyle compare`: the numbers of 03_eval for any inverters and images, without a notebook."""

from pathlib import Path

import pandas as pd
import tyro
from PIL import Image
from tqdm import tqdm

from restyle_lib.commands import common
from restyle_lib.evaluation import evaluate, sets
from restyle_lib.evaluation.metrics import lpips_alex, table_metrics
from restyle_lib.images import PhotoError, is_called_photo, open_photo, to_float, to_tensor


def run(
    models: tyro.conf.Positional[list[str]],
    images: Path | None = None,
    steps: int = 5,
    n: int = 200,
    out: Path | None = None,
    aligned: bool = False,
    domain: str | None = None,
    input_size: str | None = None,
    device: str | None = None,
    lpips: Path | None = None,
) -> int:
    """Measures inverters on the same images: mean and 95 % bootstrap interval of every metric, after each step.

    models: shipped inverters such as faces/psp faces/restyle-psp, official checkpoints, or .safetensors files
    images: a folder of photographs; without it, n held-out renders of the embedded faces
    steps:  refinement steps N; a one-pass encoder takes one
    out:    a CSV file for the table
    aligned: the photographs are cropped already, as those of FFHQ and CelebA-HQ are
    domain, input_size, device: as for `restyle invert`
    lpips:  torchvision's alexnet-owt-7be5be79.pth, for the column LPIPS (AlexNet)
    A photograph that cannot be used is reported in one line and left out; the exit code is then 1.
    Raises ValueError where models are of different domains, where not faces and there is no folder, and for other
    weights of AlexNet.
    """
    if lpips:
        lpips_alex(lpips)  # what is wrong with it is said before anything takes time
    if aligned and not images:
        raise ValueError("--aligned is of photographs: name their folder with --images")
    inverters = {model: common.opened(model, domain, input_size, device) for model in dict.fromkeys(models)}
    domains = {inverter.domain.name: inverter.domain for inverter in inverters.values()}
    if len(domains) != 1:
        raise ValueError(f"one domain at a time, not {' and '.join(domains) or 'no model at all'}")
    (kind,) = domains.values()
    if not (images or kind.faces):
        raise ValueError(f"there are no renders of {kind.name}: name a folder of photographs with --images")
    skipped: dict[str, str] = {}
    if images and not images.is_dir():
        raise ValueError(f"{images}: no such folder")
    x = sets.batches(images, kind, skipped, aligned=aligned) if images else to_float(sets.heldout(n).images)
    rows = evaluate.evaluate(inverters, x, steps, lpips=lpips)
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")
    summary = evaluate.summarise(rows, ["method", "step"])
    table = evaluate.with_intervals(summary, ["method", "step"]).loc[list(inverters)]
    print(f"{rows.image.nunique()} images, mean [95 % bootstrap interval]\n{table.to_string()}")
    if out:
        evaluate.save_table(summary, out)
    return 1 if skipped else 0


def compare(
    first: tyro.conf.Positional[Path],
    second: tyro.conf.Positional[Path],
    size: int = 256,
    faces: bool = True,
    out: Path | None = None,
    lpips: Path | None = None,
) -> int:
    """Measures how near the images of one folder are to those of the same names in another: mean and 95 % interval.

    first:  a folder of images, such as inversions by any program
    second: a folder of what they should be; the endings of names may differ
    size:   px that both are measured at, square
    faces:  measure identity too, of images that are aligned as FFHQ is
    out:    a CSV file for the values of every pair
    lpips:  as for `restyle eval`
    An image without a partner, or that cannot be used, is reported in one line; the exit code is then 1.
    Raises ValueError where there is no pair at all.
    """
    for folder in (first, second):
        if not folder.is_dir():
            raise ValueError(f"{folder}: no such folder")
    a, b = (
        {path.stem: path for path in sorted(folder.iterdir()) if is_called_photo(path)} for folder in (first, second)
    )
    problems = dict.fromkeys(sorted(set(a) ^ set(b)), "only in one of the folders")
    metrics, records = table_metrics(faces, lpips), []
    for name in tqdm(sorted(set(a) & set(b)), unit="image"):
        try:
            x, y = (to_tensor(_square(open_photo(path), size)) for path in (a[name], b[name]))
        except PhotoError as error:
            problems[name] = str(error)
        else:
            records.append({"name": name} | {label: metric(x, y).item() for label, metric in metrics.items()})
    for name, why in problems.items():
        print(f"skipped {name}: {why}")
    if not records:
        raise ValueError(f"{first} and {second} have no two images of one name that can be used")
    rows = pd.DataFrame(records)
    table = evaluate.summarise(rows.drop(columns="name").assign(folder=first.name), ["folder"])
    print(f"{len(rows)} pairs, mean [95 % bootstrap interval]\n{evaluate.with_intervals(table, 'folder').to_string()}")
    if out:
        evaluate.save_table(rows, out)
    return 1 if problems else 0


def _square(image: Image.Image, size: int) -> Image.Image:
    """An image at the size that it is measured at. Raises PhotoError for one that is far from square."""
    if abs(image.width / image.height - 1) > 0.02:
        raise PhotoError(f"{image.width} x {image.height}, not square")
    return image.resize((size, size), Image.Resampling.BICUBIC)
