"""Times training: FFHQ at 1024 px with the paper's encoder, and the embedded faces, beside the plain formulation.

    python benchmarks/train.py

The plain formulation is how such training is usually written: a convolution kernel for every image, fp32, the target's
features computed anew at each step, and a generator whose weights receive gradients that nobody reads. Both train the
same encoder with the same losses and optimizer, each in a process of its own, so that peak memory is its own. Random
weights and images stand in for FFHQ's; speed does not depend on their values. Prints a table and writes
runs/measured/results/benchmark_train.csv. The same command measures a GPU.
"""

import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import per_sample
import torch
import tyro
from tqdm import tqdm

from restyle_lib import encoders, losses, precision, train
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.commands import dry_run
from restyle_lib.evaluation import measure
from restyle_lib.evaluation.evaluate import save_rows
from restyle_lib.inversion.inverter import Viewed
from restyle_lib.inversion.refine import refine
from restyle_lib.paths import RESULTS, destination
from restyle_lib.training import optimizers
from restyle_lib.training.full_scale import Files
from restyle_lib.training.objective import critics_of
from restyle_lib.training.sources import generator_for

GEOMETRIES = {"FFHQ 1024": (4,), "embedded, 64": (8, 16)}  # with batch sizes
BATCHES = {"FFHQ 1024": 2, "embedded, 64": 6}  # of 5 refinement steps, of which the first only warms up
PIECES = {"ours, half a batch at a time": 2, "ours, a quarter at a time": 4}  # and how many make a batch
FORMULATIONS = ("plain", "ours", *PIECES, "ours, checkpointing")


def choices(formulation: str, batch: int) -> dict[str, float]:
    """The settings of a formulation."""
    at_a_time = batch // PIECES[formulation] if formulation in PIECES else 0
    return {"checkpointing": formulation.endswith("checkpointing"), "at_a_time": at_a_time}


class PerSample:
    """A generator whose images are made with a kernel for each of them."""

    def __init__(self, G):
        self.G, self.n_styles, self.slots_read = G, G.n_styles, G.slots_read
        self.w_avg, self.map = G.w_avg, G.map

    def synthesize(self, codes):
        return per_sample.synthesize(self.G, codes)


def plain(job: train.Job, batches: int) -> dry_run.Probe:
    """The plain formulation on the batches of a job; see `dry_run.probe` for what it measures."""
    settings, source = job.settings, job.source
    shape = (settings.in_channels, source.G.n_styles)
    encoder = encoders.build(*shape, settings.design, settings.progressive).to(source.device)
    critics = critics_of(settings, source.device)
    optimizer = optimizers.build(settings, list(encoder.parameters()))
    G = getattr(source.G, "G", source.G).requires_grad_(True).to(memory_format=torch.contiguous_format)
    view = Viewed(PerSample(G), tuple(source.average_image.shape[1:]))
    measure.forget_peak_memory(source.device)
    for i in range(batches):
        if i == 1:  # the first warms up
            begin = time.perf_counter()
        x = source.batch(generator_for(settings.seed, i), settings.batch).x

        def learn(t: int, w: torch.Tensor, y: torch.Tensor, x: torch.Tensor = x) -> None:
            with torch.no_grad():
                features, embedding = critics.distance.features(x), critics.embed(x)
            loss = settings.lambda_l2 * losses.l2(y, x) + settings.lambda_id * losses.identity(
                critics.embed, y, embedding
            )
            (loss + settings.lambda_lpips * losses.perceptual(critics.distance, y, features)).backward()

        w_avg = source.G.w_avg.detach().expand(len(x), source.G.n_styles, -1)
        refine(encoder, view, x, w_avg, source.average_image.expand_as(x), settings.steps, learn)
        optimizer.step()
        optimizer.zero_grad()
        if source.device.type == "cuda":
            torch.cuda.synchronize()
    passes = (batches - 1) * settings.batch * settings.steps
    return dry_run.Probe(batches, (time.perf_counter() - begin) / passes, measure.peak_memory(source.device))


def row(geometry: str, batch: int, formulation: str, batches: int) -> dict:
    """One line of the table; to be run in a new process."""
    device = precision.best_device()
    override = {"batch": batch, "long_every": 0, "validation": 2} | choices(formulation, batch)
    with tempfile.TemporaryDirectory() as folder:
        if geometry == "embedded, 64":
            only_images = {
                "lambda_latent": 0,
                "lambda_prior": 0,
                "loop_passes": 1000,
            }  # the paper's losses, as in plain
            lesson = {"size": 64, "generator": "faces-64", "init": ""}  # a generator that `per_sample` can write anew
            job = train.embedded_job("restyle-psp", override | only_images | lesson, device, few=True)
        else:
            files = dry_run.with_stand_ins(Files(), DOMAINS["faces"], Path(folder))
            job = train.full_size_job("restyle-psp", "faces", override, files, 0, device)
        if formulation == "plain":
            found = plain(job, batches)
        else:
            found = dry_run.probe(job.settings, job.source, "loop", batches=batches)
    return {
        "geometry": geometry,
        "batch": batch,
        "formulation": formulation,
        "precision": "fp32" if formulation == "plain" else precision.name(device),
        "images x steps / s": 1 / found.seconds_per_pass,
        "peak memory GiB": found.peak_memory,
    }


def main(only: str = "", update: bool = False) -> None:
    """Measures every formulation of every geometry.

    only: the beginning of a geometry's name, to measure that alone; the others' rows stay as they are
    update: for maintainers: the rows go into the committed table, in data/results/
    """
    chosen = {name: sizes for name, sizes in GEOMETRIES.items() if name.startswith(only)}
    cases = [(name, batch, kind) for name, sizes in chosen.items() for batch in sizes for kind in FORMULATIONS]
    cases = [(name, batch, kind) for name, batch, kind in cases if batch >= PIECES.get(kind, 1)]
    rows = []
    for case in tqdm(cases, unit="row"):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as process:
            rows.append(process.submit(row, *case, BATCHES[case[0]]).result())
    table = pd.DataFrame(rows)
    usual = table[table.formulation == "plain"].set_index(["geometry", "batch"])
    where = pd.MultiIndex.from_frame(table[["geometry", "batch"]])
    table["times faster"] = table["images x steps / s"] / usual["images x steps / s"].loc[where].to_numpy()
    table["share of memory"] = table["peak memory GiB"] / usual["peak memory GiB"].loc[where].to_numpy()
    machine = measure.machine(precision.best_device())
    print(f"on {machine}\n{table.to_string(index=False, float_format='{:.3g}'.format)}")
    path = destination(RESULTS, update) / "benchmark_train.csv"
    save_rows(table.assign(machine=machine), path, ["geometry", "batch", "formulation"])


if __name__ == "__main__":
    tyro.cli(main)
