"""StyleGAN2 (Karras et al. 2020) at any power-of-two size, arranged so that a CPU can run it.

The published code builds a convolution kernel for every image of a batch. The same numbers come out of one shared
kernel when the activations are scaled before it (modulation) and after it (demodulation): section 2.2 of the paper,
read backwards. Equalised learning rates are folded into the weights when they are loaded.
"""

import copy
import math
from collections.abc import Mapping as Dict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_lib.generators import mapping
from restyle_lib.generators.frozen import Frozen, styled
from restyle_lib.generators.mapping import Mapping, each_slot


class Affine(nn.Module):
    """w [B, 512] -> the style [B, C] of one layer."""

    def __init__(self, latent: int, channels: int):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, latent))
        self.bias = nn.Parameter(torch.ones(channels))

    def forward(self, w: Tensor) -> Tensor:
        return F.linear(w, self.weight, self.bias)


class StyledConv(nn.Module):
    """Modulated and demodulated 3x3 convolution, noise, bias, leaky ReLU; `up` doubles the size first."""

    def __init__(self, latent: int, c_in: int, c_out: int, size: int, up: bool):
        super().__init__()
        self.affine = Affine(latent, c_in)
        self.weight = nn.Parameter(torch.zeros(c_out, c_in, 3, 3))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.strength = nn.Parameter(torch.zeros(()))
        self.register_buffer("noise", torch.zeros(1, 1, size, size))
        self.register_buffer("blur", blur_kernel().repeat(c_out, 1, 1, 1) if up else None, persistent=False)

    def forward(self, x: Tensor, w: Tensor, noise: str, clamp: float | None) -> Tensor:
        style = self.affine(w)
        energy = self.weight.square().sum((2, 3))  # [c_out, c_in]
        demodulation = torch.rsqrt(style.square() @ energy.T + 1e-8)
        pattern = None if noise == "none" else self.strength * self._pattern(noise, x)
        layer = Frozen.apply if torch.is_grad_enabled() and not self.weight.requires_grad else styled
        x = layer(x, style, demodulation, self.weight, pattern, self.bias, self.blur)
        return x if clamp is None else x.clamp(-clamp, clamp)

    def _pattern(self, noise: str, x: Tensor) -> Tensor:
        return self.noise if noise == "fixed" else torch.randn(len(x), *self.noise.shape[1:], device=x.device)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation, on top of the up-sampled image so far."""

    def __init__(self, latent: int, c_in: int):
        super().__init__()
        self.affine = Affine(latent, c_in)
        self.weight = nn.Parameter(torch.zeros(3, c_in, 1, 1))
        self.bias = nn.Parameter(torch.zeros(3))
        self.register_buffer("blur", blur_kernel().repeat(3, 1, 1, 1), persistent=False)

    def forward(self, x: Tensor, w: Tensor, image: Tensor | None, clamp: float | None) -> Tensor:
        # 1x1: the style goes into a matrix for each image, which spares a scaled copy of the activations
        matrix = (self.weight[:, :, 0, 0] * self.affine(w)[:, None]).to(x.dtype)  # [B, 3, c_in]
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # [B, h w, c_in]: channels last, as x lies in memory
        rgb = (pixels @ matrix.transpose(1, 2)).float() + self.bias
        rgb = rgb.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)
        if clamp is not None:
            rgb = rgb.clamp(-clamp, clamp)
        if image is None:
            return rgb
        return rgb + F.conv_transpose2d(image, self.blur, stride=2, padding=1, groups=3)


def blur_kernel() -> Tensor:
    """The filter of every up-sampling: [1, 3, 3, 1] both ways, with the gain 4 that zeros between pixels need."""
    row = torch.tensor([1.0, 3.0, 3.0, 1.0])
    return (row[:, None] * row / row.sum() ** 2 * 4)[None, None]


class StyleGAN2(nn.Module):
    """A StyleGAN2 generator; see `restyle_lib.generators.Generator` for the interface that all share.

    channels: of the feature map at each size, {4: 512, 8: 512, ...}; the largest size is that of the image
    layers:   depth of the mapping network
    crop:     rows (first, last) that an image keeps, for the 512x384 cars; None keeps all
    clamp:    bound of the activations, for models trained in half precision; None for the others
    """

    def __init__(
        self,
        channels: Dict[int, int],
        layers: int = 8,
        latent: int = 512,
        crop: tuple[int, int] | None = None,
        clamp: float | None = None,
    ):
        super().__init__()
        size = max(channels)
        if sorted(channels) != [2**i for i in range(2, size.bit_length())]:
            raise ValueError(f"sizes must be 4, 8, ... up to a power of two, got {sorted(channels)}")
        if size > 2048 or max(*channels.values(), latent, 16 * layers) > 2048:
            raise ValueError(f"larger than any StyleGAN2: {channels}, {layers} layers, latents of {latent}")
        self.crop, self.clamp = crop, clamp
        self.n_styles = 2 * (size.bit_length() - 1) - 2
        self.resolution = (crop[1] - crop[0] if crop else size, size)
        self.mapping = Mapping(layers, latent)
        self.constant = nn.Parameter(torch.zeros(1, channels[4], 4, 4))
        self.convs = nn.ModuleList([StyledConv(latent, channels[4], channels[4], 4, up=False)])
        self.to_rgb = nn.ModuleList([ToRGB(latent, channels[4])])
        for s in sorted(channels)[1:]:
            self.convs.append(StyledConv(latent, channels[s // 2], channels[s], s, up=True))
            self.convs.append(StyledConv(latent, channels[s], channels[s], s, up=False))
            self.to_rgb.append(ToRGB(latent, channels[s]))
        self.register_buffer("w_avg", torch.zeros(latent))

    @property
    def slots_read(self) -> int:
        """All style slots reach the image."""
        return self.n_styles

    def map(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """z [B, 512] ~ N(0, 1) -> w [B, 512], pulled towards w_avg by the truncation psi (StyleGAN, section 3.2)."""
        return torch.lerp(self.w_avg, self.mapping(z), psi)

    def synthesize(self, codes: Tensor, noise: str = "fixed") -> Tensor:
        """Codes [B, 512] or [B, k, 512] -> RGB images [B, 3, H, W], nominal range [-1, 1], not clamped.

        noise: "fixed" (the stored constants), "random" (fresh for each image) or "none".
        Raises ValueError for codes of another shape, and for another word for noise.
        """
        if noise not in ("fixed", "random", "none"):
            raise ValueError(f'noise must be "fixed", "random" or "none", not {noise!r}')
        codes = each_slot(codes, self.n_styles, len(self.w_avg))
        w = codes.unbind(1)
        x = self.constant.expand(len(codes), -1, -1, -1).contiguous(memory_format=torch.channels_last)
        image = None
        for i, to_rgb in enumerate(self.to_rgb):
            for j in (0,) if i == 0 else (2 * i - 1, 2 * i):
                x = self.convs[j](x, w[j], noise, self.clamp)
            image = to_rgb(x, w[2 * i + 1], image, self.clamp)
        assert image is not None  # there are always layers
        return image[:, :, slice(*self.crop)] if self.crop else image


def from_rosinality(state: Dict[str, Tensor], rows: tuple[float, float] | None = None) -> StyleGAN2:
    """A generator from a `g_ema` state dict of rosinality's converter, which pSp, e4e and ReStyle contain as well.

    rows: share of the image's rows that is kept, from and to; None keeps all
    w_avg stays zero: that format keeps it beside the state dict. Raises KeyError where a tensor is missing, and
    ValueError where images are not RGB.
    """
    _check_colours(state["to_rgb1.conv.weight"].shape[1])
    blocks = sum(name.startswith("to_rgbs.") and name.endswith(".conv.weight") for name in state)
    layers = sum(name.startswith("style.") and name.endswith(".weight") for name in state)
    names = ["conv1", *(f"convs.{i}" for i in range(2 * blocks))]
    channels = {4: state["conv1.conv.weight"].shape[1]}
    channels |= {8 * 2**i: state[f"convs.{2 * i + 1}.conv.weight"].shape[1] for i in range(blocks)}
    latent = state["conv1.conv.modulation.weight"].shape[1]
    crop = (round(rows[0] * max(channels)), round(rows[1] * max(channels))) if rows else None
    G = StyleGAN2(channels, layers, latent, crop)
    style = range(1, layers + 1)  # layer 0 is the normalisation
    tensors = {
        "mapping.weight": torch.stack([state[f"style.{i}.weight"] for i in style]) * 0.01 / math.sqrt(latent),
        "mapping.bias": torch.stack([state[f"style.{i}.bias"] for i in style]) * 0.01,
        "constant": state["input.input"],
    }
    for i, name in enumerate(names):
        weight = state[f"{name}.conv.weight"][0]
        tensors |= _affine(state, f"{name}.conv.modulation", f"convs.{i}.affine")
        tensors[f"convs.{i}.weight"] = weight / math.sqrt(weight[0].numel())
        tensors[f"convs.{i}.bias"] = state[f"{name}.activate.bias"]
        tensors[f"convs.{i}.strength"] = state[f"{name}.noise.weight"].reshape(())
        tensors[f"convs.{i}.noise"] = state.get(f"noises.noise_{i}", torch.zeros_like(G.convs[i].noise))
    for i, name in enumerate(["to_rgb1", *(f"to_rgbs.{i}" for i in range(blocks))]):
        weight = state[f"{name}.conv.weight"][0]
        tensors |= _affine(state, f"{name}.conv.modulation", f"to_rgb.{i}.affine")
        tensors[f"to_rgb.{i}.weight"] = weight / math.sqrt(weight[0].numel())
        tensors[f"to_rgb.{i}.bias"] = state[f"{name}.bias"].flatten()
    return _loaded(G, tensors)


def from_ada(state: Dict[str, Tensor], clamp: float | None = None, label: int = 0) -> StyleGAN2:
    """A generator from the parameters and buffers of NVIDIA's `G_ema` (stylegan2-ada-pytorch).

    label: of a class-conditional one, the class that `map` samples; codes and images are of all classes
    w_avg stays zero where there is none; without noise in training there is none here. Raises KeyError where a tensor
    is X
    """
    if "synthesis.b4.conv1.weight" in state and "synthesis.b4.torgb.weight" not in state:
        raise ValueError('a StyleGAN2 of the architecture "resnet" or "orig"; those of "skip" open')
    _check_colours(len(state["synthesis.b4.torgb.weight"]))
    sizes = sorted({int(name.split(".")[1][1:]) for name in state if name.startswith("synthesis.b")})
    channels = {s: len(state[f"synthesis.b{s}.conv1.weight"]) for s in sizes}
    latent = state["synthesis.b4.conv1.affine.weight"].shape[1]
    tensors = mapping.from_nvidia(state, latent, label)
    G = StyleGAN2(channels, len(tensors["mapping.weight"]), latent, clamp=clamp)
    tensors |= {"constant": state["synthesis.b4.const"][None], "w_avg": state.get("mapping.w_avg", G.w_avg)}
    noisy = any(name.endswith(".noise_strength") for name in state)
    names = ["synthesis.b4.conv1", *(f"synthesis.b{s}.conv{j}" for s in sizes[1:] for j in (0, 1))]
    for i, name in enumerate(names):
        tensors |= _affine(state, f"{name}.affine", f"convs.{i}.affine")
        tensors[f"convs.{i}.weight"] = state[f"{name}.weight"]  # demodulation makes its scale irrelevant
        tensors[f"convs.{i}.bias"] = state[f"{name}.bias"]
        if noisy:
            tensors[f"convs.{i}.strength"] = state[f"{name}.noise_strength"]
            tensors[f"convs.{i}.noise"] = state[f"{name}.noise_const"][None, None]
    for i, s in enumerate(sizes):
        name = f"synthesis.b{s}.torgb"
        weight = state[f"{name}.weight"]
        tensors |= _affine(state, f"{name}.affine", f"to_rgb.{i}.affine")
        tensors[f"to_rgb.{i}.weight"] = weight / math.sqrt(weight[0].numel())
        tensors[f"to_rgb.{i}.bias"] = state[f"{name}.bias"]
    unused = {} if noisy else {name: x for name, x in G.state_dict().items() if name.endswith((".strength", ".noise"))}
    return _loaded(G, unused | tensors)


def keeping_rows(G: StyleGAN2, rows: tuple[float, float]) -> StyleGAN2:
    """The same generator, tensors shared, whose square images keep this share of their rows, from and to."""
    G = copy.copy(G)
    top, bottom = (round(share * G.resolution[1]) for share in rows)
    G.crop, G.resolution = (top, bottom), (bottom - top, G.resolution[1])
    return G


def geometry(G: StyleGAN2) -> dict:
    """What `from_geometry` needs beside the tensors to build the generator again; fit for JSON."""
    channels = {4: G.constant.shape[1]} | {conv.noise.shape[-1]: len(conv.weight) for conv in G.convs[2::2]}
    kind = {"channels": channels, "layers": len(G.mapping.weight), "latent": len(G.w_avg)}
    return kind | {"crop": G.crop, "clamp": G.clamp}


def from_geometry(kind: dict, tensors: Dict[str, Tensor]) -> StyleGAN2:
    """The generator of these `geometry` and state dict. Raises KeyError or RuntimeError where they do not fit."""
    channels = {int(size): count for size, count in kind["channels"].items()}
    crop = tuple(kind["crop"]) if kind["crop"] else None
    return _loaded(StyleGAN2(channels, kind["layers"], kind["latent"], crop, kind["clamp"]), dict(tensors))


def _check_colours(channels: int) -> None:
    if channels != 3:
        raise ValueError(f"its images have {channels} channels, not 3")


def _affine(state: Dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    weight = state[f"{theirs}.weight"]
    return {f"{ours}.weight": weight / math.sqrt(weight.shape[1]), f"{ours}.bias": state[f"{theirs}.bias"]}


def _loaded(G: StyleGAN2, tensors: dict[str, Tensor]) -> StyleGAN2:
    G.load_state_dict({"w_avg": G.w_avg} | tensors)
    return G.eval().requires_grad_(False).to(memory_format=torch.channels_last)
