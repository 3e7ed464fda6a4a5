"""StyleGAN3 (Karras et al. 2021, "Alias-Free Generative Adversarial Networks"), T and R, at any size.

An image is a continuous signal here, of which every map holds samples: Fourier features at first, then layers that let
a little more of the spectrum through, one after another. A nonlinearity makes frequencies that the samples could not
hold, so it is applied at a higher rate, between two filters (`restyle_lib.generators.filters`). What the Fourier
features undergo, a shift, or in R a turn, the image undergoes with all its details.

As in `stylegan2`, activations are scaled before and after one kernel that all images share, and equalised learning
rates are folded into the weights when they are loaded.
"""

import math
import re
from collections.abc import Mapping as Dict
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_lib.generators import mapping
from restyle_lib.generators.filters import filtered_leaky_relu, lowpass, radial_lowpass
from restyle_lib.generators.mapping import Mapping, each_slot
from restyle_lib.generators.stylegan2 import Affine

LARGEST = 2048  # pixels, channels, dimensions of styles
LAYER = re.compile(r"synthesis\.(L(\d+)_(\d+)_\d+)\.weight")  # number and size; the channels are seen in the weight


class Signal(NamedTuple):
    """What a map holds: in cycles or samples per image."""

    cutoff: float
    half_width: float
    """Of the filter's transition band, beyond the cutoff."""
    rate: float
    size: int
    """Of the map, in samples: those of the image and a margin around it."""


@dataclass(frozen=True)
class Design:
    """What NVIDIA's settings decide, under their names; the defaults are those of StyleGAN3-T (appendix D)."""

    img_resolution: int
    channels: tuple[int, ...]
    """Of the map of each layer but the last, which makes RGB; the Fourier features have those of the first."""
    conv_kernel: int = 3
    """1 in StyleGAN3-R, where a kernel that has directions would not turn with the image."""
    use_radial_filters: bool = False
    """True in StyleGAN3-R."""
    num_critical: int = 2
    """Layers at the end that fill the spectrum that the image's pixels can hold, and so may alias a little."""
    first_cutoff: float = 2.0
    first_stopband: float = 2**2.1
    last_stopband_rel: float = 2**0.3
    margin_size: int = 10
    filter_size: int = 6
    """Taps of a filter for each sample of the lower rate."""
    lrelu_upsampling: int = 2
    conv_clamp: float | None = 256.0
    output_scale: float = 0.25

    def __post_init__(self):
        n, ranges = len(self.channels), {"margin_size": (0, 64), "filter_size": (1, 16), "lrelu_upsampling": (1, 4)}
        ranges |= {"img_resolution": (16, LARGEST), "conv_kernel": (1, 7), "num_critical": (1, n - 1)}
        for name, (low, high) in ranges.items():
            if not (isinstance(getattr(self, name), int) and low <= getattr(self, name) <= high):
                raise ValueError(f"{name} is {getattr(self, name)!r}, not a number from {low} to {high}")
        if not (2 <= n <= 62 and all(1 <= c <= LARGEST for c in self.channels)):
            raise ValueError(f"layers of {self.channels} channels are larger, or more, than any StyleGAN3's")
        if not 0 < self.first_cutoff < self.first_stopband < self.img_resolution / 2 * self.last_stopband_rel:
            raise ValueError(f"no filters pass {self.first_cutoff} and stop {self.first_stopband}")

    def signals(self) -> list[Signal]:
        """What each layer makes: cutoffs and stopbands grow geometrically (section 3.2)."""
        n, last_cutoff = len(self.channels), self.img_resolution / 2
        grown = np.minimum(np.arange(n + 1) / (n - self.num_critical), 1)
        cutoffs = self.first_cutoff * (last_cutoff / self.first_cutoff) ** grown
        stopbands = self.first_stopband * (last_cutoff * self.last_stopband_rel / self.first_stopband) ** grown
        rates = np.exp2(np.ceil(np.log2(np.minimum(2 * stopbands, self.img_resolution))))
        half_widths = np.maximum(stopbands, rates / 2) - cutoffs
        sizes = [*(rates[: n - 1] + 2 * self.margin_size), self.img_resolution, self.img_resolution]
        rows = zip(cutoffs, half_widths, rates, sizes, strict=True)
        return [Signal(float(cutoff), float(width), float(rate), int(size)) for cutoff, width, rate, size in rows]


