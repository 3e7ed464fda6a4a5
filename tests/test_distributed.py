"""Two processes with half the batch each train as one with the whole; one continues what two began."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import restyle_lib as rl
from restyle_lib import precision
from restyle_lib.training import loop, processes, state
from restyle_lib.training.samples import Pool
from restyle_lib.training.settings import SETTINGS, Settings

# Every phase, known and unknown codes, a discriminator with its pool and a step of R1, and styles set free on the way.
SMALL = {"warmup_passes": 60, "warmup_batch": 4, "replay_passes": 8, "replay_states": 4, "replay_batch": 2}
SMALL |= {"loop_passes": 30, "batch": 2, "renders": 20, "cut_samples": 20, "validation": 1, "validate_every": 100}
SMALL |= {"checkpoint_every": 17}
LAUNCH = [
    sys.executable,
    "-m",
    "accelerate.commands.launch",
    "--cpu",
    "--num_processes",
    "2",
    "--main_process_port",
    "0",
]


def settings() -> Settings:
    return dataclasses.replace(SETTINGS["restyle-e4e"], **SMALL)


def train(out: Path) -> None:
    """In fp32, where sums over halves of a batch differ by little."""
    precision.has_fast_bf16 = processes.has_fast_bf16 = lambda device: False
    pool = Pool(rl.load_generator("faces-1024"), rl.load_generator("faces-64"), settings())
    loop.train(settings(), out, pool, log_every=1)


def launch(*arguments) -> None:
    command = [*LAUNCH, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert result.returncode == 0, result.stderr[-3000:]


def records(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


def apart(a: Path, b: Path, part: str, begin: dict | None = None) -> float:
    """Distance of two checkpoints' weights, as a share of the way from `begin` (or from zero) to one of them."""
    a, b = (state.newest(out)[part] for out in (a, b))
    a, b = (saved.get("network", saved) if part == "codes" else saved for saved in (a, b))
    moved = {name: a[name] - begin[name] if begin else a[name] for name in a}
    return (sum((a[n] - b[n]).square().sum() for n in a) / sum(x.square().sum() for x in moved.values())).sqrt().item()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs")
    launch(__file__, folder / "two")
    subprocess.run([sys.executable, __file__, folder / "one"], check=True, capture_output=True)
    return folder


def test_two_processes_train_as_one(runs):
    """Losses of the whole batch and the norm of its gradient agree to 1 %, weights to 1 % of the way they went."""
    ones, twos = records(runs / "one"), records(runs / "two")
    assert len(ones) == len(twos) > 20
    for one, two in zip(ones, twos, strict=True):
        assert one == pytest.approx(two, rel=0.01, abs=1e-3)
    assert {"adversarial_1", "prior_5", "latent_5", "d_codes"} <= ones[-1].keys()
    assert apart(runs / "one", runs / "two", "ema") < 0.01


if __name__ == "__main__":
    train(Path(sys.argv[1]))
