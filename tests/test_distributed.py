"""Two processes with half the batch each train as one with the whole; one continues what two began."""

import dataclasses
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from accelerate import PartialState

import restyle_lib as rl
from restyle_lib import encoders, precision
from restyle_lib.train import embedded_job
from restyle_lib.training import adversary, checkpoint, loop, processes
from restyle_lib.training.settings import SETTINGS, Settings

# Every phase, known and unknown codes, a discriminator with its pool and a step of R1, and styles set free on the way.
SMALL = {"warmup_passes": 20, "warmup_batch": 4, "replay_passes": 8, "replay_states": 4, "replay_batch": 2}
SMALL |= {"loop_passes": 30, "batch": 2, "renders": 20, "validation": 1, "validate_every": 100}
SMALL |= {
    "checkpoint_every": 7,
    "long_every": 3,
    "init": "",
    "size": 64,
    "generator": "faces-64",
    "progressive": True,
    "discriminator_lr": 1e-4,
    # small: Adam's first updates are signs of gradients, so that what sums of another order change would grow tenfold
    # with every few batches
    "warmup_lr": 2e-4,
    "loop_lr": 5e-5,
}
# Of accelerate's launchers, that of --multi_gpu starts processes on CPUs too; --cpu would need MPI for it.
LAUNCH = ["-m", "accelerate.commands.launch", "--multi_gpu", "--main_process_port", "0", "--num_processes"]


def settings() -> Settings:
    return dataclasses.replace(SETTINGS["restyle-e4e"], **SMALL)


def train(out: Path, count: int) -> None:
    """In fp32, where sums over halves of a batch differ by little."""
    assert PartialState(cpu=True).num_processes == count
    precision.has_fast_bf16 = lambda device: False
    adversary.R1_EVERY = 8  # instead of 16: within these few batches
    job = embedded_job("restyle-e4e", SMALL, torch.device("cpu"))
    loop.train(job.settings, out, job.source, log_every=1)


def launch(count: int, *arguments) -> None:
    launcher = [*LAUNCH, str(count)] if count > 1 else []
    command = [sys.executable, *launcher, *map(str, arguments)]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=800)
    assert result.returncode == 0, result.stderr[-8000:]


def records(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k not in ("seconds", "images_per_s")} for line in lines]


def apart(a: Path, b: Path) -> float:
    """How far the residuals of two trained encoders are apart on four images, as a share of their length."""
    x = torch.rand(4, 6, 64, 64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    residuals = []
    for out in (a, b):
        encoder = encoders.build(6, 16, settings().design, settings().progressive)
        encoder.load_state_dict(checkpoint.newest(out)["ema"])
        with torch.no_grad():
            residuals.append(encoder(x))
    return ((residuals[0] - residuals[1]).norm() / residuals[0].norm()).item()


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """The same training by one process and by two."""
    folder = tmp_path_factory.mktemp("runs")
    for count in (1, 2):
        launch(count, __file__, folder / str(count), count)
    return folder


def test_two_processes_train_as_one(runs):
    """Losses of the whole batch and the norm of its gradient agree to 0.5 %, what the encoders say to 0.2 %."""
    ones, twos = records(runs / "1"), records(runs / "2")
    assert len(ones) == len(twos) == 12 and ones != twos  # sums in another order are never the same to the last digit
    for one, two in zip(ones, twos, strict=True):
        assert one == pytest.approx(two, rel=0.005, abs=1e-4)
    assert {"adversarial_1", "prior_5", "latent_replay", "d_codes"} <= {name for record in ones for name in record}
    assert apart(runs / "1", runs / "2") < 0.002


@pytest.mark.parametrize(("began", "ends"), [(2, 1), (1, 2)])
def test_another_number_of_processes_continues(runs, tmp_path, began, ends):
    shutil.copytree(runs / str(began), tmp_path / "run")
    (tmp_path / "run" / "checkpoint.pt").unlink()
    assert checkpoint.newest(tmp_path / "run")["iteration"] == 7
    launch(ends, __file__, tmp_path / "run", ends)
    assert len(records(tmp_path / "run")) == 12
    assert apart(tmp_path / "run", runs / "1") < 0.002


def test_accelerate_launches_the_command(tmp_path):
    """Its first process alone writes."""
    command = ["-m", "restyle_lib.train", "restyle-psp", "--out", tmp_path, "--override"]
    override = {name: value for name, value in SMALL.items() if name != "warmup_passes"} | {"replay_passes": 16}
    launch(2, *command, *(word for pair in override.items() for word in pair))
    out = tmp_path / "restyle-psp"
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [record["iteration"] for record in log] == [*range(1, 12), 11]
    assert len(list(out.glob("tensorboard/*"))) == 1
    assert (
        rl.load_inverter(out / "restyle-psp.safetensors").invert(torch.zeros(1, 3, 64, 64), 1).latents.isfinite().all()
    )


def test_a_batch_that_cannot_be_shared_is_refused():
    second = SimpleNamespace(num_processes=2, process_index=1)
    assert processes.share(second, 4) == slice(2, 4)
    with pytest.raises(ValueError, match="a batch of 3 cannot be shared by 2 processes"):
        processes.share(second, 3)


if __name__ == "__main__":
    train(Path(sys.argv[1]), int(sys.argv[2]))
    processes.end()
