"""Trains one recipe per domain for a few batches at its true geometry, with random weights and images.

    python benchmarks/every_domain.py

It shows that faces, cars, churches, horses, wild animals, cartoons and a domain of one's own train with nothing but
options of `restyle train`: each ends in a file that inverts an image. What the networks learn means nothing.
"""

import json
import tempfile
import time
from pathlib import Path

import pandas as pd
import torch
import tyro

import restyle_lib as rl
from restyle_lib import precision, train
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.commands import dry_run
from restyle_lib.evaluation import measure
from restyle_lib.evaluation.evaluate import save_rows
from restyle_lib.features.torchvision_compat import make_torchvision_importable
from restyle_lib.paths import RESULTS, destination
from restyle_lib.training import full_scale
from restyle_lib.training.full_scale import Files


def random_moco(path: Path) -> Path:
    """A file like moco_v2_800ep_pretrain.pth.tar with random weights."""
    make_torchvision_importable()
    from torchvision.models import resnet50

    state = {f"module.encoder_q.{name}": x for name, x in resnet50(weights=None, num_classes=128).state_dict().items()}
    torch.save({"state_dict": state}, path)
    return path


def check(domain: str, method: str, batches: int, steps: int, width: float, folder: Path) -> dict:
    """Trains `domain` in `folder`, inverts an image with the result, and returns a row of the table.

    width: of the generator's channels, 2 as published
    """
    kind = full_scale.domain_named(domain)
    files = dry_run.with_stand_ins(Files(), kind, folder, width)
    moco = random_moco(folder / "moco.pth.tar") if kind.lambda_moco else None
    override = {"batch": 1, "steps": steps, "loop_passes": steps * batches, "validation": 1, "checkpointing": 1}
    device = precision.best_device()
    measure.forget_peak_memory(device)
    begin = time.perf_counter()
    given = {"generator": files.generator, "images": files.images, "moco": moco}
    weights = train.run(method, folder, override=override, domain=domain, **given)
    minutes = (time.perf_counter() - begin) / 60
    log = [json.loads(line) for line in (weights.parent / "log.jsonl").read_text().splitlines()]
    inverter = rl.load_inverter(weights)
    result = inverter.invert(torch.zeros(1, 3, *kind.input_size), steps=1)
    return {
        "domain": domain,
        "generator": "{} x {}".format(*inverter.G.resolution),
        "encoder": "{} x {}".format(*inverter.input_size),
        "batches": next(record["iteration"] for record in reversed(log)),
        "steps": steps,
        "loss, last step": next(x for record in reversed(log) if (x := record.get(f"total_{steps}"))),
        "inverted": bool(result.latents.isfinite().all()),
        "minutes": minutes,
        "peak memory GiB": measure.peak_memory(device),
    }


def main(
    domains: tuple[str, ...] = (*DOMAINS, "own"),
    method: str = "restyle-psp",
    batches: int = 20,
    steps: int = 5,
    width: float = 2,
    update: bool = False,
) -> None:
    """Trains every domain with batches of one image.

    steps: of refinement, the paper's 5; 1 for a one-pass method, or to save most of the time
    width: of the generator's channels, 2 as published
    update: for maintainers: rows go, after every domain, into the committed table, data/results/benchmark_domains.csv,
            else into that in runs/measured/results/. Rows of other domains stay in it
    """
    out = destination(RESULTS, update) / "benchmark_domains.csv"
    for domain in domains:
        with tempfile.TemporaryDirectory() as folder:
            row = check(domain, method, batches, steps, width, Path(folder))
        table = pd.DataFrame([row]).assign(machine=measure.machine(precision.best_device()))
        print(table.to_string(index=False, float_format="{:.3g}".format), flush=True)
        save_rows(table, out, ["domain"])


if __name__ == "__main__":
    tyro.cli(main)
