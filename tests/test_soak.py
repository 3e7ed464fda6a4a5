"""A quick sample of the soak scripts, which run for minutes or hours (see README.md here)."""

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parent / "soak"


@pytest.mark.parametrize(
    "words", ["mutations.py --n 150 --seed 1", "mutations.py --only 4869", "kill.py invert --kills 2 --n 2"]
)
def test_nothing_fails_in_a_sample(words):
    script, *options = words.split()
    run = subprocess.run([sys.executable, SOAK / script, *options], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout[-2000:] + run.stderr[-2000:]
