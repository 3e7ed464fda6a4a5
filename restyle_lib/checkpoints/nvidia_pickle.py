"""What NVIDIA's pickles hold, read without NVIDIA's code (see `inert`): a StyleGAN2 or 3, or a name for what it is."""

from collections.abc import Iterator

from torch import Tensor

from restyle_lib.checkpoints import inert, state_dicts
from restyle_lib.checkpoints.inert import UnreadablePickle

OPENS = "StyleGAN2 and 3 open (stylegan2-ada-pytorch, stylegan3, rosinality's converter, pSp, e4e, ReStyle)"


def not_of_tensorflow(names: set[str]) -> None:
    """Raises UnreadablePickle where a pickle asked for these names and is of NVIDIA's code of before 2020."""
    if any(name.startswith("dnnlib.tflib.") for name in names):
        raise UnreadablePickle(
            "a network of NVIDIA's TensorFlow code; open what legacy.py of stylegan2-ada-pytorch (.pkl) or "
            "convert_weight.py of rosinality's stylegan2-pytorch (.pt) makes of it"
        )


def generator(G: inert.Inert, tensors: dict[str, Tensor]) -> tuple[str, dict]:
    """What kind a generator's stand-in is of, "ada" or "stylegan3", and {"tensors", "settings"}.

    tensors: its own, by name. Of "ada", the settings are {"clamp": bound of its activations, None where it has none};
    of "stylegan3" those that differ from the defaults. Raises UnreadablePickle for another kind of network.
    """
    settings = G.state.get("_init_kwargs")
    settings = settings if isinstance(settings, dict) else {}
    kind = state_dicts.kind_of(tensors)
    if kind == "stylegan3":
        return kind, {"tensors": tensors, "settings": settings}
    if kind == "ada":
        return kind, {"tensors": tensors, "settings": {"clamp": _clamp(G, settings)}}
    raise UnreadablePickle(f"a network {_called(G)}, but no StyleGAN2 or 3; {OPENS}")


def _clamp(G: inert.Inert, settings: dict) -> float | None:
    """The bound of a StyleGAN2's activations: that of its layers, which counts there; else of what it was made with."""
    stated = [*(layer.state for layer in _parts(G, 3)), settings.get("synthesis_kwargs"), settings]
    clamp = next((each["conv_clamp"] for each in stated if isinstance(each, dict) and "conv_clamp" in each), None)
    return float(clamp) if isinstance(clamp, (int, float)) else None


def _parts(module: inert.Inert, depth: int) -> Iterator[inert.Inert]:
    """A network's modules, so deep: the layers are synthesis.b4.conv1 and so on."""
    for part in (module.state.get("_modules") or {}).values():
        if inert.is_module(part):
            yield part
            yield from _parts(part, depth - 1) if depth > 1 else ()


def _called(module: inert.Inert) -> str:
    """The class that a stand-in stands for, as its file calls it."""
    meta = module.args[0] if module.args and isinstance(module.args[0], dict) else {}
    return str(meta.get("class_name") or getattr(module, "called", "without a name"))[:80]
