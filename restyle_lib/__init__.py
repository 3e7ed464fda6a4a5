"""ReStyle (Alaluf, Patashnik, Cohen-Or, ICCV 2021) in notebooks: GAN inversion by iterative refinement."""

import os

# Large tensors in huge pages: on a CPU, memory that is new costs more than much of what is computed in it. Activations
# of a leaky ReLU at 1024 px take 33 ms instead of 113. PyTorch reads this once, when it first allocates.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

from restyle_lib.assets import AssetError
from restyle_lib.faces.align import NoFaceError, align, find_square
from restyle_lib.faces.paste import paste
from restyle_lib.generators import load_generator
from restyle_lib.images import PhotoError, open_photo, to_image, to_tensor
from restyle_lib.inversion.edit import edit
from restyle_lib.inversion.inverter import load_inverter
from restyle_lib.inversion.optimize import optimize
from restyle_lib.inversion.tune import tune

__all__ = [
    "AssetError",
    "NoFaceError",
    "PhotoError",
    "align",
    "edit",
    "find_square",
    "load_generator",
    "load_inverter",
    "open_photo",
    "optimize",
    "paste",
    "to_image",
    "to_tensor",
    "tune",
]
