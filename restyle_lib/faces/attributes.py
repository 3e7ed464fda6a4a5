"""What an FFHQ-aligned face looks like, as numbers: the labels that edit directions are fitted to and judged by."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from restyle_lib.faces import networks
from restyle_lib.faces.identity import ATTRIBUTE_CROP, face_crop

NAMES = ("smile", "age", "pose", "gender", "nod")


class Attributes(nn.Module):
    """FFHQ-aligned images [B, 3, s, s] in [-1, 1] -> labels [B, 5] in the order of NAMES.

    smile:  log-odds of a happy expression against all others; its probability would saturate
    age:    years
    pose:   yaw by landmarks, see `yaw`: 0 looks at the camera, above 0 to the right of the image
    gender: log-odds of female against male, as the network was taught to see them
    nod:    pitch by landmarks, see `pitch`: the larger, the farther down the face looks

    Down to 128 px the labels are nearly those of 256 px; at 64 px ages are off by three years.
    """

    def __init__(self):
        super().__init__()
        self.expression, self.age_gender, self.landmarks = map(networks.load, ("expression", "age_gender", "landmarks"))

    def forward(self, images: Tensor) -> Tensor:
        face = face_crop(images, ATTRIBUTE_CROP, 112)
        expression, points = self.expression(face), self.landmarks(face)
        smile = log_odds(expression, networks.EXPRESSIONS.index("happy"))
        age, gender = self.age_gender(face)
        return torch.stack([smile, age, yaw(points), gender[:, 1] - gender[:, 0], pitch(points)], dim=1)


def log_odds(logits: Tensor, i: int) -> Tensor:
    """Logits [B, n] -> log of the probability of class i over that of all others, [B]."""
    others = torch.cat([logits[:, :i], logits[:, i + 1 :]], dim=1)
    return logits[:, i] - others.logsumexp(1)


def yaw(points: Tensor) -> Tensor:
    """68 landmarks [B, 68, 2] -> [B]: how much farther the nose's tip is from the jaw on the left than on the right.

    In units of the face's width: 0 is symmetric.
    """
    left, nose, right = points[:, (2, 30, 14), 0].unbind(1)
    return (2 * nose - left - right) / (right - left)


def pitch(points: Tensor) -> Tensor:
    """68 landmarks [B, 68, 2] -> [B]: where the nose's tip is on the way down from the eyes (0) to the chin (1)."""
    eyes, nose, chin = points[:, 36:48, 1].mean(1), points[:, 30, 1], points[:, 8, 1]
    return (nose - eyes) / (chin - eyes)


def side_by_side(networks: Sequence[nn.Module], images: Tensor) -> Tensor:
    """The labels [B, a] that several networks give to images, in the networks' order."""
    return torch.cat([network(images) for network in networks], dim=1)
