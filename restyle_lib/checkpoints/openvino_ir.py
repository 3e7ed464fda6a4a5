"""Reads the constants of an OpenVINO IR model (an .xml graph beside a .bin of raw tensors) without OpenVINO."""

from pathlib import Path

import defusedxml.ElementTree as ElementTree
import numpy as np
import torch
from torch import Tensor


def read_constants(xml_path: Path) -> dict[str, Tensor]:
    """All float32 constants of the model at `xml_path`, by layer name, in graph order.

    Raises ValueError where a constant lies outside the .bin, or the graph is not well-formed XML.
    """
    blob = np.fromfile(xml_path.with_suffix(".bin"), dtype=np.uint8)
    try:
        root = ElementTree.parse(xml_path).getroot()
    except ElementTree.ParseError as error:
        raise ValueError(f"{xml_path} is not an OpenVINO graph: {error}") from error
    constants = {}
    for layer in root.iter("layer"):
        data = layer.find("data")
        if layer.get("type") != "Const" or data is None or data.get("element_type") != "f32":
            continue
        offset, size = int(data.get("offset", -1)), int(data.get("size", -1))
        shape = [int(n) for n in data.get("shape", "").split(",") if n.strip()]
        if offset < 0 or offset + size > len(blob) or size != 4 * int(np.prod(shape)):
            raise ValueError(f"{xml_path}: constant {layer.get('name')!r} does not fit its .bin file")
        values = blob[offset : offset + size].view("<f4").reshape(shape)
        constants[layer.get("name")] = torch.from_numpy(values.copy())
    return constants
