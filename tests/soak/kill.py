"""Long work killed at random moments and started again, compared with work that nobody disturbed.

python tests/soak/kill.py invert edit train eval reproduce --kills 20 --seed 0

Each command runs once undisturbed, in a cache and folder of its own; then it is started again and again and killed with
SIGKILL, all its processes at once as when the power fails, at a moment drawn from the time that it took; at last it may
finish. Numbers and files must be those of the first run. `reproduce` runs in a copy of the repository that holds a few
notebooks only.
"""

import argparse
import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY), str(REPOSITORY / "tests")]

import psutil  # noqa: E402
import torch  # noqa: E402
from safetensors.torch import load_file  # noqa: E402

from restyle_lib import assets, paths  # noqa: E402
from restyle_lib.evaluation import sets  # noqa: E402
from restyle_lib.making.stand_ins import random_checkpoint  # noqa: E402

TIMED = {"seconds", "images_per_s", "minutes", "machine"}  # what no two runs have in common
TRAINING = {"warmup-passes": 64, "warmup-batch": 4, "replay-passes": 24, "replay-states": 6, "replay-batch": 2}
TRAINING |= {"loop-passes": 40, "batch": 2, "renders": 20, "validation": 2, "validate-every": 10}
TRAINING |= {"checkpoint-every": 3, "init": "", "size": 64, "generator": "faces-64"}
# of reproduce: one that draws, one that searches and measures
NOTEBOOKS = ("00_generator.ipynb", "06_bootstrapping.ipynb")


class Work(NamedTuple):
    """A command to be killed."""

    command: Callable[[Path], list[str]]
    """Its words, of the folder that it works in."""
    result: Callable[[Path], dict[str, str]]
    """What must be the same, by name."""


def photographs(folder: Path, n: int) -> Path:
    """A folder of n faces, all different, and of one file that is none."""
    folder.mkdir(exist_ok=True)
    face = sets.photographs()["Eileen Collins"].crop((90, 0, 390, 300))
    for i in range(n):
        face.rotate(i % 7 - 3, resample=2).resize((300 - 5 * i, 300 - 5 * i)).save(folder / f"{i:02d}.png")
    (folder / "none.jpg").write_text("not a photograph")
    return folder


def files(folder: Path, pattern: str = "**/*") -> dict[str, str]:
    """Hashes of files; a kill may leave hidden ones that were being written."""
    found = {str(path.relative_to(folder)): path for path in sorted(folder.glob(pattern)) if path.is_file()}
    return {
        name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in found.items() if "/." not in f"/{name}"
    }


def trained(folder: Path) -> dict[str, str]:
    """Weights, the recipe and the log of a training, without times."""
    run = folder / "restyle-psp"
    weights = load_file(run / "restyle-psp.safetensors")
    recipe = json.loads((run / "restyle-psp.json").read_text())
    log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    tensors = {name: hashlib.sha256(x.numpy().tobytes()).hexdigest() for name, x in weights.items()}
    records = {
        f"record {i}": json.dumps({k: v for k, v in each.items() if k not in TIMED}) for i, each in enumerate(log)
    }
    return tensors | records | {"recipe": json.dumps({k: v for k, v in recipe.items() if k not in TIMED})}