class FourierFeatures(nn.Module):
    """w [B, 512] -> maps [B, C, s, s] of waves that w turns and shifts, mixed by a matrix (section 3.2)."""

    def __init__(self, latent: int, channels: int, signal: Signal):
        super().__init__()
        self.signal = signal
        self.affine = Affine(latent, 4)
        self.weight = nn.Parameter(torch.zeros(channels, channels))
        self.register_buffer("frequencies", torch.zeros(channels, 2))  # across and down, cycles per image
        self.register_buffer("phases", torch.zeros(channels))  # in cycles
        self.register_buffer("transform", torch.eye(3))

    def forward(self, w: Tensor, transform: Tensor | None = None) -> Tensor:
        """transform [3, 3] or [B, 3, 3]: see `StyleGAN3.synthesize`; None is the stored one, as a rule the identity."""
        transform = self.transform if transform is None else transform.to(w)
        learned = self.affine(w)
        cos, sin, *shift = (learned / learned[:, :2].norm(dim=1, keepdim=True)).unbind(1)
        turn = torch.stack([cos, -sin, sin, cos], 1).unflatten(1, (2, 2))
        shift = turn @ (transform[..., :2, 2] - torch.stack(shift, 1))[:, :, None]
        phases = self.phases + (self.frequencies @ shift)[:, :, 0]  # [B, C]
        frequencies = self.frequencies @ (turn @ transform[..., :2, :2])  # [B, C, 2]
        cutoff, _, rate, size = self.signal
        beyond = (frequencies.norm(dim=2) - cutoff) / (rate / 2 - cutoff)  # where a transform enlarges frequencies
        places = (torch.arange(size, device=w.device) + (1 - size) / 2) / rate
        across, down = (frequencies[:, None, :, i] * places[:, None] for i in (0, 1))  # [B, s, C]
        waves = torch.sin(2 * math.pi * (across[:, None] + down[:, :, None] + phases[:, None, None]))
        waves = waves * (1 - beyond).clamp(0, 1)[:, None, None]
        return F.linear(waves, self.weight).permute(0, 3, 1, 2)  # channels last, as it lies in memory


class FilteredConv(nn.Module):
    """Modulated and demodulated convolution, bias, and the leaky ReLU between filters, from one signal to another."""

    def __init__(
        self, latent: int, c_in: int, c_out: int, before: Signal, after: Signal, critical: bool, design: Design
    ):
        super().__init__()
        kernel, self.clamp = design.conv_kernel, design.conv_clamp
        self.affine = Affine(latent, c_in)
        self.weight = nn.Parameter(torch.zeros(c_out, c_in, kernel, kernel))
        self.bias = nn.Parameter(torch.zeros(c_out))
        self.register_buffer("gain", torch.ones(()))  # one over the deviation that its input had in training
        rate = max(before.rate, after.rate) * design.lrelu_upsampling
        self.up, self.down = round(rate / before.rate), round(rate / after.rate)
        taps_up, taps_down = design.filter_size * self.up, design.filter_size * self.down
        up = lowpass(taps_up, before.cutoff, before.half_width, rate)
        if design.use_radial_filters and not critical:
            down = radial_lowpass(taps_down, after.cutoff, after.half_width, rate)
        else:
            down = lowpass(taps_down, after.cutoff, after.half_width, rate)
        self.published = {"up_filter": up, "down_filter": down}  # as files have them
        self.register_buffer("up_filter", up, persistent=False)
        self.register_buffer("down_filter", down if down.ndim == 2 else torch.outer(down, down), persistent=False)
        # samples are as far from both edges after as before (appendix C.3), half a sample of the lower rate included
        missing = (after.size - 1) * self.down + 1 - (before.size + kernel - 1) * self.up + taps_up + taps_down - 2
        first = (missing + self.up) // 2
        self.padding = (first, missing - first)

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        with torch.autocast(w.device.type, enabled=False):
            style = self.affine(w)
            style = style * torch.rsqrt(style.square().mean(1, keepdim=True))
            energy = self.weight.square().sum((2, 3))  # [c_out, c_in]
            scale = self.gain * torch.rsqrt(style.square() @ energy.T + 1e-8)
        x = F.conv2d(x * style[:, :, None, None].to(x.dtype), self.weight, padding=self.weight.shape[2] - 1)
        x = torch.addcmul(self.bias[:, None, None].to(x.dtype), x, scale[:, :, None, None].to(x.dtype))
        return filtered_leaky_relu(x, self.up_filter, self.up, self.down_filter, self.down, self.padding, self.clamp)


