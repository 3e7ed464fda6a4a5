"""Networks compiled by OpenVINO, for CPUs.

PyTorch lays the weights of a convolution out anew at every call; OpenVINO does so once, and computes what stands
between convolutions in one go. docs/official-checkpoints.md has what that is worth.
"""

import warnings
from collections.abc import Callable
from importlib.util import find_spec

import torch
from torch import Tensor, nn


class Compiled:
    """What `function` finds, but for rounding, and without gradients.

    example: a tensor [1, …] as it takes them; it is called with [B, …], one by one: on a CPU batches hardly pay
    bf16:    computes in bf16, for processors that have it (`precision.has_fast_bf16`); else in fp32
    Compiling takes seconds, and memory for the weights once more. Raises ImportError without the package openvino.
    """

    def __init__(self, function: Callable[[Tensor], Tensor], example: Tensor, bf16: bool = False):
        if not find_spec("openvino"):
            raise ImportError("a compiled network needs one more package: pip install --editable '.[openvino]'")
        import openvino

        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing, which turns the number of images into a constant: it is 1
            model = openvino.convert_model(_Traced(function), example_input=example, input=list(example.shape))
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def __call__(self, batch: Tensor) -> Tensor:
        return torch.cat([self._one(item) for item in batch.split(1)])

    def _one(self, item: Tensor) -> Tensor:
        found = self.request.infer([item.float().contiguous().numpy()])
        return torch.from_numpy(next(iter(found.values())).copy())


class _Traced(nn.Module):
    """What OpenVINO converts is a module."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.function = function

    def forward(self, item: Tensor) -> Tensor:
        return self.function(item)
