"""`restyle eval`: the numbers of 03_eval for any inverters and images, without a notebook."""

from pathlib import Path

import tyro

from restyle_lib.checkpoints.domains import size_of
from restyle_lib.evaluation import evaluate, sets
from restyle_lib.images import to_float
from restyle_lib.inversion.inverter import load_inverter
from restyle_lib.precision import device_named


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
) -> int:
    """Measures inverters on the same images: mean and 95 % bootstrap interval of every metric, after each step.

    models: shipped inverters such as faces/psp faces/restyle-psp, official checkpoints, or .safetensors files
    images: a folder of photographs; without it, n held-out renders of the embedded faces
    steps:  refinement steps N; a one-pass encoder takes one
    out:    a CSV file for the table
    aligned: the photographs are cropped already, as those of FFHQ and CelebA-HQ are
    domain, input_size, device: as for `restyle invert`
    A photograph that cannot be used is reported in one line and left out; the exit code is then 1.
    Raises ValueError where models are of different domains, or where not faces and there is no folder.
    """
    where, size = device_named(device), size_of(input_size) if input_size else None
    inverters = {model: load_inverter(model, domain, size).to(where) for model in dict.fromkeys(models)}
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
    rows = evaluate.evaluate(inverters, x, steps)
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")
    summary = evaluate.summarise(rows, ["method", "step"])
    table = evaluate.with_intervals(summary, ["method", "step"]).loc[list(inverters)]
    print(f"{rows.image.nunique()} images, mean [95 % bootstrap interval]\n{table.to_string()}")
    if out:
        evaluate.save_table(summary, out)
    return 1 if skipped else 0
