"""Reads NVIDIA's stylegan2-ada-pytorch pickles without NVIDIA's code and without running anything that is in them.

A pickle is a small program. This reader knows the few names that such files use and maps each to an inert stand-in;
any other name ends the reading. The source code that the files carry (`module_src`) is never looked at.
"""

import collections
import io
import pickle
import pickletools
from pathlib import Path
from typing import BinaryIO

import torch
from torch import Tensor

LARGEST_PROGRAM = 2_000_000  # opcodes; a real file has about ten thousand


class UnsafePickle(ValueError):
    """A pickle asks for something that a generator's file has no need of."""


class UnreadablePickle(ValueError):
    """A pickle is broken, or holds something else than a generator."""


class Inert:
    """Stands in for a class: keeps what it is given and does nothing."""

    def __init__(self, *args, **kwargs):
        self.args, self.state = args, kwargs

    def __setstate__(self, state):
        self.state = state


class Module(Inert):
    """Stands in for a persistent class of NVIDIA's: its metadata in `args`, its tensors and parts in `state`."""


class EasyDict(dict):
    """Stands in for dnnlib's dictionary with attributes."""

    def __setstate__(self, state):
        self.update(state)


def _reconstruct(meta):
    module = Module(meta)
    module.state = meta["state"] if isinstance(meta, dict) and isinstance(meta.get("state"), dict) else {}
    return module


def _storage(data) -> torch.UntypedStorage:
    if not isinstance(data, bytes) or data.startswith(b"PK"):  # torch writes these in its old, uncompressed format
        raise UnsafePickle("a tensor's storage is not made of plain bytes")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage, offset, size, stride, *_) -> Tensor:
    tensor = torch._utils._rebuild_tensor_v2(storage, offset, tuple(size), tuple(stride), False, None)
    if claims_too_much(tensor):
        raise UnsafePickle("a tensor claims to be larger than its data")
    return tensor


def claims_too_much(tensor: Tensor) -> bool:
    """Whether a tensor shows more elements than it stores: any use of it would fill the memory."""
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _parameter(data, *_) -> Tensor:
    return data


ALLOWED = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _reconstruct,
    ("dnnlib.util", "EasyDict"): EasyDict,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("torch.nn.modules.container", "ModuleList"): Module,
    ("torch.nn.modules.container", "Sequential"): Module,
    ("builtins", "set"): set,  # which names of buffers are not saved
    ("__builtin__", "set"): set,
    ("torch", "device"): Inert,
    ("torch", "dtype"): Inert,
    ("torch", "float32"): None,
    ("torch", "float16"): None,
    ("numpy", "dtype"): Inert,
    ("numpy", "ndarray"): Inert,
    ("numpy.core.multiarray", "scalar"): Inert,
    ("numpy.core.multiarray", "_reconstruct"): Inert,
    ("numpy._core.multiarray", "scalar"): Inert,
    ("numpy._core.multiarray", "_reconstruct"): Inert,
    ("_codecs", "encode"): Inert,
}


class _Reader(pickle._Unpickler):  # the Python one: the C one lets a file claim gigabytes for its memo
    def find_class(self, module: str, name: str):
        try:
            return ALLOWED[module, name]
        except KeyError:
            raise UnsafePickle(f"it asks for {module}.{name}, which a generator's file has no need of") from None

    def persistent_load(self, _):
        raise UnsafePickle("it refers to objects outside the file")


def _check_program(file: BinaryIO) -> None:
    """Walks through the opcodes, which runs nothing: refuses programs that are endless or broken."""
    for count, _ in enumerate(pickletools.genops(file)):
        if count > LARGEST_PROGRAM:
            raise UnsafePickle("it is a longer program than any generator's file")
    file.seek(0)


def read(path: Path) -> tuple[dict[str, Tensor], float | None]:
    """The tensors of G_ema by name ("synthesis.b4.const", "mapping.w_avg", ...), and the bound of its activations.

    The bound is None unless the model was trained in half precision. Raises UnsafePickle for a pickle that asks for
    anything else than tensors and plain data, and UnreadablePickle for a broken one or one without G_ema.
    """
    with path.open("rb") as file:
        try:
            _check_program(file)
            content = _Reader(file).load()
        except UnsafePickle:
            raise
        except Exception as error:  # a broken program can fail anywhere
            raise UnreadablePickle(f"a broken or truncated pickle ({error}); download it again") from error
    G = content.get("G_ema") if isinstance(content, dict) else None
    if not isinstance(G, Module):
        raise UnreadablePickle("a pickle, but with no G_ema in it: not a stylegan2-ada-pytorch network")
    tensors: dict[str, Tensor] = {}
    _collect(G, "", tensors, set())
    clamp = G.state.get("_init_kwargs", {}).get("synthesis_kwargs", {}).get("conv_clamp")
    return tensors, float(clamp) if isinstance(clamp, (int, float)) else None


def _collect(module: Module, prefix: str, tensors: dict[str, Tensor], seen: set[int]) -> None:
    if id(module) in seen:
        raise UnsafePickle("its modules contain one another")
    seen.add(id(module))
    for kind in ("_parameters", "_buffers"):
        for name, value in (module.state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                tensors[prefix + name] = value.detach().float()
    for name, part in (module.state.get("_modules") or {}).items():
        if isinstance(part, Module):
            _collect(part, f"{prefix}{name}.", tensors, seen)
