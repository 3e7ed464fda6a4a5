"""Reads pickles, bare or in PyTorch's files, without running anything that is in them.

A pickle is a small program that names classes and functions and has them called. Here a few names stand for tensors and
plain data; names of Python's own library beyond these are what attacks are made of, and end the reading; any other name
becomes an inert stand-in that keeps what it is given. Nothing is imported, and no source code in a file is looked at.
"""

import collections
import io
import os
import pickle
import pickletools
import re
import struct
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import torch
from torch import Tensor

LARGEST_PROGRAM = 2_000_000  # opcodes; a real file has about ten thousand
LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19"  # how PyTorch's files of before 2020 begin
# Modules that Python 2 had under other names; what they hold is as dangerous.
PYTHON = sys.stdlib_module_names | {"__builtin__", "commands", "copy_reg", "exceptions", "os2", "urllib2"}


class UnsafePickle(ValueError):
    """A pickle asks for something that no checkpoint has need of."""


class UnreadablePickle(ValueError):
    """A pickle is broken, or holds something else than a network."""


class Inert:
    """Stands in for a class or function: keeps what it is given in `args` and `state`, and does nothing."""

    args: tuple
    state: Any

    def __new__(cls, *args, **_):
        self = object.__new__(cls)
        self.args, self.state = args, {}
        return self

    def __init__(self, *_, **__):
        pass

    def __setstate__(self, state):
        self.state = state

    def __setitem__(self, key, value):
        """Of a class that is a dictionary."""

    def append(self, value):
        """Of a class that is a list."""

    extend = append


class Module(Inert):
    """Stands in for a persistent class of NVIDIA's: its metadata in `args`, its tensors and parts in `state`."""


class Dictionary(dict):
    """Stands in for dictionaries with attributes, and for a script's options."""

    def __setstate__(self, state):
        self.update(state)


class Dtype(Inert):
    """Stands in for NumPy's types of numbers."""

    def real(self) -> np.dtype | None:
        """The type itself, or None where it is not one of plain numbers."""
        code = self.args[0] if self.args else None
        if not isinstance(code, str) or not re.fullmatch(r"[biufc]\d{1,2}", code):
            return None
        order = self.state[1] if isinstance(self.state, tuple) and len(self.state) > 1 else "="
        return np.dtype(code).newbyteorder("<" if order == "<" else ">" if order == ">" else "=")


class Array(Inert):
    """Stands in for NumPy's arrays."""

    def tensor(self) -> Tensor | None:
        """The array as a tensor, or None where it is not one of plain numbers."""
        if not (isinstance(self.state, tuple) and len(self.state) == 5):
            return None
        _, shape, dtype, fortran, data = self.state
        kind = dtype.real() if isinstance(dtype, Dtype) else None
        if kind is None or not isinstance(data, bytes):
            return None
        values = np.frombuffer(data, kind).reshape(shape, order="F" if fortran else "C")
        return torch.from_numpy(np.ascontiguousarray(values.astype(kind.newbyteorder("="))))


class Read(NamedTuple):
    """What a pickle holds, and the names "module.name" that it asked for and that became stand-ins."""

    content: Any
    names: set[str]


def _reconstruct(meta):
    module = Module(meta)
    module.state = meta["state"] if isinstance(meta, dict) and isinstance(meta.get("state"), dict) else {}
    return module


def _storage(data):
    if not isinstance(data, bytes) or data.startswith(b"PK"):  # torch writes these in its old, uncompressed format
        raise UnsafePickle("a tensor's storage is not made of plain bytes")
    return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)


def _tensor(storage, offset, size, stride, *_) -> Tensor:
    size, stride = tuple(map(int, size)), tuple(map(int, stride))
    needed = 0 if 0 in size else offset + 1 + sum((n - 1) * step for n, step in zip(size, stride, strict=True))
    if min((offset, *size, *stride)) < 0 or needed > storage.size():  # PyTorch would enlarge the storage
        raise UnsafePickle("a tensor claims to be larger than its data")
    tensor = torch._utils._rebuild_tensor_v2(storage, offset, size, stride, False, None)
    if claims_too_much(tensor):
        raise UnsafePickle("a tensor claims to be larger than its data")
    return tensor


def claims_too_much(tensor: Tensor) -> bool:
    """Whether a tensor shows more elements than it stores: any use of it would fill the memory."""
    return tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes()


def _parameter(data, *_) -> Tensor:
    return data


def _with_attributes(rebuild, _, args, *__):
    return rebuild(*args) if rebuild in (_tensor, _parameter) else Inert()


def _array(*_) -> Array:
    return Array()


