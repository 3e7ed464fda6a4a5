"""Films of codes: the steps of an inversion, an edit there and back, a morph between people; written as MP4 or GIF."""

import copy
import math
from collections.abc import Callable, Iterable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from restyle_lib.generators import tuned
from restyle_lib.generators.averaged import averaged, can_average
from restyle_lib.images import to_uint8
from restyle_lib.inversion.edit import edit
from restyle_lib.paths import save_atomically
from restyle_lib.precision import autocast

FPS = 25
SUFFIXES = (".mp4", ".gif")


def between(codes: Tensor, seconds: float = 1.0, rest: float = 0.4, fps: int = FPS, around: bool = False) -> Tensor:
    """Codes [n, k, 512] -> the codes of frames [f, k, 512]: straight ways in W+ from each to the next.

    seconds: of each way, which begins and ends slowly; rest: seconds at each code
    around:  from the last back to the first, so that the film may be repeated without a jump
    """
    moving, still = max(1, round(seconds * fps)), round(rest * fps)
    eased = (1 - torch.cos(math.pi * torch.arange(moving) / moving)) / 2
    ends = torch.cat([codes, codes[:1]]) if around else codes
    parts = []
    for a, b in zip(ends, ends[1:], strict=False):
        parts += [a.expand(still, *a.shape), torch.lerp(a, b, eased[:, None, None].to(codes))]
    return torch.cat([*parts, ends[-1].expand(max(1, still), *ends[-1].shape)])


def shares(n: int, seconds: float = 1.0, around: bool = False) -> Tensor:
    """How much of each of n generators draws each frame between n codes, [f, n]; timed as by `between`."""
    return between(torch.eye(n)[:, None], seconds, around=around)[:, 0]


def swing(
    code: Tensor, direction: str | Tensor, low: float, high: float, seconds: float = 4.0, fps: int = FPS
) -> Tensor:
    """A code [k, 512] edited from 0 to `high`, to `low` and back to 0: the codes of frames [f, k, 512]."""
    turn = torch.sin(2 * math.pi * torch.arange(round(seconds * fps)) / round(seconds * fps))
    strengths = torch.where(turn > 0, turn * high, -turn * low)
    return torch.cat([edit(code[None], direction, float(strength)) for strength in strengths])


@torch.no_grad()
def frames(
    G, codes: Tensor, size: int = 512, callback: Callable[[], None] | None = None, shares: Tensor | None = None
) -> Iterator[np.ndarray]:
    """Codes [f, k, 512] as images of a generator, one by one: uint8 [h, size, 3] in its proportions, h even.

    shares: with several generators G, tuned from one or that one itself: how much of each draws a frame, see `shares`
    A frame that is that before it is not drawn again. callback() is called after each frame.
    Raises ValueError for generators of several families.
    """
    generators, G = ([G], G) if shares is None else (G, copy.deepcopy(G[0]))
    last = shown = None
    for code, share in zip(codes, torch.ones(len(codes), 1) if shares is None else shares, strict=True):
        if shares is not None and (last is None or not torch.equal(share, last[1])):
            tuned.mix(G, generators, share)
        if last is None or not torch.equal(code, last[0]) or not torch.equal(share, last[1]):
            on_device = code[None].to(G.w_avg.device)
            with autocast(on_device.device):
                if can_average(G, (size, size)):
                    y = averaged(G, on_device, size)
                else:
                    height = 2 * round(size * G.resolution[0] / G.resolution[1] / 2)
                    y = F.adaptive_avg_pool2d(G.synthesize(on_device).float(), (height, size))
            last, shown = (code, share), to_uint8(y)[0].permute(1, 2, 0).cpu().numpy()
        yield shown
        if callback:
            callback()


def write(path: Path, images: Iterable[np.ndarray], fps: int = FPS) -> Path:
    """Writes images, uint8 [h, w, 3] of even size, as a film that runs for ever (GIF) or plays everywhere (MP4, H.264).

    Returns the path. Raises ValueError for another ending than .mp4 and .gif.
    """
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path}: a film ends in {' or '.join(SUFFIXES)}")
    make = _write_gif if path.suffix.lower() == ".gif" else _write_mp4
    save_atomically(lambda temporary: make(temporary, images, fps), path)
    return path


def _write_gif(path: Path, images: Iterable[np.ndarray], fps: int) -> None:
    pictures = [Image.fromarray(image) for image in images]
    # one palette for all, or colours flicker; of pictures from the whole film
    sample = pictures[:: max(1, len(pictures) // 8)]
    together = Image.fromarray(np.concatenate([np.asarray(picture) for picture in sample]))
    palette = together.quantize(256, Image.Quantize.MEDIANCUT)
    drawn = [picture.quantize(palette=palette, dither=Image.Dither.FLOYDSTEINBERG) for picture in pictures]
    drawn[0].save(path, "GIF", save_all=True, append_images=drawn[1:], duration=1000 // fps, loop=0)


def _write_mp4(path: Path, images: Iterable[np.ndarray], fps: int) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = None
        for image in images:
            if stream is None:
                stream = container.add_stream("libx264", rate=Fraction(fps), options={"crf": "18"})
                stream.height, stream.width = image.shape[:2]
                stream.pix_fmt = "yuv420p"  # what browsers and phones play
            container.mux(stream.encode(av.VideoFrame.from_ndarray(image, "rgb24")))
        if stream is not None:
            container.mux(stream.encode())
