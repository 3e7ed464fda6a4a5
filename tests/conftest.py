"""Small things that several tests share."""

import pytest
import torch

from restyle_lib.evaluation import sets


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
