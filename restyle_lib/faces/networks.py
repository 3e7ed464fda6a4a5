"""Five small face networks, differentiable: identity, expression, age and gender, landmarks, detector.

From npm's @vladmandic/face-api (MIT), ported layer by layer. Each network is one plain function of its tensors `p`
and an RGB batch in 0..255; `load` wraps one as a frozen module. They follow TensorFlow's "same" padding, which for
stride 2 on an even size pads the bottom and right only.
"""

import json
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import Tensor, nn

from restyle_lib.paths import WEIGHTS

MEAN = (122.782, 117.001, 104.298)
DETECTOR_MEAN = (117.001, 114.697, 97.404)
EXPRESSIONS = ("neutral", "happy", "sad", "angry", "fearful", "disgusted", "surprised")


class FaceNetwork(nn.Module):
    """A frozen network: its tensors as buffers, so that `.to(device)` moves them, and the function that reads them."""

    def __init__(self, tensors: dict[str, Tensor], function: Callable):
        super().__init__()
        self.function = function
        self.names = {name.replace(".", "/"): name for name in tensors}
        for safe, name in self.names.items():
            self.register_buffer(safe, tensors[name])

    def forward(self, images: Tensor):
        return self.function(self.tensors(), images)

    def tensors(self) -> dict[str, Tensor]:
        """Its weights, by their published names."""
        return {name: getattr(self, safe) for safe, name in self.names.items()}


def load(name: str) -> FaceNetwork:
    """The network `name` of FUNCTIONS with its shipped weights, on the CPU."""
    with safe_open(WEIGHTS / f"face-{name}.safetensors", "pt") as file:
        quantization = json.loads(file.metadata()["quantization"])
        tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (a file, not a dict)
    for key, (scale, minimum) in quantization.items():
        tensors[key] = tensors[key].float() * scale + minimum
    _fold_scales(tensors)
    return FaceNetwork(tensors, FUNCTIONS[name]).eval().to(memory_format=torch.channels_last)


def _fold_scales(tensors: dict[str, Tensor]) -> None:
    """Folds the channel scale and shift that follow a convolution of the recognition network into it."""
    for key in [k for k in tensors if k.endswith(".scale.weights")]:
        name = key.removesuffix(".scale.weights")
        scale, shift = tensors.pop(key), tensors.pop(f"{name}.scale.biases")
        tensors[f"{name}.conv.filters"] *= scale.view(-1, 1, 1, 1)
        tensors[f"{name}.conv.bias"] = tensors[f"{name}.conv.bias"] * scale + shift


def recognition(p: dict[str, Tensor], images: Tensor) -> Tensor:
    """dlib's face ResNet: [B, 3, 150, 150] -> embeddings [B, 128], not normalised."""
    return recognition_with_maps(p, images)[0]


