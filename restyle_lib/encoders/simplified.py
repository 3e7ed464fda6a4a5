"""The simplified encoder of ReStyle (section 4.2): it sees 256 px, as in the paper, and all heads read one map."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_lib.faces.identity import EMBEDDING, MAP_CHANNELS, recognise_in_place

# Channels of the maps of 64, 32 and 16 px, and residual blocks at each. The paper's backbone (IR-SE50) has 43 M
# parameters below 160 M of heads; this one suits two CPU cores and a file of 8 MB.
WIDTHS = (128, 192, 256)
BLOCKS = (4, 3, 2)
UNSHUFFLE = 4  # the stem looks at blocks of 4 x 4 px, each laid out as channels: nothing is lost, and 64 px are cheap
GROUPS = 16  # GroupNorm, not BatchNorm: step 1 sees other statistics than step 5, and processes need not agree
HEAD_IN, HEAD_MIDDLE, HEAD_HIDDEN = 16, 24, 128  # channels per head, at 16 x 16, 4 x 4 and 1 x 1


class ResidualBlock(nn.Module):
    """Pre-activation residual block: norm, activation, 3x3 convolution, twice."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.norm2 = (nn.GroupNorm(GROUPS, channels) for _ in range(2))
        self.conv1, self.conv2 = (nn.Conv2d(channels, channels, 3, padding=1) for _ in range(2))

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y)))


class StyleHeads(nn.Module):
    """map2style heads computed together as grouped convolutions: map [B, C, s, s] -> residuals [B, heads, 512].

    Maps of another size are area-averaged, or repeated, to 16 x 16 first.
    people: embeddings of the images by the face-recognition network, [B, P], added to each head's hidden layer
    """

    def __init__(self, channels: int, heads: int, people: int, latent: int = 512):
        super().__init__()
        self.heads = heads
        self.split = nn.Conv2d(channels, heads * HEAD_IN, 1)
        self.reduce = nn.Conv2d(heads * HEAD_IN, heads * HEAD_MIDDLE, 4, stride=4, groups=heads)
        self.pool = nn.Conv2d(heads * HEAD_MIDDLE, heads * HEAD_HIDDEN, 4, groups=heads)
        self.person = nn.Linear(people, heads * HEAD_HIDDEN, bias=False)
        self.out = nn.Conv2d(heads * HEAD_HIDDEN, heads * latent, 1, groups=heads)
        nn.init.zeros_(self.out.weight)  # training starts from "no change": every image is w_avg
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, people: Tensor) -> Tensor:
        x = F.silu(self.split(F.adaptive_avg_pool2d(x, 16)))
        x = self.pool(F.silu(self.reduce(x))) + self.person(people)[:, :, None, None]
        x = self.out(F.silu(x))
        return x.reshape(len(x), self.heads, -1).float()


class Backbone(nn.Module):
    """Images [B, 3 n, s, s] and what face recognition sees in each -> maps of s/4, s/8 and s/16 px, coarsest last.

    The paper's backbone begins as a network for face recognition. Here one is part of it, frozen: its maps, laid where
    the face is in the image, are added to ours at each size.
    """

    def __init__(self, in_channels: int):
        super().__init__()
        images = in_channels // 3
        self.stem = nn.Conv2d(in_channels * UNSHUFFLE**2, WIDTHS[0], 3, padding=1)
        self.down = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=2, padding=1) for a, b in zip(WIDTHS, WIDTHS[1:], strict=False)
        )
        self.face = nn.ModuleList(
            nn.Conv2d(images * c, width, 1) for c, width in zip(MAP_CHANNELS, WIDTHS, strict=True)
        )
        self.stages = nn.ModuleList(
            nn.Sequential(*(ResidualBlock(width) for _ in range(n))) for width, n in zip(WIDTHS, BLOCKS, strict=True)
        )

    def forward(self, images: Tensor, faces: list[Tensor]) -> list[Tensor]:
        x = self.stem(F.pixel_unshuffle(images, UNSHUFFLE).contiguous(memory_format=torch.channels_last))
        maps = []
        for i, stage in enumerate(self.stages):
            x = self.down[i - 1](x) if i else x
            maps.append(x := stage(x + self.face[i](faces[i])))
        return maps


class Encoder(nn.Module, ABC):
    """Images [B, in_channels, s, s] in [-1, 1] -> residuals [B, n_styles, 512] to be added to the current codes.

    s is 256 in all that is shipped; short lessons train at 64. An encoder is of use at the size it was trained at.

    in_channels: 3 (the image alone, one pass) or 6 (the image beside the current reconstruction, ReStyle)
    progressive: head 0 gives the style of all slots, head i what is added to slot i (e4e, section 4.2); training
                 raises `stage`, the last slot that may differ, from 0
    """

    def __init__(self, in_channels: int = 6, n_styles: int = 16, progressive: bool = False):
        super().__init__()
        if in_channels not in (3, 6) or not 0 < n_styles <= 20:
            raise ValueError(f"no encoder of {in_channels} channels for {n_styles} styles")
        self.in_channels, self.n_styles = in_channels, n_styles
        self.progressive, self.stage = progressive, n_styles - 1
        self.people = in_channels // 3 * EMBEDDING
        self.body = Backbone(in_channels)

    @abstractmethod
    def styles(self, maps: list[Tensor], people: Tensor) -> Tensor:
        """What the heads say of the backbone's maps, [B, n_styles, 512]; each design reads them in its own way."""

    def forward(self, images: Tensor) -> Tensor:
        n = self.in_channels // 3
        people, faces = recognise_in_place(images.reshape(-1, 3, *images.shape[2:]))  # of x and y side by side
        faces = [each.reshape(-1, n * each.shape[1], *each.shape[2:]) for each in faces]
        styles = self.styles(self.body(images, faces), people.reshape(-1, self.people))
        return set_free(styles, self.stage) if self.progressive else styles

    def begin_as(self, other: "Encoder") -> None:
        """Takes the weights of a simplified encoder, or of one of the same design, as far as they say what this does.

        Of six channels, a one-pass encoder takes those that see the image. Progressive heads mean something else than
        others do: the first begins as the other's, and what the rest add to it as nothing.
        """
        state = other.state_dict()
        if type(self) is not type(other):
            state = self.from_simplified(state)
        for name, value in self.state_dict().items():
            if state[name].shape != value.shape:
                state[name] = state[name][:, : value.shape[1]]
        if self.progressive and not other.progressive:
            for name in (name for name in state if name.endswith(("out.weight", "out.bias"))):
                state[name] = state[name].clone()
                state[name][512 if name.startswith(("heads.out", "heads.0.out")) else 0 :] = 0
        self.load_state_dict(state)

    def from_simplified(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A simplified encoder's weights, arranged for this design; raises ValueError where there is no such way."""
        raise ValueError(f"{type(self).__name__} cannot begin as an encoder of another design")


class SimplifiedEncoder(Encoder):
    """ReStyle's: all heads read the last map."""

    def __init__(self, in_channels: int = 6, n_styles: int = 16, progressive: bool = False):
        super().__init__(in_channels, n_styles, progressive)
        self.heads = StyleHeads(WIDTHS[-1], n_styles, self.people)

    def styles(self, maps: list[Tensor], people: Tensor) -> Tensor:
        return self.heads(maps[-1], people)


def set_free(styles: Tensor, stage: int) -> Tensor:
    """e4e's progressive design: style 0 for all slots, to which the others are added up to slot `stage`."""
    free = torch.arange(1, styles.shape[1], device=styles.device) <= stage
    return torch.cat([styles[:, :1], styles[:, :1] + styles[:, 1:] * free[:, None]], dim=1)