def works(shared: Path, n: int) -> dict[str, Work]:
    """The commands; shared: a folder for what all of them read."""
    faces, model = photographs(shared / "faces", n), shared / "church.pt"
    torch.save(random_checkpoint("church", size=16, mapping=1), model)
    restyle = [sys.executable, "-m", "restyle_lib.commands.cli"]
    settings = [word for key, value in TRAINING.items() for word in (key, str(value))]

    def invert(folder: Path) -> list[str]:
        return [*restyle, "invert", str(faces), "--out", str(folder / "out"), "--steps", "1", "--model", str(model)]

    direction = shared / "direction.pt"
    torch.save(torch.linspace(-1, 1, 512), direction)

    def edit(folder: Path) -> list[str]:
        words = ["--direction", str(direction), "--steps", "1", "--model", str(model)]
        return [*restyle, "edit", str(faces), "--out", str(folder / "out"), *words]

    def train(folder: Path) -> list[str]:
        return [*restyle, "train", "restyle-psp", "--out", str(folder), "--override", *settings]

    def measure(folder: Path) -> list[str]:
        return [*restyle, "eval", "faces/psp", "--images", str(faces), "--out", str(folder / "table.csv")]

    def reproduce(folder: Path) -> list[str]:
        copy = folder / "repository"
        if not copy.exists():
            skipped = shutil.ignore_patterns(".git", ".venv", "runs", "reproduced", "__pycache__", "tests")
            shutil.copytree(REPOSITORY, copy, ignore=skipped)
            for notebook in (copy / "notebooks").glob("[0-9][0-9]_*.ipynb"):
                if notebook.name not in NOTEBOOKS:
                    notebook.unlink()
        return [*restyle, "reproduce", "--profile", "smoke", "--jobs", "1"]

    return {
        "invert": Work(invert, lambda folder: files(folder / "out")),
        "edit": Work(edit, lambda folder: files(folder / "out")),
        "train": Work(train, trained),
        "eval": Work(measure, lambda folder: files(folder, "table.csv")),
        "reproduce": Work(reproduce, lambda folder: files(folder / "repository" / "reproduced" / "smoke", "results/*")),
    }


def begin(work: Work, folder: Path) -> subprocess.Popen:
    """Starts the command, in one thread, with a cache in its folder that has the fetched assets already."""
    cache = folder / "cache"
    cache.mkdir(parents=True, exist_ok=True)
    for name in assets.PACKAGES:
        fetched = assets.fetch(name)
        if not (cache / fetched.name).exists():
            (cache / fetched.name).symlink_to(fetched)
    command = work.command(folder)
    where = folder / "repository" if (folder / "repository").exists() else REPOSITORY
    environment = os.environ | {"RESTYLE_CACHE": str(cache), "OMP_NUM_THREADS": "1", "PYTHONPATH": str(where)}
    log = (folder / "said.txt").open("ab")
    return subprocess.Popen(command, cwd=where, env=environment, stdout=log, stderr=log)


def kill(process: subprocess.Popen) -> None:
    """SIGKILL to a process and all that it started, also in sessions of their own."""
    main = psutil.Process(process.pid)
    main.suspend()
    for each in [main, *main.children(recursive=True)]:
        each.kill()
    process.wait()


def soak(name: str, work: Work, kills: int, seed: int, folder: Path) -> list[str]:
    """What differs after so many kills; prints how it goes."""
    rng, undisturbed, disturbed = random.Random(f"{seed}-{name}"), folder / "undisturbed", folder / "disturbed"
    start = time.monotonic()
    code = begin(work, undisturbed).wait()
    seconds = time.monotonic() - start
    expected = work.result(undisturbed)
    assert code in (0, 1) and expected, f"{name} failed: {(undisturbed / 'said.txt').read_text()[-2000:]}"
    killed = 0
    for _ in range(kills):
        process = begin(work, disturbed)
        try:
            process.wait(rng.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            kill(process)
            killed += 1
    finished = begin(work, disturbed).wait()
    found = work.result(disturbed)
    differing = [key for key in sorted(expected | found) if expected.get(key) != found.get(key)]
    if finished != code:
        differing.append(f"exit code {finished}, not {code}: {(disturbed / 'said.txt').read_text()[-1000:]}")
    print(f"{name}: {killed} kills of {kills} hit, {seconds:.0f} s undisturbed; "
          f"{len(expected)} results, {len(differing)} differ {differing[:5]}", flush=True)  # fmt: skip
    return differing


def main() -> None:
    """The exit code is 1 where something differs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", help="invert, edit, train, eval, reproduce; all of them without a word")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--n", type=int, default=8, help="photographs")
    options = parser.parse_args()
    assert paths.REPOSITORY == REPOSITORY
    with tempfile.TemporaryDirectory() as temporary:
        shared = Path(temporary)
        all_works = works(shared, options.n)
        chosen = options.what or list(all_works)
        differing = [soak(name, all_works[name], options.kills, options.seed, shared / name) for name in chosen]
    sys.exit(any(differing))


if __name__ == "__main__":
    main()
