"""The official encoders of pSp, e4e and ReStyle, for 256 px inputs and 512-dimensional styles.

One class covers them, since they differ in three choices only: the backbone, whether the heads read one map
(ReStyle's simplified design, section 4.2) or three (pSp's feature pyramid), and whether head 0 speaks for all styles
and the others add to it (e4e's progressive design).
"""

import math
from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from restyle_lib.encoders.backbones import IRSE50, BasicBlock, ResNet34
from restyle_lib.encoders.simplified import set_free

BACKBONES = {"ir_se50": IRSE50, "resnet34": ResNet34}
DESIGNS = (*BACKBONES, *(f"{name}-pyramid" for name in BACKBONES))
MOST_STYLES = 20  # of a generator of 2048 px; no file may ask for more
COARSE, MIDDLE = 3, 7  # pyramid: heads below COARSE read the smallest map, those below MIDDLE the middle one


class StackedHeads(nn.Module):
    """k map2style heads as one: maps [B, 512, h, w] -> styles [B, k, 512].

    Each head is a chain of stride-2 convolutions down to one pixel, then a linear layer. The first convolutions of
    all heads read the same map and are one large convolution; the later ones are grouped.
    """

    def __init__(self, heads: int, convs: int, channels: int = 512):
        super().__init__()
        self.heads = heads
        # filled by whoever makes the heads: zeros of hundreds of megabytes would be a tenth of opening a checkpoint
        self.weights = nn.ParameterList(torch.empty(heads * channels, channels, 3, 3) for _ in range(convs))
        self.biases = nn.ParameterList(torch.zeros(heads * channels) for _ in range(convs))
        self.linear = nn.Parameter(torch.zeros(heads, channels, channels))  # [k, in, out]
        self.bias = nn.Parameter(torch.zeros(heads, 1, channels))

    def forward(self, x: Tensor) -> Tensor:
        for i, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            groups = self.heads if i else 1
            x = F.leaky_relu(F.conv2d(x, weight, bias, stride=2, padding=1, groups=groups), 0.01)
        x = x.reshape(len(x), self.heads, -1).transpose(0, 1)  # [k, B, 512]
        return torch.baddbmm(self.bias, x, self.linear).transpose(0, 1)

    def load_official(self, state: Mapping[str, Tensor], first: int) -> None:
        """Stacks the official heads styles.<first>, styles.<first + 1>, ...; equalised learning rates are folded."""
        names = [f"styles.{first + i}" for i in range(self.heads)]
        for j, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            weight.data = torch.cat([state[f"{name}.convs.{2 * j}.weight"] for name in names])
            bias.data = torch.cat([state[f"{name}.convs.{2 * j}.bias"] for name in names])
        linear = torch.stack([state[f"{name}.linear.weight"] for name in names])
        self.linear.data = linear.transpose(1, 2).contiguous() / math.sqrt(linear.shape[2])
        self.bias.data = torch.stack([state[f"{name}.linear.bias"] for name in names])[:, None]


class OneStyle(nn.Module):
    """The head of a W encoder: maps [B, 512, h, w] -> one style [B, 1, 512], linear in the mean over the map."""

    def __init__(self, channels: int = 512):
        super().__init__()
        self.heads = 1
        self.linear = nn.Parameter(torch.zeros(channels, channels))  # [out, in]
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x.mean((2, 3)), self.linear, self.bias)[:, None]

    def load_official(self, state: Mapping[str, Tensor], _: int) -> None:
        """Takes the official layer, its equalised learning rate folded."""
        self.linear.data = state["linear.weight"] / math.sqrt(state["linear.weight"].shape[1])
        self.bias.data = state["linear.bias"].clone()


class FullSizeEncoder(nn.Module):
    """Images [B, in_channels, h, w] in [-1, 1], 256 px high and wide (cars 192 high) -> residuals [B, n_styles, 512].

    pyramid:     heads read three maps (pSp, e4e) rather than the last one (ReStyle)
    progressive: head 0 gives the style of all slots, head i what is added to slot i (e4e); training raises `stage`,
                 the last slot that may differ
    one_style:   one head speaks for all slots: the W encoders of pSp and e4e
    """

    def __init__(
        self,
        backbone: nn.Module,
        in_channels: int,
        n_styles: int,
        pyramid: bool,
        progressive: bool,
        one_style: bool = False,
    ):
        super().__init__()
        if in_channels not in (3, 6) or not 2 <= n_styles <= MOST_STYLES:
            raise ValueError(
                f"{in_channels} input channels, {n_styles} styles: images are 3 or 6 and 2 to {MOST_STYLES}"
            )
        self.backbone, self.in_channels, self.n_styles = backbone, in_channels, n_styles
        self.pyramid, self.progressive, self.stage = pyramid, progressive, n_styles - 1
        bounds = [0, COARSE, min(MIDDLE, n_styles), n_styles] if pyramid else [0, n_styles]
        counts = [b - a for a, b in zip(bounds, bounds[1:], strict=False)]
        self.one_style = one_style
        if one_style:
            self.heads = nn.ModuleList([OneStyle()])
            return
        self.heads = nn.ModuleList(StackedHeads(count, 4 + level) for level, count in enumerate(counts) if count)
        if pyramid:
            self.latlayer1, self.latlayer2 = nn.Conv2d(256, 512, 1), nn.Conv2d(128, 512, 1)

    def forward(self, images: Tensor) -> Tensor:
        levels = self.levels(images.contiguous(memory_format=torch.channels_last))
        styles = torch.cat([heads(level) for heads, level in zip(self.heads, levels, strict=False)], dim=1)
        if self.one_style:
            return styles.expand(-1, self.n_styles, -1)
        return set_free(styles, self.stage) if self.progressive else styles

    def levels(self, images: Tensor) -> list[Tensor]:
        """The map that the heads read, or the pyramid's three, the coarse one first."""
        maps = self.backbone.maps(images)
        if not self.pyramid:
            return [maps[-1]]
        fine, middle, coarse = (maps[i] for i in self.backbone.pyramid)
        enlarged = _enlarge(coarse, self.latlayer1(middle))
        return [coarse, enlarged, _enlarge(enlarged, self.latlayer2(fine))]

    @torch.no_grad()
    def begin_as(self, backbone: nn.Module) -> None:
        """Takes a pretrained backbone's weights (`pretrained.load_backbone`).

        The channels of the other image, which it does not know, are drawn from N(0, 1), as the official code does.
        """
        state = backbone.state_dict()
        first = "conv1.weight" if isinstance(backbone, ResNet34) else "input_layer.0.weight"
        known = state[first]
        other = torch.randn(len(known), self.in_channels - known.shape[1], *known.shape[2:])
        state[first] = torch.cat([known, other.to(known)], dim=1)
        self.backbone.load_state_dict(state)


