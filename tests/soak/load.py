"""A folder of thousands of photographs through `restyle invert`: python tests/soak/load.py --n 2000

The photographs are those of the tables, small, each time turned, mirrored, lit and noisy in another way. While the
command works, its memory, its progress and its results are looked at every second. It fails where

- after a tenth of the folder, memory grows by more than 10 % and 100 MiB;
- the slowest quarter takes more than 1.5 times as long as the fastest (of a machine that does nothing else);
- the bar is ever further from the share of photographs that are done than three photographs, or does not end at 100 %;
- a photograph is neither done nor said to be skipped.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(REPOSITORY)]

import numpy as np  # noqa: E402
import psutil  # noqa: E402
from PIL import Image, ImageEnhance, ImageOps  # noqa: E402

from restyle_lib.evaluation import sets  # noqa: E402

EVERY = 1.0  # seconds from one look to the next


class Look(NamedTuple):
    """What is seen at one moment."""

    seconds: float
    mib: float
    """Memory that is the process's own: of what it maps, such as weights, only what it has changed."""
    done: int
    """Photographs whose last file is there."""
    progress: float
    """Share of the bar."""


def photographs(folder: Path, n: int, seed: int) -> None:
    """n photographs, no two alike."""
    folder.mkdir()
    rng, originals = np.random.default_rng(seed), []
    for image in sets.photographs().values():
        originals.append(ImageOps.contain(image, (480, 480)))
    for i in range(n):
        image = originals[i % len(originals)].rotate(rng.uniform(-8, 8), Image.Resampling.BICUBIC)
        image = ImageOps.mirror(image) if rng.random() < 0.5 else image
        image = ImageEnhance.Brightness(image).enhance(rng.uniform(0.8, 1.2))
        noisy = np.asarray(image, float) + rng.normal(0, rng.uniform(1, 8), (*image.size[::-1], 3))
        Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / f"{i:05d}.jpg", quality=90)


def watch(command: list[str], out: Path, log: Path) -> tuple[list[Look], str, int]:
    """Runs the command; what was seen meanwhile and at its end, what it said, and its exit code."""
    looks, start = [], time.monotonic()
    with log.open("wb") as file:
        process = subprocess.Popen(
            command, stdout=file, stderr=file, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": "."}
        )
        seen = psutil.Process(process.pid)
        while process.poll() is None:
            time.sleep(EVERY)
            done = len(list(out.glob("*.safetensors")))
            try:
                memory = seen.memory_full_info().uss / 2**20
            except psutil.Error:
                break
            if memory:  # none: it has just ended
                looks.append(Look(time.monotonic() - start, memory, done, share_of(log)))
    code = process.wait()
    done = len(list(out.glob("*.safetensors")))
    looks.append(Look(time.monotonic() - start, looks[-1].mib, done, share_of(log)))
    return looks, log.read_text(errors="replace"), code


def share_of(log: Path) -> float:
    """How far the bar had come in what was said last."""
    bar = re.findall(rb"(\d+)/(\d+) \[", log.read_bytes()[-4000:])
    return int(bar[-1][0]) / int(bar[-1][1]) if bar else 0.0


def problems(looks: list[Look], said: str, n: int, steps: int, skipped: int) -> list[str]:
    """What must not be; prints the numbers."""
    done, found = looks[-1].done, []
    at = [next(look for look in looks if look.done >= share * done) for share in (0.1, 0.25, 0.5, 0.75, 1)]
    quarters = [
        b.seconds - a.seconds for a, b in zip([next(x for x in looks if x.done), *at[1:]], at[1:], strict=False)
    ]
    print("memory, MiB, at 10, 25, 50, 75 and 100 %:", *(f"{look.mib:.0f}" for look in at))
    print("seconds of each quarter:", *(f"{seconds:.0f}" for seconds in quarters))
    apart = max(abs(look.progress * n - look.done * n / done) for look in looks)  # skipped ones lie anywhere
    print(f"the bar was at most {apart:.1f} photographs from what was done; at the end {looks[-1].progress:.1%}")
    print(f"{done} done, {skipped} skipped of {n}, {looks[-1].seconds / n:.2f} s each")
    if at[-1].mib > 1.1 * at[0].mib and at[-1].mib > at[0].mib + 100:
        found.append("memory grows")
    if max(quarters) > 1.5 * min(quarters):
        found.append("it becomes slower, or something else used the machine")
    if apart > 3 + skipped:
        found.append("the bar is not where the work is")
    total = n * (steps + 1)  # what is done with a photograph after its steps counts as one
    if not re.search(rf"{total}/{total} \[", said):
        found.append("the bar does not end at 100 %")
    if done + skipped != n:
        found.append(f"{n - done - skipped} are neither done nor skipped")
    return found


def main() -> None:
    """The exit code is 1 where something is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=5, help="fewer take less time and find the same faults")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder, out = Path(temporary) / "photographs", Path(temporary) / "out"
        photographs(folder, options.n, options.seed)
        command = [sys.executable, "-m", "restyle_lib.commands.cli", "invert", str(folder), "--out", str(out)]
        command += ["--quality", "fast", "--steps", str(options.steps)]
        looks, said, code = watch(command, out, Path(temporary) / "said.txt")
        skipped = len(re.findall(r"skipped [^\r\n]*\.jpg", said))
        if code not in (0, 1) or not looks[-1].done:
            sys.exit(said[-2000:])
        found = problems(looks, said, options.n, options.steps, skipped)
    print("; ".join(found) or "nothing wrong")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
