"""The public networks that the official encoders begin as: ArcFace's IR-SE50 for faces, else torchvision's ResNet34."""

import re
from itertools import accumulate
from pathlib import Path

from torch import Tensor, nn

from restyle_lib.checkpoints.generators import CheckpointError, read
from restyle_lib.encoders.backbones import IRSE50, ResNet34

FILES = {"ir_se50": "model_ir_se50.pth", "resnet34": "resnet34-*.pth"}  # as their authors name them
STAGES = [0, *accumulate((3, 4, 6))]  # the first of ResNet34's blocks in layer1 … layer4


def load_backbone(path: Path, kind: str) -> nn.Module:
    """The backbone "ir_se50" or "resnet34" of 3 input channels from its public file, of which only tensors are read.

    The classifier above it is left out. Raises CheckpointError where the file is something else.
    """
    what, content = read(path)
    state = content if what == "torch" and isinstance(content, dict) else content.get("tensors", {})
    if kind == "resnet34":
        state = {_in_one_body(name): value for name, value in state.items()}
    backbone = (IRSE50 if kind == "ir_se50" else ResNet34)(in_channels=3)
    own = backbone.state_dict()
    missing = [name for name, value in own.items() if not _fits(state.get(name), value) and not _is_ours(name)]
    if missing:
        raise CheckpointError(
            f"{path}: not the public {kind} ({len(missing)} of its {len(own)} tensors are missing or of another "
            f"shape, such as {missing[0]}); {FILES[kind]} is meant"
        )
    backbone.load_state_dict({name: state[name] for name in own if name in state}, strict=False)
    return backbone


def _in_one_body(name: str) -> str:
    """torchvision's layer2.1.conv1.weight is body.4.conv1.weight here."""
    found = re.fullmatch(r"layer([1-4])\.(\d+)\.(.+)", str(name))
    return f"body.{STAGES[int(found[1]) - 1] + int(found[2])}.{found[3]}" if found else str(name)


def _fits(value, own: Tensor) -> bool:
    return isinstance(value, Tensor) and value.shape == own.shape


def _is_ours(name: str) -> bool:
    """What the public files need not hold: ResNet34's activation is a ReLU there, and old files count no batches."""
    return name == "relu.weight" or name.endswith("num_batches_tracked")
