"""Makes the toon generator: the face generator, changed a little, so that it draws every code as a cartoon.

    python -m restyle_lib.making.toon shape     # the coarse blocks
    python -m restyle_lib.making.toon drawing   # the fine ones, on top of these

There is no cartoon data set here. What a code w should look like is made by an operation on its face, `cartoon(G(w))`,
so every target has a known code, and the toon generator shares W with the face generator by construction.

To learn from whole images of 1024 px would be slow, and it is not needed: a warped feature map makes a warped image. So
the coarse blocks learn the shape from the face generator's own maps of 16 and
32 px, warped; no image is rendered. The fine blocks then learn the drawing from windows of cartoons of full size, and
the first of them from its warped map too: at 32 px an eye is four cells wide, too few to enlarge it well.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from restyle_lib import precision
from restyle_lib.evaluation import sets
from restyle_lib.evaluation.metrics import psnr
from restyle_lib.generators import embedded, low_rank, render_sets
from restyle_lib.generators.mobile import MobileGenerator
from restyle_lib.images import downsample, to_float, to_uint8
from restyle_lib.making.cartoon import caricature, cartoon, landmarks, warp, warp_grid
from restyle_lib.paths import WEIGHTS, save_atomically

CPU = torch.device("cpu")
RANK = 32
COARSE = 3  # blocks that learn the shape: their maps are of 8, 16 and 32 px
MAP_WEIGHT = 0.1  # of the warped map, beside the image
WINDOW, MARGIN = 16, 2  # of the 32 px map: what the fine blocks see at a time, and its edge that is not compared
# The parameters that learn, by the beginning of their names. The dense 4x4 convolution stays: it is the largest.
STEM = ("stem.constant", "stem.modulation.", "stem.bias")
LEARNED = {
    "shape": (*STEM, "blocks.0.", "blocks.1.", "blocks.2."),
    "drawing": ("blocks.3.", "blocks.4.", "blocks.5.", "blocks.6.", "to_image."),
}


def fit(part: tyro.conf.Positional[Literal["shape", "drawing"]], seed: int = 0) -> dict:
    """Fits one part, writes data/weights/toon-<part>.safetensors and its recipe .json, and returns the recipe."""
    torch.manual_seed(seed)
    start = time.perf_counter()
    G = embedded(1024)
    if part == "drawing":
        low_rank.change(G, load_file(_path("shape")))
    names = [name for name, _ in G.named_parameters() if name.startswith(LEARNED[part])]
    learning = low_rank.let_change(G, names, RANK)
    make_loss, sizes, iterations, lr = RUNS[part]
    descend(learning, lr, iterations, make_loss(G, **sizes), f"fitting toon-{part}")
    tensors = low_rank.changes(G, learning)
    save_atomically(lambda temporary: save_file(tensors, temporary), _path(part))
    recipe = {
        "source": f"restyle_lib.making.toon {part}",
        "rank": RANK,
        "iterations": iterations,
        "lr": lr,
        **sizes,
        "seed": seed,
        "minutes": round((time.perf_counter() - start) / 60, 1),
        "machine": f"{torch.get_num_threads()} CPU threads, {precision.name(CPU)}",
        "heldout": validate(G, caricature if part == "shape" else cartoon),
    }
    _path(part).with_suffix(".json").write_text(json.dumps(recipe, indent=2) + "\n")
    return recipe


def descend(learning: dict[str, nn.Parameter], lr: float, iterations: int, loss: Callable[[], Tensor], what: str):
    """Adam on what `low_rank.let_change` lets learn; a whole parameter's rate is relative to its size."""
    groups = [
        {"params": [p], "lr": lr * (1 if name.endswith((".up", ".down")) else low_rank.rms(p))}
        for name, p in learning.items()
    ]
    optimizer = torch.optim.Adam(groups, betas=(0.9, 0.99))
    rates = [group["lr"] for group in groups]
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rates, iterations, pct_start=0.1, cycle_momentum=False)
    progress = tqdm(range(iterations), desc=what)
    for i in progress:
        value = loss()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        if i % 20 == 0:
            progress.set_postfix({"loss": f"{value.item():.4f}"})


def shape_loss(G: MobileGenerator, images: int, batch: int) -> Callable[[], Tensor]:
    """The coarse blocks' maps against the face generator's, warped around the landmarks of its face."""
    faces, renders = embedded(1024), _renders(images)
    points = torch.cat([landmarks(to_float(x)) for x in renders.images.split(100)])

    def loss() -> Tensor:
        i = torch.randint(len(renders), (batch,))
        with precision.autocast(CPU):
            with torch.no_grad():
                targets = maps(faces, renders.codes[i], COARSE)
            found = maps(G, renders.codes[i], COARSE)
        pairs = zip(found[1:], targets[1:], strict=True)  # a warp of 8 px is no use
        return sum(map_distance(x.float(), _warped(target.float(), points[i])) for x, target in pairs)

    return loss


