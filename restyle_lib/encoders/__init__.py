"""The encoders: small ones for the embedded generator (below), and the official ones (`full_size`)."""

from restyle_lib.encoders.pyramid import PyramidEncoder
from restyle_lib.encoders.simplified import Encoder, SimplifiedEncoder

SHAPE = ("in_channels", "heads", "n_styles", "design", "progressive")  # what a file must say to build one again
DESIGNS = {"simplified": SimplifiedEncoder, "pyramid": PyramidEncoder}


def build(
    in_channels: int, heads: int, n_styles: int, design: str = "simplified", progressive: bool = False
) -> Encoder:
    """A small encoder, "simplified" (ReStyle's) or "pyramid" (pSp's). Raises ValueError for another design."""
    if design not in DESIGNS:
        raise ValueError(f"no encoder design {design!r}; there are {', '.join(DESIGNS)}")
    return DESIGNS[design](in_channels, heads, n_styles, progressive)


def geometry(encoder: Encoder) -> dict:
    """The arguments with which `build` makes such an encoder again."""
    design = next(name for name, kind in DESIGNS.items() if type(encoder) is kind)
    values = (encoder.in_channels, encoder.n_heads, encoder.n_styles, design, encoder.progressive)
    return dict(zip(SHAPE, values, strict=True))
