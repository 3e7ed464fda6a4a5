"""Distils a generator of 64 px faces from the whole one, cheap enough for lessons and tests.

    python -m restyle_lib.making.distill

The teacher is the whole network's render, area-downsampled; the student is the first half of the trunk with an image
head of its own. It reads half of a code's styles, so it is good on samples of W, which it was fitted to, and another
generator for all else: it draws the codes that encoders find with the whole one as other people.
"""

import json
import math
import time
from functools import partial

import torch
import torch.nn.functional as F
import tyro
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from restyle_lib import precision
from restyle_lib.checkpoints.packing import pack, unpack
from restyle_lib.evaluation import sets
from restyle_lib.evaluation.metrics import psnr
from restyle_lib.faces.identity import Identity, shared, similarity
from restyle_lib.generators import embedded, render_sets
from restyle_lib.images import downsample, to_float, to_uint8
from restyle_lib.paths import WEIGHTS, save_atomically
from restyle_lib.precision import autocast

CPU = torch.device("cpu")


SIZE, HEAD = 64, "heads.64."
# What its file holds, by the beginning of the names: the whole trunk but the dense 4x4 convolution and the constant,
# which are 40 % of its weights and which later layers can make up for.
LEARNED = ("stem.modulation.", "stem.bias", "blocks.", HEAD)


def trainable(G: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of G that are fitted, by name."""
    return {name: p for name, p in G.named_parameters() if name.startswith(LEARNED)}


def start_head(head: nn.Module) -> None:
    """Starts a head as a random projection without style, small enough to begin near the smaller image."""
    nn.init.dirac_(head.conv.depthwise, groups=len(head.conv.depthwise))
    nn.init.kaiming_normal_(head.conv.pointwise, a=0.2)
    nn.init.normal_(head.to_image.weight, std=0.01)


def fit(
    iterations: int = 3000,
    batch: int = 16,
    head_lr: float = 1e-2,
    trunk_lr: float = 1.5e-3,
    identity_weight: float = 0.1,
    pool: int = 2500,
    seed: int = 0,
    again: bool = False,
) -> dict:
    """Fits trunk and head and writes data/weights/faces-64.safetensors and .json.

    Learning rates are relative: each tensor moves at its rate times its own root mean square, since modulations,
    biases and filters differ by orders of magnitude. The trunk's rises slowly, so that a head that knows nothing yet
    does not spoil it. identity_weight multiplies 1 - cosine; the L1 and L2 terms have weight 1.
    again starts from the shipped weights: a further round, noted in the recipe after the earlier ones.
    Returns the recipe with the held-out figures.
    """
    torch.manual_seed(seed)
    teacher = embedded(1024)
    G = embedded(SIZE, fitted=again)
    renders = render_sets.renders(teacher, "train", pool, render_sets.POOL_SEED, shard=100).agreeing(G.slots_read - 1)
    heldout = sets.heldout(200)
    targets = torch.cat([to_uint8(downsample(to_float(x), SIZE)) for x in renders.images.split(256)])
    identity = shared(CPU)
    embeddings = _embed(identity, targets)

    if not again:
        start_head(G.heads[str(SIZE)])
    student = trainable(G)
    for p in student.values():
        p.requires_grad_(True)
    groups = [
        {"params": [p], "lr": _rms(p) * (head_lr if name.startswith(HEAD) else trunk_lr)} for name, p in student.items()
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        [
            partial(_rise_and_fall, iterations=iterations, rise=0.02 if name.startswith(HEAD) else 0.3)
            for name in student
        ],
    )
    start, progress = time.perf_counter(), tqdm(range(iterations), desc="fitting faces-64")
    for i in progress:
        pick = torch.randint(len(renders), (batch,))
        target = to_float(targets[pick])
        with autocast(CPU):
            image = G.synthesize(renders.codes[pick])
        losses = distance(image.float(), target, identity, embeddings[pick], identity_weight)
        optimizer.zero_grad()
        losses["total"].backward()
        optimizer.step()
        schedule.step()
        if i % 20 == 0:
            progress.set_postfix({k: f"{v.item():.4f}" for k, v in losses.items()})
        if i % 500 == 499:
            tqdm.write(f"{i + 1}: {validate(G, heldout, identity)}")
    this_round = {"iterations": iterations, "batch": batch, "head_lr": head_lr, "trunk_lr": trunk_lr}
    this_round |= {"identity_weight": identity_weight, "pool": pool, "seed": seed, "pool_seed": render_sets.POOL_SEED}
    this_round["minutes"] = round((time.perf_counter() - start) / 60, 1)
    tensors = pack(student)
    G.load_state_dict(unpack(tensors), strict=False)  # so that the held-out figures are of what is shipped
    path = WEIGHTS / "faces-64.safetensors"
    recipe_path = path.with_suffix(".json")
    recipe = {
        "source": "MobileStyleGAN of random-face==2021.7.21.1, cut and fine-tuned by restyle_lib.making.distill",
        "rounds": (json.loads(recipe_path.read_text())["rounds"] if again else []) + [this_round],
        "machine": f"{torch.get_num_threads()} CPU threads, {precision.name(CPU)}",
        "heldout": {"n": 200, "psi": 0.7, "seed": sets.HELDOUT_SEED} | validate(G, heldout, identity),
    }
    save_atomically(lambda temporary: save_file(tensors, temporary), path)
    recipe_path.write_text(json.dumps(recipe, indent=2) + "\n")
    return recipe


@torch.no_grad()
def _embed(identity: Identity, images: Tensor) -> Tensor:
    """Unit identity embeddings [n, 128] of uint8 images."""
    with autocast(CPU):
        return torch.cat([identity(to_float(x)) for x in images.split(50)]).float()


def _rms(tensor: Tensor) -> float:
    return max(tensor.detach().square().mean().sqrt().item(), 0.01)


def _rise_and_fall(i: int, iterations: int, rise: float) -> float:
    """Factor of a learning rate: linear over the share `rise` of the iterations, then a cosine to zero."""
    t = i / iterations
    return t / rise if t < rise else (1 + math.cos(math.pi * (t - rise) / (1 - rise))) / 2


def distance(
    image: Tensor, target: Tensor, identity: Identity, embedding: Tensor, identity_weight: float
) -> dict[str, Tensor]:
    """L1 + L2 + identity between images [B, 3, s, s]; `embedding` is the target's own, at the same size."""
    losses = {"l1": F.l1_loss(image, target), "l2": F.mse_loss(image, target)}
    with autocast(CPU):
        embedded_image = identity(image)
    losses["id"] = 1 - torch.linalg.vecdot(embedded_image.float(), embedding).mean()
    losses["total"] = losses["l1"] + losses["l2"] + identity_weight * losses["id"]
    return losses


@torch.no_grad()
def validate(G: nn.Module, heldout: render_sets.Renders, identity: Identity) -> dict[str, float]:
    """Mean PSNR in dB and identity cosine of G against the downsampled 1024 renders, in fp32."""
    figures = {"psnr": [], "identity": []}
    for codes, images in zip(heldout.codes.split(20), heldout.images.split(20), strict=True):
        target = downsample(to_float(images), SIZE)
        image = G.synthesize(codes).clamp(-1, 1)
        figures["psnr"].append(psnr(image, target))
        figures["identity"].append(similarity(identity, image, target))
    return {name: round(torch.cat(values).mean().item(), 3) for name, values in figures.items()}


if __name__ == "__main__":
    torch.set_float32_matmul_precision("high")
    print(json.dumps(tyro.cli(fit), indent=2))
