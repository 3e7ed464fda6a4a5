"""Converts the face networks of npm's @vladmandic/face-api to safetensors; run once, its results are shipped.

    npm pack @vladmandic/face-api@1.7.15 && tar xzf vladmandic-face-api-1.7.15.tgz
    python -m restyle_lib.making.face_networks package

Bytes that the package stores as uint8 stay uint8, so nothing is lost and the files stay small; the loader in
`networks.py` applies each tensor's scale and minimum, which travel in the metadata.
"""

import json
from pathlib import Path

import numpy as np
import torch
import tyro
from safetensors.torch import save_file

from restyle_lib.paths import WEIGHTS, save_atomically

NETWORKS = {
    "recognition": "face_recognition_model",
    "expression": "face_expression_model",
    "age_gender": "age_gender_model",
    "landmarks": "face_landmark_68_model",
    "detector": "tiny_face_detector_model",
}


def convert(package: tyro.conf.Positional[Path]) -> None:
    """Reads the unpacked npm package and writes data/weights/face-*.safetensors with the licence beside them."""
    for ours, theirs in NETWORKS.items():
        (group,) = json.loads((package / "model" / f"{theirs}-weights_manifest.json").read_text())
        tensors, quantization = read_group(group, package / "model")
        metadata = {
            "source": f"npm @vladmandic/face-api@1.7.15, model/{theirs}.bin",
            "licence": "MIT",
            "quantization": json.dumps(quantization),
        }
        path = WEIGHTS / f"face-{ours}.safetensors"
        save_atomically(lambda temporary, t=tensors, m=metadata: save_file(t, temporary, m), path)
    (WEIGHTS / "face-LICENSE.txt").write_text((package / "LICENSE").read_text())


def read_group(group: dict, folder: Path) -> tuple[dict[str, torch.Tensor], dict[str, tuple[float, float]]]:
    """A group of a TensorFlow.js manifest: tensors in PyTorch's layout, (scale, minimum) of those stored as uint8."""
    blob = np.concatenate([np.fromfile(folder / part, dtype=np.uint8) for part in group["paths"]])
    tensors, quantization, offset = {}, {}, 0
    for entry in group["weights"]:
        name, shape = entry["name"].replace("/", "."), entry["shape"]
        count = int(np.prod(shape))
        if quantized := entry.get("quantization"):
            values, offset = blob[offset : offset + count], offset + count
            quantization[name] = (quantized["scale"], quantized["min"])
        else:
            values, offset = blob[offset : offset + 4 * count].view("<f4"), offset + 4 * count
        tensors[name] = _to_torch_layout(torch.from_numpy(values.reshape(shape).copy()), name)
    if offset != len(blob):
        raise ValueError(f"{group['paths']} should have {offset} bytes, not {len(blob)}")
    return tensors, quantization


def _to_torch_layout(tensor: torch.Tensor, name: str) -> torch.Tensor:
    if tensor.ndim == 4:  # HWIO -> OIHW; a depthwise filter is [h, w, C, 1] -> [C, 1, h, w]
        tensor = tensor.permute((2, 3, 0, 1) if ".depthwise_" in name else (3, 2, 0, 1))
    elif tensor.ndim == 2:
        tensor = tensor.T
    return tensor.contiguous()


if __name__ == "__main__":
    tyro.cli(convert)
