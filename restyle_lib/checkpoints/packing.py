"""Weights at 8 bits each, a scale per output channel: eight encoders fit where four did in fp16."""

import torch
from torch import Tensor

LARGEST = 127  # of a signed byte, on both sides of zero


def pack(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state with its matrices as int8 beside "NAME.scale" [rows, 1, …] in fp32; what has one dimension becomes fp16.

    A weight is off by at most half its row's scale, a 254th of the row's largest weight.
    """
    packed = {}
    for name, value in state.items():
        value = value.detach().float()
        if value.ndim > 1:
            largest = value.abs().amax(dim=tuple(range(1, value.ndim)), keepdim=True)
            scale = packed[f"{name}.scale"] = (largest / LARGEST).clamp_min(1e-12)  # rows may be all zeros
            packed[name] = (value / scale).round().to(torch.int8).contiguous()
        else:
            packed[name] = value.half().contiguous()
    return packed


def unpack(packed: dict[str, Tensor]) -> dict[str, Tensor]:
    """The state in fp32; one that was never packed passes as it is."""
    scales = {name.removesuffix(".scale"): value for name, value in packed.items() if name.endswith(".scale")}
    values = {name: value.float() for name, value in packed.items() if not name.endswith(".scale")}
    return {name: value * scales.get(name, 1) for name, value in values.items()}
