"""The encoders: small ones for the embedded generator (below), and the official ones (`full_size`)."""

from collections.abc import Callable
from typing import TypeAlias

from restyle_lib.encoders import full_size
from restyle_lib.encoders.pyramid import PyramidEncoder
from restyle_lib.encoders.simplified import Encoder, SimplifiedEncoder

TrainableEncoder: TypeAlias = Encoder | full_size.FullSizeEncoder
SHAPE = ("in_channels", "n_styles", "design", "progressive")  # what a file must say to build one again
DESIGNS: dict[str, Callable[..., Encoder]] = {"simplified-256": SimplifiedEncoder, "pyramid-256": PyramidEncoder}


def build(
    in_channels: int, n_styles: int, design: str = "simplified-256", progressive: bool = False
) -> TrainableEncoder:
    """A new encoder: "simplified-256" (ReStyle's), "pyramid-256" (pSp's), or as large as the official ones.

    Those are "ir_se50", "resnet34", and with a pyramid "ir_se50-pyramid", "resnet34-pyramid". All have a head for every
    style. Raises ValueError for another design.
    """
    if design in full_size.DESIGNS:
        return full_size.untrained(design, in_channels, n_styles, progressive)
    if design not in DESIGNS:
        raise ValueError(f"no encoder design {design!r}; there are {', '.join([*DESIGNS, *full_size.DESIGNS])}")
    return DESIGNS[design](in_channels, n_styles, progressive)


def geometry(encoder: Encoder) -> dict:
    """The arguments with which `build` makes such an encoder again."""
    design = next(name for name, kind in DESIGNS.items() if type(encoder) is kind)
    values = (encoder.in_channels, encoder.n_styles, design, encoder.progressive)
    return dict(zip(SHAPE, values, strict=True))
