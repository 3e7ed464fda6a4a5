"""Small things that several tests share."""

import pytest
import torch

from restyle_lib.evaluation import sets

# What takes minutes begins first: two processes take files in turn (--no-loadscope-reorder), and none waits long.
LONG = ("notebooks", "training", "distributed", "browser", "cli", "surroundings", "bad_images", "soak", "films", "tune")


def pytest_collection_modifyitems(items):
    order = {f"test_{name}": i for i, name in enumerate(LONG)}
    items.sort(key=lambda item: order.get(item.path.stem, len(LONG)))


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
