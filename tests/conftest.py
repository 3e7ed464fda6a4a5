"""Small things that several tests share."""

import os
from pathlib import Path

import psutil
import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

from restyle_lib.evaluation import sets

# What takes minutes begins first: processes take files in turn (--no-loadscope-reorder), and none waits long.
LONG = ("notebooks", "training", "checkpoints", "full_scale", "inverter", "distributed", "cli", "widgets", "browser")
LONG += ("tune", "bad_images", "methods", "soak", "surroundings", "films")

GB_EACH = 9  # what a process and the programs that it starts were seen to need at once


def pytest_xdist_auto_num_workers(config) -> int:
    """Processes of `-n auto`: one for each core, and no more than memory has room for."""
    return max(1, min(os.cpu_count() or 1, int(psutil.virtual_memory().total / 1e9 / GB_EACH)))


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


class ByFile(LoadScopeScheduling):
    """One process does the tests of a file, which share what was made for them; of notebooks each is for itself."""

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        return nodeid if Path(file).stem == "test_notebooks" else file


def pytest_xdist_make_scheduler(config, log) -> ByFile:
    return ByFile(config, log)


@pytest.fixture(autouse=True)
def quiet_threads():
    """Tests that count on reproducible sums run on the threads they started with."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def heldout():
    """Twenty held-out renders."""
    return sets.heldout(20)
