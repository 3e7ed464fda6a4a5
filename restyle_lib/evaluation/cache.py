"""What was measured, kept in the cache under a hash of all that it depends on: data, weights and this code."""

import hashlib
import io
import json
from collections.abc import Callable
from functools import cache
from pathlib import Path

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from restyle_lib.paths import WEIGHTS, cache_dir, keep

MEASURING = ("face-*.safetensors", "identity-mean.safetensors", "judge.safetensors", "faces-directions.*")


def digest(*parts) -> str:
    """SHA-256 of tensors, modules (their tensors) and plain values, in their order."""
    sha = hashlib.sha256()
    for part in parts:
        if isinstance(part, nn.Module):
            part = digest(*(x for item in part.state_dict().items() for x in item))
        if isinstance(part, Tensor):
            sha.update(f"{part.dtype} {list(part.shape)}".encode())
            part = part.detach().cpu().numpy().tobytes()
        sha.update(part if isinstance(part, bytes) else json.dumps(part).encode())
    return sha.hexdigest()


@cache
def _code() -> str:
    """The hash of the library's source, of the weights that measure or edit, and of PyTorch's version.

    Another way of measuring must not find old results.
    """
    files = sorted(Path(__file__).resolve().parent.parent.rglob("*.py"))
    files += sorted(file for pattern in MEASURING for file in WEIGHTS.glob(pattern))
    return digest(*(file.read_bytes() for file in files), torch.__version__)


def remembered(key: str, compute: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """The table that `compute` returns, from the cache where the same key and the same code have made it before."""
    path = _place(key, "csv")
    if path.exists():
        return pd.read_csv(path)
    text = compute().to_csv(index=False)
    keep(lambda temporary: temporary.write_text(text, encoding="utf-8"), path)
    return pd.read_csv(io.StringIO(text))  # the same digits, whether it was kept or not


def remembered_tensors(key: str, compute: Callable[[], dict[str, Tensor]]) -> dict[str, Tensor]:
    """The same for named tensors on the CPU."""
    path = _place(key, "safetensors")
    if path.exists():
        return load_file(path)
    tensors = {name: x.contiguous() for name, x in compute().items()}
    keep(lambda temporary: save_file(tensors, temporary), path)
    return tensors


def remembered_rows(
    keys: list[str], compute: Callable[[Tensor], dict[str, Tensor]], batch: int = 1
) -> dict[str, Tensor]:
    """The same for named tensors of n rows, each row under a key of its own, so that sets may share some of them.

    compute: makes the rows that the cache lacks, given the numbers of up to `batch` of them
    """
    paths = [_place(key, "safetensors") for key in keys]
    rows = {i: load_file(path) for i, path in enumerate(paths) if path.exists()}
    lacking = torch.tensor([i for i in range(len(keys)) if i not in rows], dtype=torch.long)
    for numbers in lacking.split(batch) if len(lacking) else ():
        made = compute(numbers)
        for row, i in enumerate(numbers.tolist()):
            one = {name: x[row : row + 1] for name, x in made.items()}
            rows[i] = remembered_tensors(keys[i], lambda one=one: one)
    return {name: torch.cat([rows[i][name] for i in range(len(keys))]) for name in rows[0]}


def _place(key: str, ending: str) -> Path:
    return cache_dir() / "results" / f"{digest(key, _code())}.{ending}"
