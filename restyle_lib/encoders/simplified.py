"""The simplified encoder of ReStyle (section 4.2): all k style heads read one, final feature map."""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_lib.faces.identity import EMBEDDING, recognise
from restyle_lib.images import downsample

# Channels at 1/1, 1/2, 1/4 and 1/8 of the input size, and residual blocks at each. The paper's backbone (IR-SE50,
# 256 px) has 43 M parameters below its heads; this one suits 64 px inputs, two CPU cores and a file of 2 MB.
WIDTHS = (32, 64, 112, 160)
BLOCKS = (0, 2, 2, 1)
SEES = 64  # px of the images that the convolutions see; the face-recognition network sees them as they come
GROUPS = 16  # GroupNorm, not BatchNorm: step 1 sees other statistics than step 5, and processes need not agree
MAP = 4  # side of the map that the heads read
HEAD_IN, HEAD_HIDDEN = 8, 128  # channels of the map and of the hidden layer, per head


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
    """map2style heads computed together as grouped convolutions: map [B, C, h, w] -> residuals [B, heads, 512].

    people: what a face-recognition network says of the images, [B, P]; each head's hidden layer hears it.
    """

    def __init__(self, channels: int, heads: int, people: int, latent: int = 512):
        super().__init__()
        self.heads = heads
        self.split = nn.Conv2d(channels, heads * HEAD_IN, 1)
        self.pool = nn.Conv2d(heads * HEAD_IN, heads * HEAD_HIDDEN, MAP, groups=heads)
        self.person = nn.Linear(people, heads * HEAD_HIDDEN, bias=False)
        self.out = nn.Conv2d(heads * HEAD_HIDDEN, heads * latent, 1, groups=heads)
        nn.init.zeros_(self.person.weight)
        nn.init.zeros_(self.out.weight)  # training starts from "no change": every image is w_avg
        nn.init.zeros_(self.out.bias)

    def forward(self, x: Tensor, people: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(F.silu(self.split(x)), MAP)
        x = self.pool(x) + self.person(people)[:, :, None, None]
        x = self.out(F.silu(x))
        return x.reshape(len(x), self.heads, -1).float()


def backbone(in_channels: int) -> nn.Sequential:
    """Images [B, in_channels, s, s] -> a map [B, 160, s/8, s/8]."""
    layers: list[nn.Module] = [nn.Conv2d(in_channels, WIDTHS[0], 3, padding=1)]
    for i, (width, blocks) in enumerate(zip(WIDTHS, BLOCKS, strict=True)):
        if i:
            layers.append(nn.Conv2d(WIDTHS[i - 1], width, 3, stride=2, padding=1))
        layers += [ResidualBlock(width) for _ in range(blocks)]
    return nn.Sequential(*layers, nn.GroupNorm(GROUPS, WIDTHS[-1]), nn.SiLU())


class Encoder(nn.Module, ABC):
    """Images [B, in_channels, s, s] in [-1, 1] -> residuals [B, n_styles, 512] to be added to the current codes.

    in_channels: 3 (the image alone, one pass) or 6 (the image beside the current reconstruction, ReStyle). Of six, the
                 residual is antisymmetric, F(x || y) - F(y || x): the way from y to x is the way back from x to y, and
                 there is none between an image and itself, so the loop has a fixed point. And F can begin as any
                 one-pass encoder that ignores the second image. (The paper's large network has no such form.)
    heads:       style slots that the generator in the loop reads. The last head speaks for the finer slots too: a
                 small image does not show them one by one, but their common effect on colour, so what the loop sees
                 is what the code renders at 1024 px.
    progressive: head 0 gives the style of all slots, head i what is added to slot i (e4e, section 4.2); training
                 raises `stage`, the last slot that may differ, from 0
    """

    def __init__(self, in_channels: int = 6, heads: int = 8, n_styles: int = 16, progressive: bool = False):
        super().__init__()
        if in_channels not in (3, 6) or not 0 < heads <= n_styles <= 20:
            raise ValueError(f"no encoder of {in_channels} channels and {heads} heads for {n_styles} styles")
        self.in_channels, self.n_heads, self.n_styles = in_channels, heads, n_styles
        self.progressive, self.stage = progressive, heads - 1
        self.people = in_channels // 3 * EMBEDDING
        self.body = backbone(in_channels)

    @abstractmethod
    def styles(self, images: Tensor, people: Tensor) -> Tensor:
        """What the heads say, [B, heads, 512]; each design reads the backbone's maps in its own way."""

    def forward(self, images: Tensor) -> Tensor:
        people = torch.stack([recognise(each) for each in images.split(3, dim=1)], dim=1)
        images = downsample(images, min(SEES, images.shape[-1]))
        if self.in_channels == 6:
            images = torch.cat([images, images.roll(3, dims=1)])  # [2B, 6, s, s]: (x || y), then (y || x)
            people = torch.cat([people, people.flip(1)])
        styles = self.styles(images.contiguous(memory_format=torch.channels_last), people.flatten(1))
        if self.in_channels == 6:
            there, back = styles.chunk(2)
            styles = there - back
        return all_slots(set_free(styles, self.stage) if self.progressive else styles, self.n_styles)

    def begin_as(self, other: "Encoder") -> None:
        """Takes the weights of an encoder of the same design, or of a simplified one, to compute what that does.

        Channels that it does not see (the other image) get zero weights. Only progressive heads mean something else
        than others' do: the first begins as the other's, and what the rest add to it as nothing.
        """
        state = other.state_dict()
        new = self.in_channels - other.in_channels
        state["body.0.weight"] = F.pad(state["body.0.weight"], (0, 0, 0, 0, 0, new))
        for name in (name for name in state if name.endswith("person.weight")):
            state[name] = F.pad(state[name], (0, new // 3 * EMBEDDING))
        if self.progressive and not other.progressive:
            for name in ("heads.out.weight", "heads.out.bias"):
                state[name] = state[name].clone()
                state[name][state[name].shape[0] // self.n_heads :] = 0
        self.load_state_dict(state if type(self) is type(other) else self.from_simplified(state))

    def from_simplified(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """A simplified encoder's weights, arranged for this design; raises ValueError where there is no such way."""
        raise ValueError(f"{type(self).__name__} cannot begin as an encoder of another design")


class SimplifiedEncoder(Encoder):
    """ReStyle's: all heads read the last map."""

    def __init__(self, in_channels: int = 6, heads: int = 8, n_styles: int = 16, progressive: bool = False):
        super().__init__(in_channels, heads, n_styles, progressive)
        self.heads = StyleHeads(WIDTHS[-1], heads, self.people)

    def styles(self, images: Tensor, people: Tensor) -> Tensor:
        return self.heads(self.body(images), people)


def set_free(styles: Tensor, stage: int) -> Tensor:
    """e4e's progressive design: style 0 for all slots, to which the others are added up to slot `stage`."""
    free = torch.arange(1, styles.shape[1], device=styles.device) <= stage
    return torch.cat([styles[:, :1], styles[:, :1] + styles[:, 1:] * free[:, None]], dim=1)


def all_slots(codes: Tensor, n: int) -> Tensor:
    """Codes [B, j, 512] -> [B, n, 512]: the last style, repeated in the finer slots that a cut generator leaves out."""
    return torch.cat([codes, codes[:, -1:].expand(-1, n - codes.shape[1], -1)], dim=1)
