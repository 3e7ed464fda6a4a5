"""Reduced precision only where the hardware makes it fast."""

import pytest
import torch

from restyle_lib import precision


@pytest.mark.parametrize("fast", [True, False])
def test_autocast_follows_the_hardware(fast, monkeypatch):
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: fast)
    device = torch.device("cpu")
    a = torch.randn(4, 4)
    with precision.autocast(device):
        assert (a @ a).dtype == (torch.bfloat16 if fast else torch.float32)
    assert precision.name(device) == ("bf16" if fast else "fp32")


def test_the_answer_on_this_machine_is_a_bool():
    assert precision.has_fast_bf16(torch.device("cpu")) in (True, False)


@pytest.mark.parametrize("name", ["hpu", "ipu", "meta", "privateuseone", "xla", "xpu:99", "cuda:99", "gpu", ""])
def test_a_device_that_is_not_here_is_one_clear_error(name):
    with pytest.raises(ValueError, match=f"device '{name}' cannot be used here; leave --device out"):
        precision.device_named(name)