def _scalar(dtype, data=b""):
    kind = dtype.real() if isinstance(dtype, Dtype) else None
    return np.frombuffer(data, kind)[0].item() if kind and isinstance(data, bytes) and data else Inert(dtype, data)


def _encode(text, encoding="latin1"):
    return text.encode("latin1") if isinstance(text, str) and encoding == "latin1" else Inert(text)


def _path(*parts) -> str:
    return os.path.join(*parts) if parts and all(isinstance(part, str) for part in parts) else "."


def _object(kind, *_):
    return kind.__new__(kind) if isinstance(kind, type) and issubclass(kind, (Inert, Dictionary)) else Inert(kind)


def _dictionary(*_) -> dict:
    return {}


# What tensors and plain data are made of. All of them only keep, or convert, what is in the file already.
KNOWN: dict[tuple[str, str], Callable] = {
    ("torch_utils.persistence", "_reconstruct_persistent_obj"): _reconstruct,
    ("dnnlib.util", "EasyDict"): Dictionary,
    ("argparse", "Namespace"): Dictionary,
    ("types", "SimpleNamespace"): Dictionary,
    ("collections", "OrderedDict"): collections.OrderedDict,
    ("collections", "defaultdict"): _dictionary,
    ("collections", "Counter"): _dictionary,
    ("torch._utils", "_rebuild_tensor_v2"): _tensor,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _with_attributes,
    ("torch.storage", "_load_from_bytes"): _storage,
    ("numpy", "dtype"): Dtype,
    ("_codecs", "encode"): _encode,
    ("copyreg", "_reconstructor"): _object,
    ("copy_reg", "_reconstructor"): _object,
}
KNOWN |= {(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")}
KNOWN |= {(f"numpy.{core}.multiarray", "_reconstruct"): _array for core in ("core", "_core")}
KNOWN |= {(python, "set"): set for python in ("builtins", "__builtin__")}
KNOWN |= {(python, "frozenset"): frozenset for python in ("builtins", "__builtin__")}
# Names of Python's own library that stand for plain data; what they are made of does not matter here.
DATA = {f"builtins.{name}" for name in ("bool", "bytearray", "complex", "dict", "float", "int", "list", "object")}
DATA |= {f"builtins.{name}" for name in ("range", "slice", "str", "tuple")}
DATA |= {"collections.deque", "decimal.Decimal", "fractions.Fraction", "functools.partial", "uuid.UUID"}
DATA |= {f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")}


class _Reader(pickle._Unpickler):  # the Python one: the C one lets a file claim gigabytes for its memo
    def __init__(self, file: BinaryIO, persistent: Callable | None = None):
        super().__init__(file)
        self.names: dict[str, type[Inert]] = {}
        self.persistent = persistent

    def find_class(self, module: str, name: str):
        if (module, name) in KNOWN:
            return KNOWN[module, name]
        full, root = f"{module}.{name}", module.partition(".")[0]
        if root == "pathlib":
            return _path
        if root in PYTHON and full.replace("__builtin__", "builtins") not in DATA:
            raise UnsafePickle(f"it asks for {full}, which a checkpoint has no need of")
        if full not in self.names:
            self.names[full] = type(name.rpartition(".")[2], (Inert,), {"called": full})
        return self.names[full]

    def persistent_load(self, pid):
        if self.persistent is None:
            raise UnsafePickle("it refers to objects outside the file")
        return self.persistent(pid)

    def load_build(self) -> None:
        """Gives the last object its state: a stand-in, or what is plain data anyway; nothing of this program."""
        stack: list = self.stack  # type: ignore[attr-defined]
        state, target = stack.pop(), stack[-1]
        if isinstance(target, (Inert, Dictionary)):
            target.__setstate__(state)
        elif not isinstance(target, (dict, set, Tensor)):
            raise UnsafePickle("it changes what it did not make")

    dispatch = pickle._Unpickler.dispatch | {pickle.BUILD[0]: load_build}  # type: ignore[assignment]


def load(file: BinaryIO, persistent: Callable | None = None) -> Read:
    """What the pickle at the file's position holds; the file is left behind it.

    persistent: gives the object of a reference to outside the pickle; without it, such references are unsafe.
    Raises UnsafePickle, and UnreadablePickle for a broken pickle.
    """
    start = file.tell()
    try:
        for count, _ in enumerate(pickletools.genops(file)):  # which runs nothing
            if count > LARGEST_PROGRAM:
                raise UnsafePickle("it is a longer program than any checkpoint's")
        file.seek(start)
        reader = _Reader(file, persistent)
        return Read(reader.load(), set(reader.names))
    except UnsafePickle:
        raise
    except Exception as error:  # a broken program can fail anywhere
        raise UnreadablePickle(f"a broken or truncated pickle ({error}); download it again") from error


def read(path: Path) -> Read:
    """What a bare pickle, or a file that torch.save wrote, holds. Raises UnsafePickle and UnreadablePickle."""
    with path.open("rb") as file:
        head = file.read(len(LEGACY))
        file.seek(0)
        if head.startswith(b"PK"):
            return _read_zip(path)
        return _read_legacy(file, path.stat().st_size) if head == LEGACY else load(file)


def _read_zip(path: Path) -> Read:
    """The pickle of a torch file; its storages are entries of the archive beside it."""
    with zipfile.ZipFile(path) as archive:
        name = next(entry.filename for entry in archive.infolist() if entry.filename.endswith("data.pkl"))
        folder, storages = name.removesuffix("data.pkl"), {}

        def storage(pid):
            key, dtype = _reference(pid)
            if key not in storages:
                content = bytearray(archive.read(f"{folder}data/{key}"))
                untyped = torch.frombuffer(content, dtype=torch.uint8).untyped_storage() if content else None
                storages[key] = torch.UntypedStorage(0) if untyped is None else untyped
            return torch.storage.TypedStorage(wrap_storage=storages[key], dtype=dtype, _internal=True)

        return load(io.BytesIO(archive.read(name)), storage)


def _read_legacy(file: BinaryIO, size: int) -> Read:
    """A torch file of before 2020: three small pickles, that of the content, and all storages one after the other."""
    for _ in range(3):  # a magic number, a version, and the writer's byte order
        load(file)
    storages, left = {}, size

    def storage(pid):
        nonlocal left
        if isinstance(pid, tuple) and len(pid) > 1 and pid[0] == "module":
            return pid[1]  # a class beside its source code
        key, dtype = _reference(pid)
        if key not in storages:
            bytes_ = int(pid[4]) * dtype.itemsize
            left -= bytes_
            if left < 0 or bytes_ < 0:
                raise UnsafePickle("a tensor claims to be larger than the file")
            storages[key] = (torch.UntypedStorage(bytes_), dtype)
        return torch.storage.TypedStorage(wrap_storage=storages[key][0], dtype=dtype, _internal=True)

    found = load(file, storage)
    for key in load(file).content:
        untyped, dtype = storages[str(key)]
        (count,) = struct.unpack("<q", file.read(8))
        if count * dtype.itemsize != untyped.nbytes():
            raise UnreadablePickle("a storage of another size than its tensors say; download it again")
        if count:
            data = bytearray(file.read(untyped.nbytes()))
            untyped.copy_(torch.frombuffer(data, dtype=torch.uint8).untyped_storage())
    return found


def _reference(pid) -> tuple[str, torch.dtype]:
    """Key and type of the storage that a torch pickle refers to."""
    if not (isinstance(pid, tuple) and len(pid) >= 5 and pid[0] == "storage"):
        raise UnsafePickle("it refers to objects outside the file")
    called = str(getattr(pid[1], "called", "")).rpartition(".")[2]
    kind = {f"{t}Storage": d for t, d in STORAGES.items()}.get(called)
    if kind is None:
        raise UnreadablePickle(f"a tensor of an unknown type ({called or type(pid[1]).__name__})")
    return str(pid[2]), kind


STORAGES = {"Float": torch.float32, "Double": torch.float64, "Half": torch.float16, "BFloat16": torch.bfloat16}
STORAGES |= {"Long": torch.int64, "Int": torch.int32, "Short": torch.int16, "Char": torch.int8, "Byte": torch.uint8}
STORAGES |= {"Bool": torch.bool, "Untyped": torch.uint8}


def is_module(thing) -> bool:
    """Whether a stand-in is that of a network: it has parameters, buffers or parts."""
    return isinstance(thing, Inert) and isinstance(thing.state, dict) and "_modules" in thing.state


def tensors(module: Inert) -> dict[str, Tensor]:
    """The parameters and buffers of a network's stand-in by name, floating-point ones as fp32. Raises UnsafePickle."""
    found: dict[str, Tensor] = {}
    _collect(module, "", found, set())
    while found and all(name.startswith("module.") for name in found):  # of training on several GPUs
        found = {name.removeprefix("module."): value for name, value in found.items()}
    return found


def _collect(module: Inert, prefix: str, found: dict[str, Tensor], seen: set[int]) -> None:
    if id(module) in seen:
        raise UnsafePickle("its modules contain one another")
    seen.add(id(module))
    for kind in ("_parameters", "_buffers"):
        for name, value in (module.state.get(kind) or {}).items():
            if isinstance(value, Tensor):
                found[prefix + name] = value.detach().float() if value.is_floating_point() else value
    for name, part in (module.state.get("_modules") or {}).items():
        if is_module(part):
            _collect(part, f"{prefix}{name}.", found, seen)
