"""Opens every checkpoint format by looking at the file: what it is, how to read it safely, what it becomes.

Nothing in a file is ever executed: safetensors hold no code, `.pt` files are read with weights_only=True, and what
holds more than tensors, or is a bare pickle, by `checkpoints.inert`.
"""

import argparse
import json
import struct
import warnings
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from restyle_lib.assets import AssetError
from restyle_lib.checkpoints import inert, nvidia_pickle, state_dicts
from restyle_lib.checkpoints.domains import Domain, of_dataset
from restyle_lib.generators import stylegan2, stylegan3
from restyle_lib.generators.stylegan2 import StyleGAN2
from restyle_lib.generators.stylegan3 import StyleGAN3
from restyle_lib.paths import save_atomically

OURS = "restyle-companion "  # how the formats of our safetensors begin
FORMATS = {StyleGAN2: "restyle-companion stylegan2 1", StyleGAN3: "restyle-companion stylegan3 1"}
INVERTER_FORMAT = "restyle-companion full-size inverter 1"
LARGEST_HEADER = 100 * 2**20
AS_TENSORS = 'save its tensors instead: torch.save({"g_ema": G.state_dict(), "latent_avg": mean}, "generator.pt")'
NOTHING_RUN = "Nothing in it was run; get the file from its authors"


class CheckpointError(ValueError):
    """A file is not a checkpoint that can be used; the message says what it is and what to do."""


def read(path: Path) -> tuple[str, dict]:
    """What the file at `path` holds: ("safetensors", {metadata, tensors}), ("torch", content), or a network of NVIDIA.

    The last is ("ada" or "stylegan3", {tensors, settings}), see `nvidia_pickle`. Safetensors of other programs are
    "torch" too: a state dict.

    Raises CheckpointError in one line for anything else: missing, empty, an HTML page, truncated, hostile.
    """
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file")
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        raise CheckpointError(f"{path}: the file is empty; download it again")
    if head.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        raise CheckpointError(f"{path}: a web page, not a checkpoint; open its address in a browser and download again")
    try:
        # first, since the length that a safetensors file begins with can have any bytes, those of a pickle too
        if len(head) > 9 and 2 <= struct.unpack("<Q", head[:8])[0] <= min(size, LARGEST_HEADER) and head[8:9] == b"{":
            with safe_open(path, "pt") as file:
                tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (a file, not a dict)
                metadata = file.metadata() or {}
            if metadata.get("format", "").startswith(OURS):
                return "safetensors", {"metadata": metadata, "tensors": tensors}
            return "torch", tensors
        if head.startswith(b"PK"):
            _check_zip(path, size)
            return _read_torch(path)
        if head.startswith(b"\x80"):
            return _read_pickle(path)
    except inert.UnsafePickle as error:
        raise CheckpointError(f"{path}: refused: {error}. {NOTHING_RUN}") from error
    except inert.UnreadablePickle as error:
        raise CheckpointError(f"{path}: {error}") from error
    except SafetensorError as error:
        raise CheckpointError(f"{path}: a damaged safetensors file ({error}); download it again") from error
    except CheckpointError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(f"{path}: a damaged or truncated checkpoint ({reason}); download it again") from error
    raise CheckpointError(f"{path}: not a checkpoint of any known format")


def _check_zip(path: Path, size: int) -> None:
    """Raises for archives that torch did not write: compressed, or larger inside than outside (zip bombs)."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
    except zipfile.BadZipFile as error:
        raise CheckpointError(f"{path}: a truncated archive ({error}); download it again") from error
    if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries) or sum(e.file_size for e in entries) > size:
        raise CheckpointError(
            f"{path}: a compressed archive, which no checkpoint is; if there is one in it, unpack it and give that"
        )
    if not any(entry.filename.endswith("data.pkl") for entry in entries):
        raise CheckpointError(f"{path}: a zip archive, but not a checkpoint")


def _read_torch(path: Path) -> tuple[str, dict]:
    """A file of torch.save: as tensors and plain data, or else through stand-ins."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):  # of training scripts; it only holds values
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # it holds more than tensors, or is damaged
        try:
            return _of_stand_ins(*inert.read(path))
        except inert.UnsafePickle:
            raise
        except inert.UnreadablePickle as found:
            raise found if "broken" not in str(found) else error from error
    for group in (content, *content.values()) if isinstance(content, Mapping) else ():
        for name, value in group.items() if isinstance(group, Mapping) else ():
            if isinstance(value, Tensor) and inert.claims_too_much(value):
                raise CheckpointError(f"{path}: refused: its tensor {name} claims to be larger than its data")
    return "torch", content


