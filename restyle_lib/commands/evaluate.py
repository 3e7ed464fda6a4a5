"""`restyle eval`: the numbers of 03_eval for any inverters and images, without a notebook."""

from pathlib import Path

import tyro

from restyle_lib.evaluation import evaluate, sets
from restyle_lib.images import to_float
from restyle_lib.inversion.inverter import load_inverter
from restyle_lib.precision import best_device


def run(
    models: tyro.conf.Positional[list[str]],
    images: Path | None = None,
    steps: int = 5,
    n: int = 200,
    out: Path | None = None,
) -> int:
    """Measures inverters on the same images: mean and 95 % bootstrap interval of every metric, after each step.

    models: shipped inverters such as faces/psp faces/restyle-psp, official checkpoints, or .safetensors files
    images: a folder of photographs; without it, n held-out renders of the embedded faces
    steps:  refinement steps N; a one-pass encoder takes one
    out:    a CSV file for the table
    A photograph that cannot be used is reported in one line and left out; the exit code is then 1.
    Raises ValueError where models are of different domains, or where not faces and there is no folder.
    """
    inverters = {model: load_inverter(model).to(best_device()) for model in dict.fromkeys(models)}
    domains = {inverter.domain.name: inverter.domain for inverter in inverters.values()}
    if len(domains) != 1:
        raise ValueError(f"one domain at a time, not {' and '.join(domains) or 'no model at all'}")
    (domain,) = domains.values()
    if not (images or domain.faces):
        raise ValueError(f"there are no renders of {domain.name}: name a folder of photographs with --images")
    skipped = {}
    if images:
        _, x, skipped = sets.of_folder(images, domain)
    else:
        x = to_float(sets.heldout(n).images)
    for name, why in skipped.items():
        print(f"skipped {name}: {why}")
    summary = evaluate.summarise(evaluate.evaluate(inverters, x, steps), ["method", "step"])
    table = evaluate.with_intervals(summary, ["method", "step"]).loc[list(inverters)]
    print(f"{len(x)} images, mean [95 % bootstrap interval]\n{table.to_string()}")
    if out:
        evaluate.save_table(summary, out)
    return 1 if skipped else 0
