"""Official checkpoints with deterministic weights, for the parity tests: every value follows from key, shape, seed."""

import json
import pickle
import re
import sys
import types
from contextlib import contextmanager
from pathlib import Path
from zlib import crc32

import numpy as np
import torch
from safetensors import safe_open

DATA = Path(__file__).parent / "data"
BUFFERS = ("w_avg", "noise_const", "resample_filter", "transform", "freqs", "phases", "magnitude_ema")
BUFFERS += ("up_filter", "down_filter")  # of NVIDIA's networks


def reference(name: str) -> tuple[dict[str, torch.Tensor], dict]:
    """The tensors that the official code produced, and how: seed, stride of the stored images, keys, options."""
    with safe_open(DATA / f"{name}.safetensors", "pt") as file:
        return {key: file.get_tensor(key) for key in file.keys()}, json.loads(file.metadata()["meta"])  # noqa: SIM118


def value(key: str, shape: list[int], normed: bool, seed: int) -> torch.Tensor:
    """The tensor of an official inverter or rosinality generator ("decoder." before its keys)."""
    rng = np.random.RandomState((crc32(key.encode()) + 1000003 * seed) % 2**32)
    if key.endswith(".kernel"):
        row = torch.tensor([1.0, 3, 3, 1])
        return torch.outer(row, row) / 16
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.long)
    if key.endswith("running_var"):
        return 0.75 + 0.5 * _uniform(rng, shape)
    scale, shift = 1.0, 0.0
    if key.endswith("running_mean"):
        scale = 0.1
    elif key.startswith("decoder."):
        if re.fullmatch(r"decoder\.style\.\d+\.weight", key):
            scale = 100
        elif re.fullmatch(r"decoder\.style\.\d+\.bias", key):
            scale = 20
        elif key.endswith("modulation.bias"):
            scale, shift = 0.1, 1
        elif key.endswith(("noise.weight", "bias")):
            scale = 0.1
    elif re.search(r"styles\.\d+\.linear\.weight$", key):
        scale = 0.25
    elif len(shape) == 4:
        scale = float(np.sqrt(2 / np.prod(shape[1:])))
    elif key.endswith("bias"):
        scale = 0.1
    elif normed:
        last = key.endswith(("res_layer.4.weight", "bn2.weight"))
        return (0.25 if last else 1.0) * (0.75 + 0.5 * _uniform(rng, shape))
    else:
        scale, shift = 0.05, 0.25
    return shift + scale * _normal(rng, shape)


def state_dict(keys: dict[str, list[int]], seed: int) -> dict[str, torch.Tensor]:
    """A whole state dict by the rule of `value`."""
    return {k: value(k, shape, f"{k.rpartition('.')[0]}.running_mean" in keys, seed) for k, shape in keys.items()}