def _of_stand_ins(content, names: set[str]) -> tuple[str, dict]:
    """What a pickle holds that is of whole objects, or of plain data: networks become their tensors.

    Raises UnreadablePickle where it is one object that is no network, or where all networks in it are unknown ones.
    """
    nvidia_pickle.not_of_tensorflow(names)
    if inert.is_module(content):
        return _of_module(content)
    if not isinstance(content, dict):
        named = ", ".join(sorted(names)[:3]) or type(content).__name__
        raise inert.UnreadablePickle(f"a pickled object ({named}), not a network; {AS_TENSORS}")
    found = {name: value.tensor() if isinstance(value, inert.Array) else value for name, value in content.items()}
    modules: list[inert.Inert] = [content[name] for name in state_dicts.NAMES if inert.is_module(content.get(name))]
    for module in modules:
        if state_dicts.generator(tensors := inert.tensors(module)) or state_dicts.official(tensors):
            kind, network = _of_module(module)
            mean = found.get("latent_avg")
            return kind, network if mean is None else network | {"latent_avg": mean}
    found |= {name: inert.tensors(value) for name, value in content.items() if inert.is_module(value)}
    if modules and not (state_dicts.generator(found) or state_dicts.official(found)):
        return _of_module(modules[0])  # raises, and says what it is
    return "torch", found


def _of_module(module: inert.Inert) -> tuple[str, dict]:
    """A network that was pickled as a whole: NVIDIA's generator, rosinality's, or an official encoder with it."""
    tensors = inert.tensors(module)
    if not tensors:
        raise inert.UnreadablePickle(f"a pickled network without tensors; {AS_TENSORS}")
    if any(name.startswith("decoder.") for name in tensors):
        state = module.state
        return "torch", {"state_dict": tensors, "opts": state.get("opts"), "latent_avg": state.get("latent_avg")}
    if state_dicts.kind_of(tensors) == "rosinality":
        return "torch", {"g_ema": tensors}
    return nvidia_pickle.generator(module, tensors)


def _read_pickle(path: Path) -> tuple[str, dict]:
    """A bare pickle is NVIDIA's, or torch's format of before 2020, whose first object is a magic number."""
    with path.open("rb") as file:
        legacy = file.read(len(inert.LEGACY)) == inert.LEGACY
    return _read_torch(path) if legacy else _of_stand_ins(*inert.read(path))


def to_generator(path: Path) -> StyleGAN2 | StyleGAN3:
    """What is in a file: rosinality's g_ema, NVIDIA's pickle, an official inverter's decoder, a StyleGAN3, or ours.

    A missing mean code is estimated from 100,000 samples, with a warning. Raises CheckpointError.
    """
    return generator_in(path, *read(path))


def generator_in(path: Path, kind: str, content: dict) -> StyleGAN2 | StyleGAN3:
    """As `to_generator`, of what `read` found in the file at `path`."""
    with fitting(path):
        if kind == "safetensors":
            return _generator_from_safetensors(path, content)
        mean = content.get("latent_avg") if isinstance(content, Mapping) else None
        if kind != "torch":
            G = _built(path, kind, content["tensors"], content["settings"])
            return _with_mean(G, _mean(mean, content["tensors"]), path)
        if found := state_dicts.generator(content):
            return _with_mean(_built(path, *found), _mean(mean, found[1]), path)
        if network := state_dicts.official(content):
            return decoder(network, path)
    raise CheckpointError(f"{path}: no generator in it; it holds {state_dicts.called(content)}")


def _built(
    path: Path,
    kind: str,
    tensors: dict[str, Tensor],
    settings: dict | None = None,
    rows: tuple[float, float] | None = None,
) -> StyleGAN2 | StyleGAN3:
    """The generator of a kind that `state_dicts` knows; settings: of `nvidia_pickle`; rows: see `from_rosinality`."""
    if (embedding := tensors.get("mapping.embed.weight")) is not None:
        warnings.warn(
            f"{path} is of {embedding.shape[1]} classes; inversion needs to know none, samples are of class 0",
            stacklevel=3,
        )
    if kind == "stylegan3":
        return stylegan3.from_nvidia(tensors, settings)
    if kind == "ada":
        G = stylegan2.from_ada(tensors, **settings or {})
        return stylegan2.keeping_rows(G, rows) if rows else G
    return stylegan2.from_rosinality(tensors, rows)


def _mean(given: Tensor | None, tensors: Mapping[str, Tensor]) -> Tensor | None:
    """The mean code that a file keeps: beside its tensors, among them, or in NVIDIA's mapping network."""
    known = (given, tensors.get("latent_avg"), tensors.get("mapping.w_avg"))
    return next((mean for mean in known if mean is not None), None)


@contextmanager
def fitting(path: Path) -> Iterator[None]:
    """Turns whatever goes wrong while a network is built from the file at `path` into one CheckpointError."""
    try:
        yield
    except (CheckpointError, AssetError):
        raise
    except Exception as error:  # tensors and settings of an untrusted file can be wrong in any way
        reason = " ".join(str(error).splitlines()[:2])[:200] or type(error).__name__
        raise CheckpointError(f"{path}: its tensors fit no known network ({reason})") from error


