"""State dicts of generators and encoders, wherever a file keeps them, and words for those that are neither."""

import re
from collections.abc import Mapping

from torch import Tensor

# A state dict is kept under these names, as an entry of the file or before the names of its tensors.
NAMES = ["g_ema", "G_ema", "generator_ema", "netG_ema", "model_ema", "params_ema", "ema", "generator", "netG", "G", "g"]
NAMES += ["params", "net", "model", "weights", "model_state_dict", "state_dict", "module", "_orig_mod"]
BEFORE = re.compile(rf"^((?:{'|'.join(NAMES)})\.)*")
# A tensor that no other network has, and the kind of generator that it is of.
GENERATORS = {"synthesis.input.freqs": "stylegan3", "synthesis.b4.const": "ada", "conv1.conv.weight": "rosinality"}
BACKBONE = "on which training builds an encoder (restyle train --domain … --backbone FILE)"
STRANGERS = (
    (
        r"hypernet\..+",
        "a HyperStyle hypernetwork, which makes another generator for each image and is not supported; its generator "
        "opens with load_generator, and the encoder it starts from (faces_w_encoder.pt) with load_inverter",
    ),
    (r"encoder_q\..+", "a MoCo network, which measures in training (restyle train --domain … --moco FILE)"),
    (r"output_layer\.3\.weight", f"a face recognition network (model_ir_se50.pth is one), {BACKBONE}"),
    (r"layer1\.0\.conv1\.weight", f"a ResNet of torchvision's kind, {BACKBONE}"),
    (
        r"encoder\..+|styles\.\d+\.linear\.weight|input_layer\.0\.weight",
        "an encoder without its generator; save both in one: "
        'torch.save({"state_dict": {encoder.…, decoder.…}, "opts": …, "latent_avg": mean}, "inverter.pt")',
    ),
)


def groups(content) -> list[dict[str, Tensor]]:
    """The tensors that a file holds, those of each owner together and under their own names; averages come first.

    {"g": {"module.conv1.bias": x}}, {"g.conv1.bias": x} and {"conv1.bias": x} all give {"conv1.bias": x}. Those with
    floating points become fp32.
    """
    found: dict[str, dict[str, Tensor]] = {}
    entries = [(f"{name}.", content.get(name)) for name in NAMES] if isinstance(content, Mapping) else []
    for entry, part in (*entries, ("", content)):
        for name, value in part.items() if isinstance(part, Mapping) else ():
            if isinstance(name, str) and isinstance(value, Tensor):
                own = BEFORE.sub("", name, count=1)
                value = value.float() if value.is_floating_point() else value
                found.setdefault(entry + name.removesuffix(own), {})[own] = value
    return [found[before] for before in sorted(found, key=lambda before: "ema" not in before.lower())]


def kind_of(tensors: Mapping[str, Tensor]) -> str | None:
    """The kind of generator that has tensors of these names: "stylegan3", "ada" (NVIDIA's StyleGAN2), "rosinality"."""
    return next((kind for name, kind in GENERATORS.items() if name in tensors), None)


def generator(content) -> tuple[str, dict[str, Tensor]] | None:
    """Kind and tensors of the generator that a file holds; None where there is none."""
    return next(((kind, group) for group in groups(content) if (kind := kind_of(group))), None)


def official(content) -> dict | None:
    """A pSp, e4e, ReStyle or HyperStyle network, {"state_dict", "opts", "latent_avg"}; None where there is none.

    In its state dict are "decoder.…", its generator, and mostly "encoder.…".
    """
    for group in groups(content):
        if any(name.startswith("decoder.") for name in group):
            mean = content.get("latent_avg")
            mean = group.get("latent_avg") if mean is None else mean
            return {"state_dict": group, "opts": content.get("opts"), "latent_avg": mean}
    return None


def called(content) -> str:
    """What a file holds, in words that say what to do with it."""
    if not isinstance(content, Mapping):
        return f"a {type(content).__name__}"
    if {"iteration", "settings"} <= content.keys():
        return "the state of a training; restyle train goes on with it, and what it learned is beside it"
    found = groups(content)
    for pattern, words in STRANGERS:
        if any(re.fullmatch(pattern, name) for group in found for name in group):
            return words
    if generator(content):
        return "a generator alone, which opens with load_generator"
    return f"the entries {', '.join(map(str, list(content)[:6]))}"
