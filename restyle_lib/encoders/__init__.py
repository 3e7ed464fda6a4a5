"""The encoders: small ones for the embedded generator (below), and the official ones (`full_size`)."""

from collections.abc import Callable
from typing import TypeAlias

from restyle_lib.encoders import full_size
from restyle_lib.encoders.pyramid import PyramidEncoder
from restyle_lib.encoders.pyramid_256 import PyramidEncoder256
from restyle_lib.encoders.simplified import Encoder, SimplifiedEncoder
from restyle_lib.encoders.simplified_256 import Encoder256, SimplifiedEncoder256

TrainableEncoder: TypeAlias = Encoder | Encoder256 | full_size.FullSizeEncoder
SHAPE = ("in_channels", "heads", "n_styles", "design", "progressive")  # what a file must say to build one again
DESIGNS: dict[str, Callable[..., Encoder | Encoder256]] = {
    "simplified": SimplifiedEncoder,
    "pyramid": PyramidEncoder,
    "simplified-256": SimplifiedEncoder256,
    "pyramid-256": PyramidEncoder256,
}


def build(
    in_channels: int, heads: int, n_styles: int, design: str = "simplified", progressive: bool = False
) -> TrainableEncoder:
    """A new encoder: "simplified" (ReStyle's) or "pyramid" (pSp's) of 64 px images; or as large as the official ones.

    "simplified-256" and "pyramid-256" see 256 px, and have a head for every style. So have the official ones:
    "ir_se50", "resnet34", and with a pyramid "ir_se50-pyramid", "resnet34-pyramid".
    Raises ValueError for another design.
    """
    if design in full_size.DESIGNS:
        return full_size.untrained(design, in_channels, n_styles, progressive)
    if design not in DESIGNS:
        raise ValueError(f"no encoder design {design!r}; there are {', '.join([*DESIGNS, *full_size.DESIGNS])}")
    return DESIGNS[design](in_channels, heads, n_styles, progressive)


def geometry(encoder: Encoder | Encoder256) -> dict:
    """The arguments with which `build` makes such an encoder again."""
    design = next(name for name, kind in DESIGNS.items() if type(encoder) is kind)
    values = (encoder.in_channels, encoder.n_heads, encoder.n_styles, design, encoder.progressive)
    return dict(zip(SHAPE, values, strict=True))
