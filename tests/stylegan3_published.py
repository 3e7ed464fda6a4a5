"""StyleGAN3 as its paper and NVIDIA's tensors define it, written the slow way: the parity tests compare with it.

Everything is in float64 NumPy: filters by SciPy, zeros really inserted between samples and multiplied, two-dimensional
convolutions without separation, a kernel for every image.
"""

import math

import numpy as np
import scipy.signal
import scipy.special
import torch
from official import _normal

T, R = {}, {"conv_kernel": 1, "use_radial_filters": True}  # what NVIDIA's two configurations set
DEFAULTS = {"num_critical": 2, "first_cutoff": 2, "first_stopband": 2**2.1, "last_stopband_rel": 2**0.3}
DEFAULTS |= {"margin_size": 10, "filter_size": 6, "lrelu_upsampling": 2, "conv_clamp": 256, "output_scale": 0.25}
DEFAULTS |= {"conv_kernel": 3, "use_radial_filters": False, "num_layers": 14, "channel_base": 32768, "channel_max": 512}


def plan(resolution: int, **settings) -> list[dict]:
    """The layers L0, L1, … of a configuration: what each is made of, the input's signal in "first"."""
    s = DEFAULTS | settings
    n, last = s["num_layers"], resolution / 2
    at = [min(i / (n - s["num_critical"]), 1) for i in range(n + 1)]
    cutoff = [s["first_cutoff"] * (last / s["first_cutoff"]) ** e for e in at]
    stop = [s["first_stopband"] * (last * s["last_stopband_rel"] / s["first_stopband"]) ** e for e in at]
    rate = [2 ** math.ceil(math.log2(min(2 * f, resolution))) for f in stop]
    width = [2 * (max(f, r / 2) - c) for f, r, c in zip(stop, rate, cutoff, strict=True)]
    size = [r + 2 * s["margin_size"] for r in rate[:-2]] + [resolution] * 2
    channels = [round(min(s["channel_base"] / 2 / c, s["channel_max"])) for c in cutoff[:-1]] + [3]
    layers = []
    for i in range(n + 1):
        j, rgb = max(i - 1, 0), i == n
        fine = max(rate[i], rate[j]) * (1 if rgb else s["lrelu_upsampling"])
        up, down = fine // rate[j], fine // rate[i]
        critical = i >= n - s["num_critical"]
        layer = {"c_in": channels[j], "c_out": channels[i], "in": size[j], "out": size[i], "up": up, "down": down}
        layer |= {"up_filter": None, "down_filter": None, "kernel": 1 if rgb else s["conv_kernel"], "rgb": rgb}
        if not rgb:
            layer["up_filter"] = lowpass(s["filter_size"] * up, cutoff[j], width[j], fine)
            radial = s["use_radial_filters"] and not critical
            layer["down_filter"] = lowpass(s["filter_size"] * down, cutoff[i], width[i], fine, radial)
        layer |= {"name": f"synthesis.L{i}_{size[i]}_{channels[i]}", "cutoff": cutoff[0], "rate": rate[0]}
        layers.append(layer)
    return layers


def lowpass(taps: int, cutoff: float, width: float, rate: float, radial: bool = False) -> np.ndarray:
    if not radial:
        return scipy.signal.firwin(taps, cutoff, width=width, fs=rate)
    x = (np.arange(taps) - (taps - 1) / 2) / rate
    r = np.sqrt(x[None] ** 2 + x[:, None] ** 2)
    window = np.kaiser(taps, scipy.signal.kaiser_beta(scipy.signal.kaiser_atten(taps, 2 * width / rate)))
    f = scipy.special.j1(2 * np.pi * cutoff * r) / (np.pi * r) * np.outer(window, window)
    return f / f.sum()


def tensors(resolution: int, seed: int = 0, classes: int = 0, w_dim: int = 512, **settings) -> dict[str, torch.Tensor]:
    """Random parameters and buffers under NVIDIA's names, none of them what it is at first; see `plan`."""
    rng, layers = np.random.RandomState(seed), plan(resolution, **settings)
    normal = lambda *shape: _normal(rng, list(shape))  # noqa: E731
    c = layers[0]["c_in"]
    turned = torch.tensor([1.0, 0, 0, 0]) + 0.3 * normal(4)
    state = {"synthesis.input.weight": normal(c, c), "synthesis.input.affine.weight": 0.2 * normal(4, w_dim)}
    state |= {"synthesis.input.affine.bias": turned, "synthesis.input.transform": torch.eye(3)}
    direction = torch.nn.functional.normalize(normal(c, 2), dim=1)
    state["synthesis.input.freqs"] = 2 * direction * torch.from_numpy(rng.rand(c, 1) ** 0.5).float()
    state["synthesis.input.phases"] = torch.from_numpy(rng.rand(c) - 0.5).float()
    for layer in layers:
        name, k, c_in, c_out = layer["name"], layer["kernel"], layer["c_in"], layer["c_out"]
        state |= {f"{name}.weight": 3 * normal(c_out, c_in, k, k), f"{name}.bias": normal(c_out)}
        state |= {f"{name}.affine.weight": normal(c_in, w_dim), f"{name}.affine.bias": 1 + normal(c_in)}
        state[f"{name}.magnitude_ema"] = torch.tensor(0.3 + rng.rand()).float()
        for kind in ("up_filter", "down_filter"):
            if layer[kind] is not None:
                state[f"{name}.{kind}"] = torch.from_numpy(layer[kind]).float()
    for i in range(2):
        known = 2 * w_dim if classes and i == 0 else w_dim
        state |= {f"mapping.fc{i}.weight": 100 * normal(w_dim, known), f"mapping.fc{i}.bias": 20 * normal(w_dim)}
    if classes:
        state |= {"mapping.embed.weight": normal(w_dim, classes), "mapping.embed.bias": normal(w_dim)}
    return state | {"mapping.w_avg": 0.3 * normal(w_dim)}