def inputs(batch: int, seed: int, size: int = 256) -> torch.Tensor:
    """The images that the official code was given."""
    rng = np.random.RandomState(900 + seed)
    coarse = torch.from_numpy(rng.standard_normal((batch, 3, size // 16, size // 16)).astype(np.float32))
    fine = torch.from_numpy(rng.standard_normal((batch, 3, size, size)).astype(np.float32))
    smooth = torch.nn.functional.interpolate(coarse, size=(size, size), mode="bilinear", align_corners=False)
    return (smooth * 0.6 + 0.1 * fine).clamp(-1, 1)


def inverter_checkpoint(name: str) -> tuple[dict, dict[str, torch.Tensor], dict]:
    """An official checkpoint as a dict, with the reference tensors and their metadata."""
    tensors, meta = reference(name)
    state = state_dict(meta["keys"], meta["seed"])
    n_styles = tensors["latents"].shape[2]
    latent_avg = tensors["latent_avg"].repeat(n_styles, 1)
    return {"state_dict": state, "opts": meta["opts"], "latent_avg": latent_avg}, tensors, meta


def ada_tensors(meta: dict) -> dict[str, torch.Tensor]:
    """The parameters and buffers of an NVIDIA generator by the rule of its reference."""
    tensors = {}
    for key, shape in meta["keys"].items():
        if key.endswith("resample_filter"):
            continue
        rng = np.random.RandomState((crc32(key.encode()) + 1000003 * meta["seed"]) % 2**32)
        x = _normal(rng, shape)
        if key.endswith("affine.bias"):
            x = 1 + 0.1 * x
        elif re.fullmatch(r"mapping\.fc\d+\.weight", key):
            x = x / 0.01
        elif re.fullmatch(r"mapping\.fc\d+\.bias", key):
            x = 20 * x
        elif key.endswith(("noise_strength", "bias")):
            x = 0.1 * x
        elif key == "mapping.w_avg":
            x = 0.3 * x
        tensors[key] = x
    return tensors


def small(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Tensors cut to at most eight of what they have more than sixteen of: they still fit each other."""
    cut = {key: x[tuple(slice(8 if n > 16 else n) for n in x.shape)] for key, x in tensors.items()}
    return {key: x.clone().contiguous() for key, x in cut.items()}


def write_ada_pickle(
    path: Path,
    tensors: dict[str, torch.Tensor],
    protocol: int = 3,
    tuned: dict | None = None,
    settings: dict | None = None,
    attributes: dict | None = None,
    **synthesis_kwargs,
) -> None:
    """Writes tensors as NVIDIA's code would: nested persistent modules in an EasyDict, with their source code.

    tuned: instead as pivotal tuning does: G itself, by torch.save with these options
    settings: other arguments that G was made with; StyleGAN3 has its synthesis' among them
    attributes: of every layer and block
    """
    persistence, util = types.ModuleType("torch_utils.persistence"), types.ModuleType("dnnlib.util")

    def _reconstruct_persistent_obj(meta):
        raise AssertionError("only its name is written")

    class EasyDict(dict):
        pass

    for module, thing in ((persistence, _reconstruct_persistent_obj), (util, EasyDict)):
        thing.__module__, thing.__qualname__ = module.__name__, thing.__name__
        setattr(module, thing.__name__, thing)

    class Persistent:
        def __init__(self, name):
            self.name, self.parts = name, {"_parameters": {}, "_buffers": {}, "_modules": {}}
            self.parts["_non_persistent_buffers_set"] = set()

        def __reduce__(self):
            kwargs = EasyDict()
            if self.name == "Generator":
                kwargs = EasyDict(settings or {}, synthesis_kwargs=EasyDict(synthesis_kwargs))
            state = (attributes or {}) | self.parts | {"_init_args": (), "_init_kwargs": kwargs, "training": False}
            meta = EasyDict(type="class", version=6, module_src="raise SystemExit('run!')", class_name=self.name)
            meta["state"] = state
            return _reconstruct_persistent_obj, (meta,)

    root = Persistent("Generator")
    for key, tensor in tensors.items():
        *folders, name = key.split(".")
        module = root
        for folder in folders:
            module = module.parts["_modules"].setdefault(folder, Persistent(folder))
        buffer = name in BUFFERS
        kind = "_buffers" if buffer else "_parameters"
        module.parts[kind][name] = tensor if buffer else torch.nn.Parameter(tensor)
    content = {"training_set_kwargs": EasyDict(), "G": None, "D": None, "G_ema": root, "augment_pipe": None}
    fakes = {"torch_utils": types.ModuleType("torch_utils"), "torch_utils.persistence": persistence}
    fakes |= {"dnnlib": types.ModuleType("dnnlib"), "dnnlib.util": util}
    saved = {name: sys.modules.get(name) for name in fakes}
    sys.modules.update(fakes)
    try:
        if tuned is None:
            path.write_bytes(pickle.dumps(content, protocol))
        else:
            torch.save(root, path, **tuned)
    finally:
        for name, module in saved.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


@contextmanager
def made_up(*names: str):
    """Classes of modules that nobody has: "models.model.Net" gives a class of this name, for a while."""
    modules, classes = {}, []
    for name in names:
        module, _, called = name.rpartition(".")
        parts = module.split(".")
        for i in range(len(parts)):
            modules.setdefault(".".join(parts[: i + 1]), types.ModuleType(".".join(parts[: i + 1])))
        kind = type(called, (torch.nn.Module,), {"__module__": module})
        setattr(modules[module], called, kind)
        classes.append(kind)
    saved = {name: sys.modules.get(name) for name in modules}
    sys.modules.update(modules)
    try:
        yield classes
    finally:
        for name, module in saved.items():
            sys.modules.pop(name) if module is None else sys.modules.update({name: module})


def as_modules(kind: type, tensors: dict[str, torch.Tensor]) -> torch.nn.Module:
    """A network of these tensors: its parts are PyTorch's own modules, the whole is of class `kind`."""
    root = kind()
    for key, tensor in tensors.items():
        *folders, name = key.split(".")
        module = root
        for folder in folders:
            if folder not in module._modules:
                module.add_module(folder, torch.nn.Sequential())
            module = module._modules[folder]
        module.register_parameter(name, torch.nn.Parameter(tensor, requires_grad=tensor.is_floating_point()))
    return root


def _normal(rng: np.random.RandomState, shape: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rng.standard_normal(shape), dtype=np.float32)).reshape(shape)


def _uniform(rng: np.random.RandomState, shape: list[int]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(rng.random_sample(shape), dtype=np.float32)).reshape(shape)
