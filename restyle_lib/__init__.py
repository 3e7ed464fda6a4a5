"""ReStyle (Alaluf, Patashnik, Cohen-Or, ICCV 2021) in notebooks: GAN inversion by iterative refinement."""

from restyle_lib import memory

memory.use_huge_pages()
memory.keep_freed_memory()

from restyle_lib.assets import AssetError
from restyle_lib.faces.align import NoFaceError, align, find_square
from restyle_lib.faces.paste import paste
from restyle_lib.generators import load_generator
from restyle_lib.images import PhotoError, open_photo, to_image, to_tensor
from restyle_lib.inversion.edit import edit
from restyle_lib.inversion.inverter import compiled, load_inverter
from restyle_lib.inversion.optimize import hybrid, optimize
from restyle_lib.inversion.tune import tune

__all__ = [
    "AssetError",
    "NoFaceError",
    "PhotoError",
    "align",
    "compiled",
    "edit",
    "find_square",
    "hybrid",
    "load_generator",
    "load_inverter",
    "open_photo",
    "optimize",
    "paste",
    "to_image",
    "to_tensor",
    "tune",
]
