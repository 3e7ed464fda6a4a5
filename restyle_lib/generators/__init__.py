"""Generators behind one interface, and the one call that opens any of them."""

from functools import cache, partial
from pathlib import Path
from typing import Protocol, Self

import torch
from safetensors.torch import load_file
from torch import Tensor

from restyle_lib.assets import fetch
from restyle_lib.checkpoints import generators as checkpoints
from restyle_lib.checkpoints.openvino_ir import read_constants
from restyle_lib.checkpoints.packing import unpack
from restyle_lib.generators import low_rank, tuned
from restyle_lib.generators.mobile import MobileGenerator, from_ir
from restyle_lib.paths import WEIGHTS

SIZES = (64, 1024)
TOON = ("shape", "drawing")  # the files that make a cartoonist of the face generator


class Generator(Protocol):
    """What every generator offers.

    n_styles: k, the number of style slots of a code; slots_read: how many of them, from the first, make its images;
    resolution: (H, W) of its images; w_avg: the mean code [512].
    """

    n_styles: int
    slots_read: int
    resolution: tuple[int, int]
    w_avg: Tensor

    def map(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """z [B, 512] ~ N(0, 1) -> w [B, 512], truncated towards w_avg by psi."""

    def synthesize(self, codes: Tensor, noise: str = "fixed") -> Tensor:
        """Codes [B, 512] or [B, k, 512] -> RGB images [B, 3, H, W], nominal range [-1, 1], not clamped."""

    def to(self, device: torch.device | str) -> Self:
        """The generator itself, moved."""
        ...

    def cpu(self) -> Self:
        """The generator itself, moved to the processor."""
        ...


def load_generator(name: str | Path) -> Generator:
    """ "faces-1024", "toon-1024", "faces-64", or a checkpoint; on the CPU, frozen.

    "toon-1024" draws the faces of the same codes as cartoons (`restyle_lib.making.toon`). "faces-64" is a generator of
    its own, distilled from renders of the whole one: cheap enough for lessons that train in minutes. It reads the first
    8 slots of a code, and draws what an encoder found with another generator as somebody else.

    A path may be rosinality's StyleGAN2 (.pt), NVIDIA's StyleGAN2-ADA or StyleGAN3 (.pkl, or stylegan3-editing's .pt),
    the tensors of one of these under any customary key, as safetensors too, an official pSp, e4e or ReStyle checkpoint
    (its decoder), or our safetensors, which may be what tuning changed of an embedded generator
    (`restyle_lib.inversion.tune`); the file itself shows which.
    Raises ValueError for another name, `CheckpointError` for a file that cannot be used, and
    `restyle_lib.assets.AssetError` where the embedded weights cannot be fetched.
    """
    names = {f"faces-{size}": partial(embedded, size) for size in SIZES} | {"toon-1024": toon}
    if str(name) in names:
        return names[str(name)]()
    path = Path(name)
    if not path.is_file() and not path.suffix:
        raise ValueError(f"no generator {str(name)!r}; there are {', '.join(names)}, or give a checkpoint's path")
    kind, content = checkpoints.read(path)
    if kind == "safetensors" and content["metadata"].get("format") == tuned.FORMAT:
        with checkpoints.fitting(path):
            return _tuned(path, **content)
    return checkpoints.generator_in(path, kind, content)


@cache
def _constants() -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    folder = fetch("random-face")
    return read_constants(folder / "MappingNetwork.xml"), read_constants(folder / "SynthesisNetwork.xml")


def embedded(size: int, fitted: bool = True) -> MobileGenerator:
    """The embedded FFHQ generator at 1024 px, or the small one of 64 px that was distilled from it.

    fitted=False: the small one as it was before that, the start of `restyle_lib.making.distill`.
    """
    G = from_ir(*_constants(), size)
    G.load_state_dict(load_file(WEIGHTS / "faces-w_avg.safetensors"), strict=False)
    if size == 64 and fitted:
        G.load_state_dict(unpack(load_file(WEIGHTS / "faces-64.safetensors")), strict=False)
    return G.eval().requires_grad_(False).to(memory_format=torch.channels_last)


def toon() -> MobileGenerator:
    """The toon generator at 1024 px: that of faces with the changes that `restyle_lib.making.toon` fitted."""
    G = embedded(1024)
    for part in TOON:
        low_rank.change(G, load_file(WEIGHTS / f"toon-{part}.safetensors"))
    G.family = "toon"
    return G


def _tuned(path: Path, metadata: dict[str, str], tensors: dict[str, Tensor]) -> MobileGenerator:
    """An embedded generator with the changes of a file of `restyle_lib.inversion.tune.save_tuned`."""
    base = metadata.get("base")
    if base not in tuned.BASES:
        raise checkpoints.CheckpointError(f"{path}: tuned from {base!r}, which is none of {', '.join(tuned.BASES)}")
    return tuned.add(load_generator(base), tensors)
