"""What NVIDIA's pickles hold, read without NVIDIA's code (see `inert`): a StyleGAN2 or 3, or a name for what it is."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from restyle_lib.checkpoints import inert
from restyle_lib.checkpoints.inert import UnreadablePickle

OPENS = "StyleGAN2 and 3 open (stylegan2-ada-pytorch, stylegan3, rosinality's converter, pSp, e4e, ReStyle)"


def read(path: Path) -> tuple[str, dict]:
    """What kind G_ema is of, "ada" or "stylegan3", and its tensors by name, {"tensors": …}, with its settings.

    Of "ada", "clamp" is the bound of its activations, None unless the model was trained in half precision; of
    "stylegan3", "settings" are those that differ from the defaults. Raises UnsafePickle for a pickle that asks for
    what attacks are made of, and UnreadablePickle for a broken one, one without G_ema, and another kind of network.
    """
    content, names = inert.read(path)
    if any(name.startswith("dnnlib.tflib.") for name in names):
        raise UnreadablePickle(
            "a network of NVIDIA's TensorFlow code; open what legacy.py of stylegan2-ada-pytorch (.pkl) or "
            "convert_weight.py of rosinality's stylegan2-pytorch (.pt) makes of it"
        )
    G = content.get("G_ema") if isinstance(content, dict) else None
    if G is None or not inert.is_module(G):
        raise UnreadablePickle("a pickle, but with no G_ema in it: not a stylegan2-ada-pytorch network")
    return generator(G)


def generator(G: inert.Inert) -> tuple[str, dict]:
    """As `read`, of a generator's stand-in. Raises UnsafePickle and UnreadablePickle."""
    tensors, settings = inert.tensors(G), G.state.get("_init_kwargs")
    settings = settings if isinstance(settings, dict) else {}
    if is_stylegan3(tensors):
        return "stylegan3", {"tensors": tensors, "settings": settings}
    if tensors and "synthesis.b4.const" not in tensors:
        raise UnreadablePickle(f"a network {_called(G)}, but no StyleGAN2 or 3; {OPENS}")
    if "synthesis.b4.conv1.weight" in tensors and "synthesis.b4.torgb.weight" not in tensors:
        raise UnreadablePickle('a StyleGAN2 of the architecture "resnet" or "orig"; those of "skip" open')
    for name in ("synthesis_kwargs", "conv_clamp"):
        settings = settings.get(name) if isinstance(settings, dict) else None
    return "ada", {"tensors": tensors, "clamp": float(settings) if isinstance(settings, (int, float)) else None}


def is_stylegan3(tensors: Mapping[str, Tensor]) -> bool:
    """Whether these are named as StyleGAN3's: its input is made of Fourier features."""
    return "synthesis.input.freqs" in tensors


def _called(module: inert.Inert) -> str:
    """The class that a stand-in stands for, as its file calls it."""
    meta = module.args[0] if module.args and isinstance(module.args[0], dict) else {}
    return str(meta.get("class_name") or getattr(module, "called", "without a name"))[:80]