def drawing_loss(G: MobileGenerator, images: int, batch: int) -> Callable[[], Tensor]:
    """Windows of what the fine blocks make of the last coarse map, against the warped map and the full cartoon."""
    faces, renders = embedded(1024), _renders(images)
    coarse, warped, drawn = [], [], []
    with torch.no_grad():
        for code, image in tqdm(zip(renders.codes.split(1), renders.images.split(1), strict=True), total=images):
            drawn.append(to_uint8(cartoon(faces.synthesize(code).clamp(-1, 1))))
            coarse.append(maps(G, code, COARSE)[-1])
            warped.append(_warped(maps(faces, code, COARSE + 1)[-1], landmarks(to_float(image))).bfloat16())

    def loss() -> Tensor:
        total = 0
        for i in torch.randint(images, (batch,)).tolist():
            corner = torch.randint(32 - WINDOW + 1, (2,)).tolist()
            found, image = fine_window(G, coarse[i], renders.codes[i : i + 1], corner)
            error = inside(image, 32) - to_float(window(drawn[i], corner, 32, MARGIN))
            distance = map_distance(inside(found, 2), window(warped[i], corner, 2, MARGIN).float())
            total = total + error.abs().mean() + error.square().mean() + MAP_WEIGHT * distance
        return total / batch

    return loss


def maps(G: MobileGenerator, codes: Tensor, blocks: int) -> list[Tensor]:
    """The feature maps of the first blocks, of 8 px, 16 px and so on, for codes [B, k, 512]."""
    w = codes.unbind(1)
    x, found = G.stem(w[0], G.stem.noise), []
    for i, block in enumerate(G.blocks[:blocks]):
        x = block(x, w[1 + 2 * i], w[2 + 2 * i], block.conv1.noise, block.conv2.noise)
        found.append(x)
    return found


def fine_window(G: MobileGenerator, coarse: Tensor, codes: Tensor, corner: list[int]) -> tuple[Tensor, Tensor]:
    """What the fine blocks make of a window of the last coarse map [1, 512, 32, 32], as if nothing were around it.

    The window of the first of their maps [1, 512, 2 WINDOW, 2 WINDOW], and that of the image, 32 times as large as
    its window of the coarse map.
    """
    w = codes.unbind(1)
    x, first = window(coarse, corner), None
    for i, block in enumerate(G.blocks[COARSE:], start=COARSE):
        noise = (window(conv.noise, corner, 2 ** (i - COARSE + 1)) for conv in (block.conv1, block.conv2))
        x = block(x, w[1 + 2 * i], w[2 + 2 * i], *noise)
        first = x if first is None else first
    return first, G.to_image(x, w[15])


def map_distance(found: Tensor, target: Tensor) -> Tensor:
    """Mean squared distance of feature maps [B, C, s, s], each channel in units of its own spread."""
    spread = target.std((0, 2, 3), keepdim=True) + 1e-3
    return ((found - target) / spread).square().mean()


def _warped(x: Tensor, points: Tensor) -> Tensor:
    return warp(x, warp_grid(points, x.shape[-1]))


def window(x: Tensor, corner: list[int], zoom: int = 1, margin: int = 0) -> Tensor:
    """The window of a map or image `zoom` times as large as the coarse map, without `margin` cells at its edge."""
    rows, columns = (slice(zoom * (c + margin), zoom * (c + WINDOW - margin)) for c in corner)
    return x[..., rows, columns]


def inside(x: Tensor, zoom: int) -> Tensor:
    edge = slice(zoom * MARGIN, -zoom * MARGIN)
    return x[..., edge, edge]


@torch.no_grad()
def validate(G: MobileGenerator, target: Callable[[Tensor], Tensor], n: int = 20) -> dict:
    """PSNR in dB at 64 px on held-out faces, against what they should become; and that of the faces as they are."""
    heldout = sets.heldout(n)
    faces = to_float(heldout.images)
    images = torch.cat([downsample(G.synthesize(code).clamp(-1, 1), 64) for code in heldout.codes.split(1)])
    faces, wanted = downsample(faces, 64), downsample(target(faces), 64)
    found, unchanged = (round(psnr(x, wanted).mean().item(), 2) for x in (images, faces))
    return {"n": n, "psi": 0.7, "seed": sets.HELDOUT_SEED, "psnr": found, "psnr_of_the_faces": unchanged}


def _renders(n: int) -> render_sets.Renders:
    return render_sets.renders(embedded(1024), "train", n, render_sets.POOL_SEED, shard=100)


def _path(part: str) -> Path:
    return WEIGHTS / f"toon-{part}.safetensors"


# What each part learns from, for how many batches, at which rate.
RUNS = {
    "shape": (shape_loss, {"images": 3000, "batch": 8}, 300, 2e-3),
    "drawing": (drawing_loss, {"images": 16, "batch": 1}, 170, 2e-3),
}

if __name__ == "__main__":
    print(json.dumps(tyro.cli(fit), indent=2))