def _enlarge(x: Tensor, y: Tensor) -> Tensor:
    """x scaled to y's size, plus y: one level of the pyramid."""
    return F.interpolate(x, y.shape[2:], mode="bilinear", align_corners=True) + y


def from_official(state: Mapping[str, Tensor], progressive: bool, n_styles: int) -> FullSizeEncoder:
    """The encoder from the tensors of an official checkpoint, names without "encoder."; kind and size show in them.

    progressive: the checkpoint is e4e's; n_styles: of the generator, which an encoder into W does not know. These alone
    do not show in the tensors. Batch normalisations are folded into the convolutions before them. Raises KeyError or
    RuntimeError where tensors are missing or of another shape.
    """
    resnet = "conv1.weight" in state
    in_channels = state["conv1.weight" if resnet else "input_layer.0.weight"].shape[1]
    backbone = (ResNet34 if resnet else IRSE50)(in_channels)
    found = len({name.split(".")[1] for name in state if name.startswith("styles.")})
    one_style = not found and "linear.weight" in state
    pyramid = "latlayer1.weight" in state
    encoder = FullSizeEncoder(backbone, in_channels, found or n_styles, pyramid, progressive, one_style)
    backbone.load_state_dict({name: state[name] for name in backbone.state_dict()})
    first = 0
    for heads in encoder.heads:
        heads.load_official(state, first)
        first += heads.heads
    if encoder.pyramid:
        for name in ("latlayer1", "latlayer2"):
            getattr(encoder, name).load_state_dict({key: state[f"{name}.{key}"] for key in ("weight", "bias")})
    return _for_inference(encoder)


def untrained(design: str, in_channels: int, n_styles: int, progressive: bool = False) -> FullSizeEncoder:
    """A new encoder of one of DESIGNS. Its first residuals are small, so that training starts close to w_avg."""
    name, _, pyramid = design.partition("-")
    encoder = FullSizeEncoder(BACKBONES[name](in_channels), in_channels, n_styles, bool(pyramid), progressive)
    for heads in encoder.heads:
        for weight in heads.weights:
            nn.init.kaiming_normal_(weight, a=0.01)
        nn.init.normal_(heads.linear, std=1e-3)
    return encoder


def geometry(encoder: FullSizeEncoder) -> dict:
    """What `from_geometry` needs beside the tensors to build the encoder again."""
    kind = {"backbone": type(encoder.backbone).__name__, "in_channels": encoder.in_channels}
    return (
        kind
        | {"n_styles": encoder.n_styles, "pyramid": encoder.pyramid, "progressive": encoder.progressive}
        | ({"one_style": True} if encoder.one_style else {})
    )


def from_geometry(backbone: str, in_channels: int, tensors: Mapping[str, Tensor], **kind) -> FullSizeEncoder:
    """The encoder whose `geometry` and state dict, with batch normalisations folded, are given.

    Raises KeyError or RuntimeError where they do not fit.
    """
    network = {each.__name__: each for each in BACKBONES.values()}[backbone]
    encoder = _for_inference(FullSizeEncoder(network(in_channels), in_channels, **kind))
    encoder.load_state_dict(tensors)
    return encoder


def _for_inference(encoder: FullSizeEncoder) -> FullSizeEncoder:
    encoder = encoder.eval().requires_grad_(False)
    fold_batch_norms(encoder)
    return encoder.to(memory_format=torch.channels_last)


@torch.no_grad()
def fold_batch_norms(module: nn.Module) -> None:
    """Folds every batch normalisation that follows a convolution into it; for inference only."""
    for part in module.modules():
        if isinstance(part, (BasicBlock, ResNet34)):
            pairs = [("conv1", "bn1"), ("conv2", "bn2")] if isinstance(part, BasicBlock) else [("conv1", "bn1")]
        elif isinstance(part, nn.Sequential):
            names = [name for name, _ in part.named_children()]
            pairs = list(zip(names, names[1:], strict=False))
        else:
            continue
        for conv, norm in pairs:
            before, after = part.get_submodule(conv), part.get_submodule(norm)
            if isinstance(before, nn.Conv2d) and isinstance(after, nn.BatchNorm2d):
                part.set_submodule(conv, fuse_conv_bn_eval(before, after))
                part.set_submodule(norm, nn.Identity())
