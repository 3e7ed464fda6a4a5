"""A full-size encoder compiled by OpenVINO, for CPUs.

PyTorch lays the weights of these encoders out anew at every call, and their heads alone have 170 million; OpenVINO does
it once. docs/official-checkpoints.md has what that is worth.
"""

import warnings
from importlib.util import find_spec

import torch
from torch import Tensor, nn

from restyle_lib.encoders.full_size import FullSizeEncoder


class CompiledEncoder(nn.Module):
    """Images [B, in_channels, h, w] -> residuals [B, k, 512], those of `encoder` but for rounding; no gradients.

    size: (height, width) of the images
    bf16: computes in bf16, for processors that have it (`precision.has_fast_bf16`); else in fp32
    Compiling takes seconds, and memory for the weights once more. Raises ImportError without the package openvino, and
    ValueError for an encoder that is not on the CPU.
    """

    def __init__(self, encoder: FullSizeEncoder, size: tuple[int, int], bf16: bool = False):
        super().__init__()
        if not find_spec("openvino"):
            raise ImportError("a compiled encoder needs one more package: pip install --editable '.[openvino]'")
        if next(encoder.parameters()).device.type != "cpu":
            raise ValueError("an encoder is compiled for CPUs alone: leave the inverter where load_inverter put it")
        import openvino

        self.in_channels = encoder.in_channels
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of tracing, which turns the number of images into a constant: it is 1
            example = torch.zeros(1, self.in_channels, *size)
            model = openvino.convert_model(encoder.eval(), example_input=example, input=list(example.shape))
        settings = {
            "INFERENCE_PRECISION_HINT": "bf16" if bf16 else "f32",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        self.request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([self._one(image) for image in images.split(1)])  # on a CPU batches hardly pay

    def _one(self, image: Tensor) -> Tensor:
        found = self.request.infer([image.float().contiguous().numpy()])
        return torch.from_numpy(next(iter(found.values())).copy())