def recognition_with_maps(p: dict[str, Tensor], images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """The same, and the maps after the blocks MAPPED: 32, 64 and 128 channels, at 35, 17 and 8 px."""
    x = F.relu(_folded(p, "conv32_down", _normalise(images), stride=2, padding=0))
    x = F.max_pool2d(x, 3, 2)
    maps = []
    for block in RECOGNITION_BLOCKS:
        x = (_down if "down" in block else _residual)(p, block, x)
        if block in MAPPED:
            maps.append(x)
    return F.linear(x.mean((2, 3)), p["fc"]), maps


RECOGNITION_BLOCKS = (  # noqa: SIM905 (one word a block reads better)
    "conv32_1 conv32_2 conv32_3 conv64_down conv64_1 conv64_2 conv64_3 conv128_down conv128_1 conv128_2 "
    "conv256_down conv256_1 conv256_2 conv256_down_out"
).split()
MAPPED = ("conv32_3", "conv64_3", "conv128_2")


def expression(p: dict[str, Tensor], images: Tensor) -> Tensor:
    """[B, 3, 112, 112] -> logits [B, 7] in the order of EXPRESSIONS."""
    return F.linear(_dense_features(p, images), p["fc.weights"], p["fc.bias"])


def landmarks(p: dict[str, Tensor], images: Tensor) -> Tensor:
    """[B, 3, 112, 112] -> the 68 points [B, 68, 2], x and y as fractions of the square."""
    return F.linear(_dense_features(p, images), p["fc.weights"], p["fc.bias"]).reshape(-1, 68, 2)


def age_gender(p: dict[str, Tensor], images: Tensor) -> tuple[Tensor, Tensor]:
    """[B, 3, 112, 112] -> age in years [B], gender logits [B, 2] (male, female)."""
    x = F.relu(_conv(p, "entry_flow.conv_in", _normalise(images), stride=2))
    x = _reduction(p, "entry_flow.reduction_block_0", x, activate=False)
    x = _reduction(p, "entry_flow.reduction_block_1", x)
    for block in ("middle_flow.main_block_0", "middle_flow.main_block_1"):
        y = x
        for i in range(3):
            y = _separable(p, f"{block}.separable_conv{i}", F.relu(y))
        x = x + y
    x = _reduction(p, "exit_flow.reduction_block", x)
    x = F.relu(_separable(p, "exit_flow.separable_conv", x)).mean((2, 3))
    age = F.linear(x, p["fc.age.weights"], p["fc.age.bias"])[:, 0]
    return age, F.linear(x, p["fc.gender.weights"], p["fc.gender.bias"])


def detector(p: dict[str, Tensor], images: Tensor) -> Tensor:
    """Tiny YOLOv2: [B, 3, s, s] (s a multiple of 32) -> [B, 25, s/32, s/32], 5 anchors of (x, y, w, h, score)."""
    x = _normalise(images, DETECTOR_MEAN)
    x = F.leaky_relu(F.conv2d(x, p["conv0.filters"], p["conv0.bias"]), 0.1)
    for i in range(1, 6):
        x = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = F.leaky_relu(_separable(p, f"conv{i}", x), 0.1)
    x = F.max_pool2d(pad_same(x, 2, 1, float("-inf")), 2, 1)
    return F.conv2d(x, p["conv8.filters"], p["conv8.bias"])


FUNCTIONS = {
    "recognition": recognition,
    "expression": expression,
    "age_gender": age_gender,
    "landmarks": landmarks,
    "detector": detector,
}


def _normalise(images: Tensor, mean: tuple[float, float, float] = MEAN) -> Tensor:
    return (images - _on(images.device, mean)) / 255


@cache
def _on(device: torch.device, mean: tuple[float, float, float]) -> Tensor:
    return torch.tensor(mean, device=device).view(1, 3, 1, 1)  # once: each copy to a GPU waits for it


def pad_same(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """TensorFlow's "same" padding for a square kernel: the odd pixel goes to the bottom and right."""
    pads = []
    for size in (x.shape[3], x.shape[2]):
        total = max((-(-size // stride) - 1) * stride + kernel - size, 0)
        pads += [total // 2, total - total // 2]
    return F.pad(x, pads, value=value)


def _conv(p: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    weight = p[f"{name}.filters"]
    return F.conv2d(pad_same(x, weight.shape[-1], stride), weight, p[f"{name}.bias"], stride)


def _separable(p: dict[str, Tensor], name: str, x: Tensor, stride: int = 1) -> Tensor:
    depthwise = p[f"{name}.depthwise_filter"]
    x = F.conv2d(pad_same(x, 3, stride), depthwise, stride=stride, groups=len(depthwise))
    return F.conv2d(x, p[f"{name}.pointwise_filter"], p[f"{name}.bias"])


def _folded(p: dict[str, Tensor], name: str, x: Tensor, stride: int = 1, padding: int = 1) -> Tensor:
    return F.conv2d(x, p[f"{name}.conv.filters"], p[f"{name}.conv.bias"], stride, padding)


def _residual(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    y = F.relu(_folded(p, f"{name}.conv1", x))
    return F.relu(_folded(p, f"{name}.conv2", y) + x)


def _down(p: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    y = F.relu(_folded(p, f"{name}.conv1", x, stride=2, padding=0))
    y = _folded(p, f"{name}.conv2", y)
    shortcut = F.avg_pool2d(x, 2, 2)
    dh, dw = shortcut.shape[2] - y.shape[2], shortcut.shape[3] - y.shape[3]
    y = F.pad(y, (0, dw, 0, dh))  # the branch without padding can be one pixel smaller
    shortcut = F.pad(shortcut, (0, 0, 0, 0, 0, y.shape[1] - shortcut.shape[1]))
    return F.relu(y + shortcut)


def _reduction(p: dict[str, Tensor], name: str, x: Tensor, activate: bool = True) -> Tensor:
    y = _separable(p, f"{name}.separable_conv0", F.relu(x) if activate else x)
    y = _separable(p, f"{name}.separable_conv1", F.relu(y))
    y = F.max_pool2d(pad_same(y, 3, 2, float("-inf")), 3, 2)
    return y + F.conv2d(x, p[f"{name}.expansion_conv.filters"], p[f"{name}.expansion_conv.bias"], 2)


def _dense_features(p: dict[str, Tensor], images: Tensor) -> Tensor:
    """The trunk that expression and landmarks share in design: four dense blocks, then the mean, [B, 256]."""
    x = _normalise(images)
    for block in ("dense0", "dense1", "dense2", "dense3"):
        first = _conv if block == "dense0" else _separable
        a = F.relu(first(p, f"{block}.conv0", x, stride=2))
        total = a + _separable(p, f"{block}.conv1", a)
        total = total + _separable(p, f"{block}.conv2", F.relu(total))
        x = F.relu(total + _separable(p, f"{block}.conv3", F.relu(total)))
    return x.mean((2, 3))