def part(tensors: Mapping[str, Tensor], name: str) -> dict[str, Tensor]:
    """The tensors whose names begin with "<name>.", without that."""
    return {key.removeprefix(f"{name}."): value for key, value in tensors.items() if key.startswith(f"{name}.")}


def options(content: Mapping) -> dict:
    """The training options that an official checkpoint carries."""
    opts = content.get("opts") or {}
    return vars(opts) if isinstance(opts, argparse.Namespace) else dict(opts)


def decoder(content: Mapping, path: Path, domain: Domain | None = None) -> StyleGAN2 | StyleGAN3:
    """The generator of an official pSp, e4e or ReStyle checkpoint.

    domain: of its images, where the checkpoint's own `dataset_type` is not to be believed
    """
    opts = options(content)
    domain = domain or of_dataset(str(opts.get("dataset_type", "")))
    tensors = part(content["state_dict"], "decoder")
    kind = state_dicts.kind_of(tensors)
    if kind is None:
        raise CheckpointError(f"{path}: its decoder is no StyleGAN2 or 3 that is known; {nvidia_pickle.OPENS}")
    G = _built(path, kind, tensors, rows=domain.rows)
    expected = opts.get("output_size")
    if expected is not None and expected != G.resolution[1]:
        raise CheckpointError(f"{path}: says {expected} px, but its generator makes {G.resolution[1]} px")
    return _with_mean(G, _mean(content.get("latent_avg"), tensors), path, adds_mean(content))


def adds_mean(content: Mapping) -> bool:
    """Whether an official encoder finds what is to be added to the mean code, rather than the whole code.

    ReStyle's does, whatever its options say. A one-pass encoder (pSp, e4e) trained without `start_from_latent_avg` does
    not, and its checkpoint stores no latent_avg; where no option says so, the stored mean decides.
    """
    first = ("encoder.conv1.weight", "encoder.input_layer.0.weight")
    if any(content["state_dict"][name].shape[1] != 3 for name in first if name in content["state_dict"]):
        return True
    opts = options(content)
    if opts.get("encoder_type") == "WEncoder":  # HyperStyle adds the mean to its codes without asking
        return True
    known = opts.get("start_from_latent_avg")
    return bool(known) if known is not None else content.get("latent_avg") is not None or not opts


@torch.no_grad()
def _with_mean(G: StyleGAN2 | StyleGAN3, latent_avg: Tensor | None, path: Path, needed: bool = True) -> StyleGAN2:
    """Sets w_avg. needed: results depend on it, so that an estimate is worth a warning."""
    if latent_avg is None:
        if needed:
            warnings.warn(f"{path} stores no latent_avg; it is estimated from 100,000 samples", stacklevel=3)
        rng = torch.Generator().manual_seed(0)
        latent = len(G.w_avg)
        latent_avg = sum(G.mapping(torch.randn(1000, latent, generator=rng)).sum(0) for _ in range(100)) / 100_000
    G.w_avg.copy_(latent_avg.reshape(-1, len(G.w_avg))[0])  # stored once, or repeated for every style
    return G


def geometry(G: StyleGAN2 | StyleGAN3) -> dict:
    """What `from_geometry` needs beside the tensors to build the generator again; fit for JSON."""
    return (stylegan3 if isinstance(G, StyleGAN3) else stylegan2).geometry(G)


def from_geometry(kind: dict, tensors: Mapping[str, Tensor]) -> StyleGAN2 | StyleGAN3:
    """The generator of these `geometry` and state dict. Raises KeyError, RuntimeError, … where they do not fit."""
    return (stylegan3 if "design" in kind else stylegan2).from_geometry(kind, tensors)


def save_generator(path: Path, G: StyleGAN2 | StyleGAN3) -> None:
    """Writes a generator as safetensors that say in their metadata how to build it."""
    metadata = {"format": FORMATS[type(G)], "geometry": json.dumps(geometry(G))}
    tensors = {name: value.contiguous() for name, value in G.state_dict().items()}
    save_atomically(lambda temporary: save_file(tensors, temporary, metadata), path)


def _generator_from_safetensors(path: Path, content: dict) -> StyleGAN2 | StyleGAN3:
    """A converted generator, or that of a converted inverter."""
    metadata, tensors = content["metadata"], content["tensors"]
    if metadata.get("format") == INVERTER_FORMAT:
        return from_geometry(json.loads(metadata["generator"]), part(tensors, "generator"))
    if metadata.get("format") in FORMATS.values():
        return from_geometry(json.loads(metadata["geometry"]), tensors)
    raise CheckpointError(f"{path}: a safetensors file, but not of a generator that this program converted")
