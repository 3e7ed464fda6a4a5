"""Times a refinement step of the official models: FFHQ at 1024 px, church at 256, cars at 512 x 384.

    python benchmarks/full_scale.py

Random weights in the official format; speed does not depend on their values. Prints a table and writes
runs/measured/results/benchmark_full_scale.csv. Beside each row the same step is timed as the published code computes
it, in fp32 as it does: kernels for every image, a blur of its own, batch normalisations and heads apart. And on a CPU
encoder and generator as OpenVINO compiles them (`rl.compiled`), with the seconds that compiling takes.
"""

import gc
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import pandas as pd
import per_sample
import torch
import torch.nn.functional as F
import tyro
from tqdm import tqdm

import restyle_lib as rl
from restyle_lib.encoders.full_size import BACKBONES, FullSizeEncoder, untrained
from restyle_lib.evaluation.evaluate import save_table
from restyle_lib.evaluation.measure import forget_peak_memory, gmacs, machine, peak_memory
from restyle_lib.making.stand_ins import random_checkpoint
from restyle_lib.paths import RESULTS, destination
from restyle_lib.precision import best_device, has_fast_bf16

GEOMETRIES = {"FFHQ 1024": "faces", "church 256": "church", "cars 512x384": "cars"}


def timed(function: Callable, device: str, repeats: int) -> float:
    """Median milliseconds of a call; one call before that warms up."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        function()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return 1000 * median(times[1:])


def peak(device: str, bf16: bool) -> float:
    """GMAC/s of the best of ten large convolutions (512 channels, 64 x 64, batch 4): what this machine can do."""
    dtype = torch.bfloat16 if bf16 else torch.float32
    x = torch.randn(4, 512, 64, 64, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    weight = torch.randn(512, 512, 3, 3, device=device, dtype=dtype).to(memory_format=torch.channels_last)
    best = min(timed(lambda: F.conv2d(x, weight, padding=1), device, repeats=1) for _ in range(10))
    return 4 * 64 * 64 * 512 * 512 * 9 / 1e9 / (best / 1000)


def apart(encoder: FullSizeEncoder) -> FullSizeEncoder:
    """An encoder of the same kind whose batch normalisations are not folded; random weights."""
    design = next(name for name, backbone in BACKBONES.items() if isinstance(encoder.backbone, backbone))
    design = f"{design}-pyramid" if encoder.pyramid else design
    return untrained(design, encoder.in_channels, encoder.n_styles).eval().requires_grad_(False)


@torch.no_grad()
def measure(inverter, fast, published, batch: int, bf16: bool, best: float, device: str, repeats: int) -> dict:
    """One row. fast: the inverter as `rl.compiled` returns it; published: its encoder with nothing folded."""
    encoder, G = inverter.encoder, inverter.G
    x = torch.randn(batch, encoder.in_channels, *inverter.input_size, device=device)
    codes = G.w_avg + 0.1 * torch.randn(batch, G.n_styles, len(G.w_avg), device=device)
    macs = gmacs(lambda: encoder(x)) + gmacs(lambda: G.synthesize(codes))
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        forget_peak_memory(torch.device(device))
        encoder_ms = timed(lambda: encoder(x), device, repeats)
        generator_ms = timed(lambda: G.synthesize(codes), device, repeats)
        memory = peak_memory(torch.device(device))
    usual_encoder = timed(lambda: per_sample.encode(published, x), device, repeats)
    usual_generator = timed(lambda: per_sample.synthesize(G, codes), device, repeats)
    rate = macs / (encoder_ms + generator_ms) * 1000
    usual = usual_encoder + usual_generator
    row = {
        "precision": "bf16" if bf16 else "fp32",
        "batch": batch,
        "encoder ms": encoder_ms,
        "generator ms": generator_ms,
        "GMAC": macs,
        "GMAC/s": rate,
        "share of peak": rate / best,
        "peak memory GiB": memory,
        "encoder as published, ms": usual_encoder,
        "generator as published, ms": usual_generator,
        "step, times faster": usual / (encoder_ms + generator_ms),
    }
    if fast:
        parts = (
            timed(lambda: fast.encoder(x), device, repeats),
            timed(lambda: fast.G.synthesize(codes), device, repeats),
        )
        row |= {"encoder by OpenVINO, ms": parts[0], "generator by OpenVINO, ms": parts[1]}
        row |= {"step by OpenVINO, times faster": usual / sum(parts)}
    return row


def main(repeats: int = 3, batches: tuple[int, ...] = (1, 4), update: bool = False) -> None:
    """Times encoder and generator of every geometry in fp32, and in bf16 where the hardware computes in it.

    repeats: timed calls of each, of which the median counts
    update:  for maintainers: the table becomes the committed one, in data/results/
    """
    where = best_device()
    device, precisions = where.type, (False, True) if has_fast_bf16(where) else (False,)
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        tqdm(total=3 * len(precisions) * len(batches), unit="row") as progress,
    ):
        for title, domain in GEOMETRIES.items():
            path = Path(folder) / "random.pt"
            torch.save(random_checkpoint(domain), path)
            inverter = rl.load_inverter(path).to(device)
            published = apart(inverter.encoder).to(device)
            for bf16 in precisions:
                start = time.perf_counter()
                fast = rl.compiled(inverter, bf16) if device == "cpu" else None
                seconds = time.perf_counter() - start
                for batch in batches:
                    progress.set_description(f"{title}, batch {batch}")
                    best = peak(device, bf16)  # beside each row: a shared machine's speed changes within minutes
                    row = measure(inverter, fast, published, batch, bf16, best, device, repeats)
                    row |= {"compiled in s": seconds} if fast else {}
                    rows.append({"geometry": title} | row | {"measured peak GMAC/s": best})
                    progress.update()
                del fast
                gc.collect()
            del inverter, published
            gc.collect()
    table = pd.DataFrame(rows).assign(machine=machine(where))
    print(f"on {machine(where)}\n{table.drop(columns='machine').to_string(index=False, float_format='{:.3g}'.format)}")
    save_table(table, destination(RESULTS, update) / "benchmark_full_scale.csv")


if __name__ == "__main__":
    tyro.cli(main)
