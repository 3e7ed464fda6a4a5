"""An encoder compiled by OpenVINO, for CPUs: the official ones are memory-bound in PyTorch, which lays their weights
out anew at every call (docs/official-checkpoints.md has the times)."""

from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor, nn


class CompiledEncoder(nn.Module):
    """Images [B, in_channels, h, w] -> residuals [B, k, 512] as `encoder` gives them, without gradients, on the CPU.

    size: (height, width) of the images
    bf16: computes in bf16, for processors that have it (`precision.has_fast_bf16`); else in fp32
    Compiling takes seconds and as much memory as the weights. Raises ImportError without the package openvino.
    """

    def __init__(self, encoder: nn.Module, size: tuple[int, int], bf16: bool = False):
        super().__init__()
        if not find_spec("openvino"):
            raise ImportError("compiled encoders need one more package: pip install 'restyle-companion[openvino]'")
        import openvino

        self.in_channels = encoder.in_channels
        example = torch.zeros(1, encoder.in_channels, *size)
        model = openvino.convert_model(encoder.eval(), example_input=example, input=[-1, *example.shape[1:]])
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def forward(self, images: Tensor) -> Tensor:
        found = self.request.infer([np.ascontiguousarray(images.float().numpy())])
        return torch.from_numpy(next(iter(found.values())).copy())