def synthesize(state: dict[str, torch.Tensor], resolution: int, codes: torch.Tensor, transform=None, **settings):
    """The images [B, 3, s, s] of codes [B, k, w_dim]."""
    settings = DEFAULTS | settings
    state = {name: value.double().numpy() for name, value in state.items()}
    layers = plan(resolution, **settings)
    transform = np.eye(3) if transform is None else np.asarray(transform)
    return torch.from_numpy(np.stack([_image(state, layers, w.double().numpy(), transform, settings) for w in codes]))


def _affine(state, name: str, w: np.ndarray) -> np.ndarray:
    weight = state[f"{name}.affine.weight"]
    return weight @ w / math.sqrt(weight.shape[1]) + state[f"{name}.affine.bias"]


def _image(state, layers, w, transform, settings) -> np.ndarray:
    x = _waves(state, layers[0], w[0], transform)
    for layer, style in zip(layers, w[1:], strict=True):
        x = _layer(state, layer, x, style, settings["conv_clamp"])
    return settings["output_scale"] * x


def _waves(state, first, w, transform) -> np.ndarray:
    name = "synthesis.input"
    a, b, x, y = _affine(state, name, w)
    length = math.hypot(a, b)
    a, b, x, y = a / length, b / length, x / length, y / length
    matrix = np.array([[a, -b, 0], [b, a, 0], [0, 0, 1]]) @ np.array([[1, 0, -x], [0, 1, -y], [0, 0, 1]]) @ transform
    size, rate = first["in"], first["rate"]
    at = (np.arange(size) - (size - 1) / 2) / rate
    down, across = np.meshgrid(at, at, indexing="ij")
    places = np.stack([across.ravel(), down.ravel(), np.ones(size * size)])
    moved = (matrix @ places)[:2]
    frequency, phase = state[f"{name}.freqs"], state[f"{name}.phases"]
    seen = np.linalg.norm(frequency @ matrix[:2, :2], axis=1)
    strength = np.clip(1 - (seen - first["cutoff"]) / (rate / 2 - first["cutoff"]), 0, 1)
    waves = strength[:, None] * np.sin(2 * np.pi * (frequency @ moved + phase[:, None]))
    return (state[f"{name}.weight"] @ waves / math.sqrt(len(waves))).reshape(-1, size, size)


def _layer(state, layer, x, w, clamp) -> np.ndarray:
    name, k, rgb = layer["name"], layer["kernel"], layer["rgb"]
    kernel, style = state[f"{name}.weight"], _affine(state, name, w)
    if rgb:
        kernel = kernel * style[:, None, None] / math.sqrt(layer["c_in"])
    else:
        kernel = kernel * style[:, None, None]
        kernel = kernel / np.sqrt((kernel**2).sum((1, 2, 3), keepdims=True))
    kernel = kernel / math.sqrt(state[f"{name}.magnitude_ema"])
    x = np.pad(x, ((0, 0), (k - 1, k - 1), (k - 1, k - 1)))
    windows = np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))
    x = np.einsum("ihwkl,oikl->ohw", windows, kernel, optimize=True) + state[f"{name}.bias"][:, None, None]
    if rgb:
        return np.clip(x, -clamp, clamp)
    up, down = layer["up"], layer["down"]
    fine = np.zeros((len(x), x.shape[1] * up, x.shape[2] * up))
    fine[:, ::up, ::up] = x
    f_up, f_down = (f if f.ndim == 2 else np.outer(f, f) for f in (layer["up_filter"], layer["down_filter"]))
    missing = (layer["out"] - 1) * down + 1 - fine.shape[1] + len(f_up) + len(f_down) - 2
    before = (missing + up) // 2
    fine = _padded(_padded(fine, before, missing - before, 1), before, missing - before, 2)
    fine = scipy.signal.fftconvolve(fine, up**2 * f_up[None], mode="valid", axes=(1, 2))
    fine = np.clip(math.sqrt(2) * np.where(fine < 0, 0.2 * fine, fine), -clamp, clamp)
    return scipy.signal.fftconvolve(fine, f_down[None], mode="valid", axes=(1, 2))[:, ::down, ::down]


def _padded(x: np.ndarray, before: int, after: int, axis: int) -> np.ndarray:
    widths = [(0, 0)] * 3
    widths[axis] = (max(before, 0), max(after, 0))
    x = np.pad(x, widths)
    return np.take(x, np.arange(max(-before, 0), x.shape[axis] - max(-after, 0)), axis)
