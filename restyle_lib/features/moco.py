"""MoCo-v2 features (Chen et al. 2020): the place of the identity network in domains without faces."""

import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_lib.checkpoints.generators import CheckpointError, part, read
from restyle_lib.features.torchvision_compat import make_torchvision_importable


class MoCo(nn.Module):
    """Images [B, 3, h, w] in [-1, 1] -> unit features [B, 2048] of a frozen ResNet50.

    As in the official code of ReStyle, images are scaled to 224 px and not normalised further.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network.eval().requires_grad_(False).to(memory_format=torch.channels_last)

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.network(F.interpolate(images, (224, 224))).float(), dim=1)


def load_moco(path: Path) -> MoCo:
    """MoCo from the public file moco_v2_800ep_pretrain.pth.tar, of which only tensors are read.

    Raises CheckpointError where the file is something else.
    """
    make_torchvision_importable()
    from torchvision.models import resnet50

    kind, content = read(path)
    state = content.get("state_dict", {}) if kind == "torch" and isinstance(content, dict) else {}
    state = {name: x for name, x in part(state, "module.encoder_q").items() if not name.startswith("fc.")}
    network = resnet50(weights=None)
    network.fc = nn.Identity()
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        raise CheckpointError(f"{path}: not a MoCo-v2 ResNet50; moco_v2_800ep_pretrain.pth.tar is meant") from error
    return MoCo(network)


def moco_where_given(path: Path | None, weight: float) -> tuple[MoCo | None, float]:
    """MoCo and its weight; without a file none and 0, with a warning where it would have counted."""
    if path is not None:
        return load_moco(path), weight
    if weight:
        warnings.warn("no MoCo file is given (--moco): training goes on with L2 and LPIPS alone", stacklevel=2)
    return None, 0.0
