"""MobileStyleGAN (Belousov 2021, arXiv 2104.04767): the embedded FFHQ generator, and a small one distilled from it.

Every layer is cheap on a CPU: 3x3 convolutions are depthwise, up-sampling is an inverse Haar wavelet transform,
and demodulation does not depend on w, so it is folded into the weights.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_lib.generators.mapping import Mapping

LATENT = 512
# Channels of the feature map at each size of the trunk; the image is twice as large as the last map.
CHANNELS = {4: 512, 8: 512, 16: 512, 32: 512, 64: 512, 128: 256, 256: 128, 512: 64}
HEAD_CHANNELS = 128  # width of the head of the small generator: keeps its file under 8 MB


def inverse_haar(x: Tensor) -> Tensor:
    """One level of the inverse Haar transform, [B, 4C, h, w] -> [B, C, 2h, 2w].

    The first C channels are the low band; then come (LH, HL, HH) of each output channel.
    """
    return _spread(x * 0.5)


def _spread(x: Tensor) -> Tensor:
    """`inverse_haar` without its factor 1/2, which costs a pass over the map unless it is folded into a style."""
    b, c4, h, w = x.shape
    c = c4 // 4
    x = x.permute(0, 2, 3, 1)  # channels last, as the network's maps lie in memory: what follows copies little
    ll, high = x[..., :c], x[..., c:].reshape(b, h, w, c, 3)
    lh, hl, hh = high.unbind(-1)
    top, bottom = ll + lh, ll - lh
    diff, cross = hl + hh, hl - hh
    even = torch.stack([top + diff, top - diff], dim=3)  # [B, h, w, 2, C]: the even rows, pixel by pixel
    odd = torch.stack([bottom + cross, bottom - cross], dim=3)
    return torch.stack([even, odd], dim=2).reshape(b, 2 * h, 2 * w, c).permute(0, 3, 1, 2)


class Modulation(nn.Module):
    """Scales each channel of a feature map by an affine function of w: [B, C, h, w], [B, 512] -> [B, C, h, w]."""

    def __init__(self, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, LATENT))
        self.bias = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor, w: Tensor, scale: float = 1.0) -> Tensor:
        style = scale * F.linear(w, self.weight, self.bias)
        return x * style[:, :, None, None].to(x.dtype)


class StyledConv(nn.Module):
    """Modulate, depthwise 3x3, pointwise 1x1, add fixed noise and bias, leaky ReLU."""

    def __init__(self, c_in: int, c_out: int, size: int):
        super().__init__()
        self.modulation = Modulation(c_in)
        self.depthwise = nn.Parameter(torch.zeros(c_in, 1, 3, 3))
        self.pointwise = nn.Parameter(torch.zeros(c_out, c_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("noise", torch.zeros(1, 1, size, size))

    def forward(self, x: Tensor, w: Tensor, noise: Tensor) -> Tensor:
        x = self.modulation(x, w)
        x = F.conv2d(x, self.depthwise, padding=1, groups=x.shape[1])
        x = F.conv2d(x, self.pointwise, self.bias)
        return F.leaky_relu_(x.add_(noise.to(x.dtype)), 0.2)


class Stem(nn.Module):
    """The learned 4x4 constant and the one dense convolution of the network."""

    def __init__(self):
        super().__init__()
        self.constant = nn.Parameter(torch.zeros(1, LATENT, 4, 4))
        self.modulation = Modulation(LATENT)
        self.weight = nn.Parameter(torch.zeros(LATENT, LATENT, 3, 3))
        self.bias = nn.Parameter(torch.zeros(LATENT))
        self.register_buffer("noise", torch.zeros(1, 1, 4, 4))

    def forward(self, w: Tensor, noise: Tensor) -> Tensor:
        x = self.modulation(self.constant.expand(len(w), -1, -1, -1), w)
        x = F.conv2d(x, self.weight, self.bias, padding=1)
        return F.leaky_relu_(x.add_(noise.to(x.dtype)), 0.2)


class Block(nn.Module):
    """Doubles the size by an inverse Haar transform, then two styled convolutions; reads two style slots."""

    def __init__(self, size: int):
        super().__init__()
        c_in, c_out = CHANNELS[size // 2], CHANNELS[size]
        self.up = Modulation(c_in)
        self.conv1 = StyledConv(c_in // 4, c_out, size)
        self.conv2 = StyledConv(c_out, c_out, size)

    def forward(self, x: Tensor, w1: Tensor, w2: Tensor, noise1: Tensor, noise2: Tensor) -> Tensor:
        x = _spread(self.up(x, w1, scale=0.5))
        return self.conv2(self.conv1(x, w1, noise1), w2, noise2)


class ToImage(nn.Module):
    """Feature map [B, C, s, s] -> RGB image [B, 3, 2s, 2s] through a modulated 1x1 convolution and inverse Haar."""

    def __init__(self, channels: int):
        super().__init__()
        self.modulation = Modulation(channels)
        self.weight = nn.Parameter(torch.zeros(12, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(12))

    def bands(self, x: Tensor, w: Tensor) -> Tensor:
        return F.conv2d(self.modulation(x, w), self.weight, self.bias)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return inverse_haar(self.bands(x, w))


class FittedHead(nn.Module):
    """Image head of the small generator; reads the style slot that the next block of the trunk would read."""

    def __init__(self, channels: int, size: int):
        super().__init__()
        self.conv = StyledConv(channels, HEAD_CHANNELS, size)
        self.to_image = ToImage(HEAD_CHANNELS)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        return self.to_image(self.conv(x, w, self.conv.noise), w)


class MobileGenerator(nn.Module):
    """The embedded FFHQ generator; see `restyle_lib.generators.Generator` for the interface that all share.

    `size` is 1024 (the network as published) or 64 (the trunk up to there, with an image head of its own).
    Every code has 16 slots; the small one reads the first 8 of them.
    """

    n_styles = 16
    family = "faces"  # "toon" where its weights are those of a toon generator

    def __init__(self, size: int):
        super().__init__()
        if size not in (64, 1024):
            raise ValueError(f"the embedded generator comes in sizes 64 and 1024, not {size}")
        self.resolution = (size, size)
        self.mapping = Mapping()
        self.stem = Stem()
        self.blocks = nn.ModuleList(Block(2**i) for i in range(3, int(math.log2(size))))
        if size == 1024:
            self.to_image = ToImage(CHANNELS[512])
        else:
            self.heads = nn.ModuleDict({str(size): FittedHead(CHANNELS[size // 2], size // 2)})  # so named in its file
        self.register_buffer("w_avg", torch.zeros(LATENT))

    @property
    def slots_read(self) -> int:
        """Style slots that reach the image: 16 at 1024 px, 8 at 64, whose head reads the last."""
        return 2 * len(self.blocks) + 2

    def map(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """z [B, 512] ~ N(0, 1) -> w [B, 512], pulled towards w_avg by the truncation psi (StyleGAN, section 3.2)."""
        return torch.lerp(self.w_avg, self.mapping(z), psi)

    def synthesize(self, codes: Tensor, noise: str = "fixed") -> Tensor:
        """Codes [B, 512] or [B, k, 512] with k up to 16 -> RGB images [B, 3, s, s], nominal range [-1, 1], unclamped.

        noise: "fixed" (the constants of the network), "random" (fresh, of the same strength, per image) or "none".
        Raises ValueError for codes of another shape or too few slots, and for another word for noise.
        """
        if noise not in NOISE:
            raise ValueError(f'noise must be "fixed", "random" or "none", not {noise!r}')
        w, strength = self.styles(codes), NOISE[noise]
        x = self.stem(w[0], strength(self.stem.noise, len(codes)))
        for i, block in enumerate(self.blocks):
            n1, n2 = (strength(conv.noise, len(codes)) for conv in (block.conv1, block.conv2))
            x = block(x, w[1 + 2 * i], w[2 + 2 * i], n1, n2)
        head = self.to_image if self.resolution[0] == 1024 else self.heads["64"]
        return head(x, w[self.slots_read - 1])

    def styles(self, codes: Tensor) -> tuple[Tensor, ...]:
        """The style of each slot [B, 512], of codes as `synthesize` takes them; raises ValueError for others."""
        needed = self.slots_read
        if codes.ndim == 2:
            codes = codes[:, None].expand(-1, needed, -1)
        if codes.ndim != 3 or codes.shape[2] != LATENT or not needed <= codes.shape[1] <= self.n_styles:
            raise ValueError(
                f"codes must be [B, 512] or [B, k, 512] with {needed} <= k <= {self.n_styles}, got {list(codes.shape)}"
            )
        return codes.unbind(1)


def _fixed(noise: Tensor, batch: int) -> Tensor:
    return noise


def _random(noise: Tensor, batch: int) -> Tensor:
    # The exported constants hold noise times its learned strength; a layer's strength is their standard deviation.
    return noise.std() * torch.randn(batch, *noise.shape[1:], device=noise.device, dtype=noise.dtype)


def _none(noise: Tensor, batch: int) -> Tensor:
    return torch.zeros_like(noise)


NOISE = {"fixed": _fixed, "random": _random, "none": _none}


def from_ir(mapping: dict[str, Tensor], synthesis: dict[str, Tensor], size: int) -> MobileGenerator:
    """The generator from the constants of the two OpenVINO graphs of the wheel `random-face`.

    The small one gets the published trunk and an untrained head. The scales 1/sqrt(9 C) (convolutions) and 1/sqrt(C)
    (to_img) that the graph applies to each style are folded into the affine layers.
    Raises KeyError where a constant is missing: the files are of another model.
    """
    G = MobileGenerator(size)
    names = sorted(int(n) for n in mapping if n.isdigit() and mapping[n].shape == (LATENT, LATENT))
    tensors = {
        "mapping.weight": torch.stack([mapping[str(n)] for n in names]),
        "mapping.bias": torch.stack([mapping[str(n + 1)] for n in names]),
        "stem.constant": synthesis["m.input.input"],
        "stem.weight": synthesis["Mul_39_copy"],
        "stem.bias": synthesis["m.conv1.bias"].flatten(),
    }

    def modulation(ours: str, theirs: str, fan: int) -> None:
        weight, bias = synthesis[f"{theirs}.modulation.weight"], synthesis[f"{theirs}.modulation.bias"].flatten()
        tensors[f"{ours}.weight"], tensors[f"{ours}.bias"] = weight / math.sqrt(fan), bias / math.sqrt(fan)

    modulation("stem.modulation", "m.conv1.conv", 9 * LATENT)
    constants = [synthesis[n] for n in sorted((n for n in synthesis if n.isdigit()), key=int)]
    noise = iter([n for n in constants if n.ndim == 4 and n.shape[:2] == (1, 1) and n.shape[2] == n.shape[3] >= 4])
    tensors["stem.noise"] = next(noise)
    for i in range(len(G.blocks)):
        ours, theirs = f"blocks.{i}", f"m.layers.{i}"
        modulation(f"{ours}.up", f"{theirs}.up", 1)
        for conv, folded in (("conv1", 106 + 100 * i), ("conv2", 139 + 100 * i)):
            depthwise = synthesis[f"{theirs}.{conv}.conv.weight_dw"].squeeze(2)
            modulation(f"{ours}.{conv}.modulation", f"{theirs}.{conv}.conv", 9 * len(depthwise))
            tensors[f"{ours}.{conv}.depthwise"] = depthwise
            tensors[f"{ours}.{conv}.pointwise"] = synthesis[f"Mul_{folded}_copy"]
            tensors[f"{ours}.{conv}.bias"] = synthesis[f"{theirs}.{conv}.bias"].flatten()
            tensors[f"{ours}.{conv}.noise"] = next(noise)
    if size == 1024:
        modulation("to_image.modulation", "m.layers.6.to_img.conv", CHANNELS[512])
        tensors["to_image.weight"] = synthesis["m.layers.6.to_img.conv.weight"]
        tensors["to_image.bias"] = synthesis["m.layers.6.to_img.bias"].flatten()
    G.load_state_dict(tensors, strict=False)
    return G
