"""ReStyle (Alaluf, Patashnik, Cohen-Or, ICCV 2021) in notebooks: GAN inversion by iterative refinement."""

from restyle_lib.assets import AssetError
from restyle_lib.faces.align import NoFaceError, align
from restyle_lib.generators import load_generator
from restyle_lib.images import PhotoError, open_photo, to_image, to_tensor
from restyle_lib.inversion.inverter import load_inverter

__all__ = [
    "AssetError",
    "NoFaceError",
    "PhotoError",
    "align",
    "load_generator",
    "load_inverter",
    "open_photo",
    "to_image",
    "to_tensor",
]