class ToRGB(nn.Module):
    """Modulated 1x1 convolution to RGB, without demodulation, in [-1, 1] or about."""

    def __init__(self, latent: int, c_in: int, design: Design):
        super().__init__()
        self.clamp, self.scale = design.conv_clamp, design.output_scale
        self.affine = Affine(latent, c_in)
        self.weight = nn.Parameter(torch.zeros(3, c_in))
        self.bias = nn.Parameter(torch.zeros(3))

    def forward(self, x: Tensor, w: Tensor) -> Tensor:
        matrix = self.weight * self.affine(w)[:, None]  # [B, 3, c_in]
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # [B, h w, c_in]: channels last, as x lies in memory
        rgb = (pixels @ matrix.mT.to(x.dtype)).float() + self.bias
        rgb = rgb if self.clamp is None else rgb.clamp(-self.clamp, self.clamp)
        return self.scale * rgb.unflatten(1, x.shape[2:]).permute(0, 3, 1, 2)


class StyleGAN3(nn.Module):
    """A StyleGAN3 generator; see `restyle_lib.generators.Generator` for the interface that all share.

    layers: depth of the mapping network; latent: dimensions of w
    """

    def __init__(self, design: Design, layers: int = 2, latent: int = 512):
        super().__init__()
        if max(latent, 16 * layers) > LARGEST:
            raise ValueError(f"larger than any StyleGAN3: {layers} layers of mapping, latents of {latent}")
        n, signals, channels = len(design.channels), design.signals(), design.channels
        self.design, self.n_styles = design, n + 2
        self.resolution = (design.img_resolution, design.img_resolution)
        self.mapping = Mapping(layers, latent)
        self.input = FourierFeatures(latent, channels[0], signals[0])
        self.convs = nn.ModuleList()
        for i in range(n):
            before = max(i - 1, 0)
            between, critical = (signals[before], signals[i]), i >= n - design.num_critical
            self.convs.append(FilteredConv(latent, channels[before], channels[i], *between, critical, design))
        self.to_rgb = ToRGB(latent, channels[-1], design)
        self.register_buffer("w_avg", torch.zeros(latent))

    @property
    def slots_read(self) -> int:
        """All style slots reach the image: the first turns and shifts it, the others are those of the layers."""
        return self.n_styles

    def map(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """z [B, 512] ~ N(0, 1) -> w [B, 512], pulled towards w_avg by the truncation psi (StyleGAN, section 3.2)."""
        return torch.lerp(self.w_avg, self.mapping(z), psi)

    def synthesize(self, codes: Tensor, noise: str = "fixed", transform: Tensor | None = None) -> Tensor:
        """Codes [B, 512] or [B, k, 512] -> RGB images [B, 3, s, s], nominal range [-1, 1], not clamped.

        noise:     "fixed", "random" or "none", as for other generators; this one has none, and makes one image
        transform: [3, 3] or [B, 3, 3], of each place in the image to the place whose content comes there; x to the
                   right and y down from the centre, in widths of the image. So a shift of (-1/4, 0) moves a face to the
                   right by a quarter of the image. Only R can turn it. `restyle_lib.faces.align.landmarks_transform`
                   gives the one of a photograph. None: the face is where it was in training.
        Raises ValueError for codes or a transform of another shape, and for another word for noise.
        """
        if noise not in ("fixed", "random", "none"):
            raise ValueError(f'noise must be "fixed", "random" or "none", not {noise!r}')
        codes = each_slot(codes, self.n_styles, len(self.w_avg))
        if transform is not None and transform.shape not in ((3, 3), (len(codes), 3, 3)):
            raise ValueError(f"transform must be [3, 3] or [{len(codes)}, 3, 3], got {list(transform.shape)}")
        first, *w, last = codes.unbind(1)
        with torch.autocast(codes.device.type, enabled=False):
            x = self.input(first, transform)
        for conv, style in zip(self.convs, w, strict=True):
            x = conv(x, style)
        return self.to_rgb(x, last)


def from_nvidia(state: Dict[str, Tensor], settings: Dict[str, object] | None = None, label: int = 0) -> StyleGAN3:
    """A generator from the parameters and buffers of NVIDIA's (stylegan3), or of stylegan3-editing's decoder.

    settings: what it was built with, where the file says it; sizes and channels are seen in the tensors
    label:    of a class-conditional one, the class that `map` samples; codes and images are of all classes
    Raises KeyError where a tensor is missing, and ValueError where the design is one that `Design` cannot describe.
    """
    found = [re.fullmatch(LAYER, name) for name in state]
    layers = sorted((int(match[2]), int(match[3]), f"synthesis.{match[1]}") for match in found if match)
    if not layers or [number for number, *_ in layers] != list(range(len(layers))):
        raise ValueError("its layers L0, L1, … are not all there")
    *names, last = (name for *_, name in layers)
    if len(state[f"{last}.weight"]) != 3:
        raise ValueError(f"its images have {len(state[f'{last}.weight'])} channels, not 3")
    design: dict[str, Any] = {field.name: (settings or {}).get(field.name, field.default) for field in fields(Design)}
    design |= {
        "img_resolution": layers[-1][1],
        "channels": tuple(len(state[f"{name}.weight"]) for name in names),
        "conv_kernel": state[f"{names[0]}.weight"].shape[2],
        "use_radial_filters": any(state.get(f"{name}.down_filter", torch.ones(1)).ndim == 2 for name in names),
    }
    latent = state["synthesis.input.affine.weight"].shape[1]
    tensors = mapping.from_nvidia(state, latent, label)
    G = StyleGAN3(Design(**design), len(tensors["mapping.weight"]), latent)
    for signal, (_, size, name) in zip(G.design.signals(), layers, strict=True):
        if signal.size != size:
            raise ValueError(f"{name} is of a design that is not known: {signal.size} samples wide by its settings")
    mix, transform = state["synthesis.input.weight"], state.get("synthesis.input.transform", torch.eye(3))
    tensors |= _affine(state, "synthesis.input.affine", "input.affine") | {
        "w_avg": state.get("mapping.w_avg", G.w_avg),
        "input.weight": mix / math.sqrt(mix.shape[1]),
        "input.frequencies": state["synthesis.input.freqs"],
        "input.phases": state["synthesis.input.phases"],
        # stylegan3-editing leaves those of the last batch here, and reads none
        "input.transform": transform if transform.shape == (3, 3) else torch.eye(3),
    }
    for i, (conv, name) in enumerate(zip(G.convs, names, strict=True)):
        for kind, own in conv.published.items():
            theirs = state.get(f"{name}.{kind}", own)
            if theirs.shape != own.shape or (theirs - own).abs().max() > 1e-3 * own.abs().max():
                raise ValueError(f"{name}.{kind} is not the filter of its settings")
        weight = state[f"{name}.weight"]
        tensors |= _affine(state, f"{name}.affine", f"convs.{i}.affine") | {
            f"convs.{i}.weight": weight * torch.rsqrt(weight.square().mean((1, 2, 3), keepdim=True)),
            f"convs.{i}.bias": state[f"{name}.bias"],
            f"convs.{i}.gain": torch.rsqrt(state[f"{name}.magnitude_ema"]),
        }
    weight, gain = state[f"{last}.weight"].flatten(1), torch.rsqrt(state[f"{last}.magnitude_ema"])
    tensors |= _affine(state, f"{last}.affine", "to_rgb.affine") | {
        "to_rgb.weight": weight * gain / math.sqrt(weight.shape[1]),
        "to_rgb.bias": state[f"{last}.bias"],
    }
    return _loaded(G, tensors)


def geometry(G: StyleGAN3) -> dict:
    """What `from_geometry` needs beside the tensors to build the generator again; fit for JSON."""
    return {"design": asdict(G.design), "layers": len(G.mapping.weight), "latent": len(G.w_avg)}


def from_geometry(kind: dict, tensors: Dict[str, Tensor]) -> StyleGAN3:
    """The generator of these `geometry` and state dict. Raises KeyError, TypeError, … where they do not fit."""
    design = Design(**kind["design"] | {"channels": tuple(kind["design"]["channels"])})
    return _loaded(StyleGAN3(design, kind["layers"], kind["latent"]), dict(tensors))


def _affine(state: Dict[str, Tensor], theirs: str, ours: str) -> dict[str, Tensor]:
    weight = state[f"{theirs}.weight"]
    return {f"{ours}.weight": weight / math.sqrt(weight.shape[1]), f"{ours}.bias": state[f"{theirs}.bias"]}


def _loaded(G: StyleGAN3, tensors: dict[str, Tensor]) -> StyleGAN3:
    G.load_state_dict(tensors)
    return G.eval().requires_grad_(False).to(memory_format=torch.channels_last)
