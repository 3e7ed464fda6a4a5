"""What each step of an inversion changes: where in the image, at which spatial frequencies, in which style slots."""

from collections.abc import Sequence

import numpy as np
import pandas as pd
import scipy.fft
import torch
import torch.nn.functional as F
from torch import Tensor

from restyle_lib.evaluation.evaluate import mean_and_interval
from restyle_lib.inversion.inverter import Inverter, Viewed
from restyle_lib.inversion.result import Inversion, joined

EDGES = (1, 2, 4, 8, 16)  # between the octave bands, in cycles per image; 256 px hold 128 along an axis
COARSE_BELOW, FINE_FROM = 4, 8  # what claim C5 compares; the octave between is neither
OVAL = (0.5, 0.57, 0.27, 0.35)  # the face in an aligned crop: centre x, y and half axes, as fractions of its side
REGIONS = ("whole image", "face oval", "around it")


def trails(inverter: Inverter, images: Tensor, steps: int = 5, batch: int = 20) -> Inversion:
    """Inverts images [n, 3, h, w] in [-1, 1] in batches that suit a CPU's cache; see `Inverter.invert`."""
    return joined([inverter.invert(part, steps) for part in images.split(batch)])


@torch.no_grad()
def straight_line(inverter: Inverter, result: Inversion, batch: int = 20) -> Inversion:
    """The yardstick: the same start, end and relative step lengths, but straight from w_0 to w_N, all slots together.

    Step t ends at the share of the line that the original had then walked of its whole path (rms of the slots that the
    generator reads). Whatever such a trail shows of "coarse first, fine later" is not an order that the encoder chose.
    """
    walked = slot_rms(result.latents, inverter.G.slots_read).square().mean(2).sqrt().cumsum(1)
    share = (walked / walked[:, -1:].clamp_min(1e-12))[:, :-1, None, None]
    first, last = result.latents[:, :1], result.latents[:, -1:]
    between = torch.lerp(first, last, share)
    G, device = Viewed(inverter.G, inverter.input_size), inverter.y_avg.device
    images = torch.cat([G.synthesize(codes.to(device)).cpu() for codes in between.flatten(0, 1).split(batch)])
    images = images.unflatten(0, between.shape[:2])
    images = torch.cat([result.images[:, :1], images, result.images[:, -1:]], dim=1)
    return Inversion(torch.cat([first, between, last], dim=1), images)


def image_steps(images: Tensor) -> Tensor:
    """What each step changes of y_0..y_N [n, N+1, 3, h, w], clamped as they are shown: [n, N, 3, h, w]."""
    return images.clamp(-1, 1).diff(dim=1)


def pixel_rms(changes: Tensor) -> Tensor:
    """The heatmaps: rms over the channels and the 3 x 3 pixels around, of changes [n, N, 3, h, w], [n, N, h, w].

    A neighbourhood, since single pixels of a large change happen to stay as they are where it changes its sign.
    """
    return F.avg_pool2d(changes.square().mean(2), 3, 1, 1, count_include_pad=False).sqrt()


def region_rms(changes: Tensor) -> Tensor:
    """rms of changes [n, N, 3, h, w] in each of REGIONS, [n, N, 3]."""
    energy, inside = changes.square().mean(2), oval(*changes.shape[-2:])
    parts = (energy.flatten(2), energy[..., inside], energy[..., ~inside])
    return torch.stack([part.mean(2) for part in parts], dim=2).sqrt()


def oval(height: int, width: int) -> Tensor:
    """Which pixels of an aligned crop lie in OVAL, bool [height, width]."""
    x, y, half_x, half_y = OVAL
    across, down = ((torch.arange(size) + 0.5) / size for size in (width, height))
    return ((across - x) / half_x).square() + ((down[:, None] - y) / half_y).square() <= 1


def band_energy(changes: Tensor) -> Tensor:
    """Mean square of changes [n, N, 3, h, w] in octave bands of spatial frequency, [n, N, 6]; they add up to all of it.

    By the discrete cosine transform, which continues an image by its mirror image: a Fourier transform would continue
    it by its opposite side and take the jump at the border for fine detail.
    """
    height, width = changes.shape[-2:]
    spectrum = torch.from_numpy(scipy.fft.dctn(changes.numpy(), axes=(-2, -1), norm="ortho"))
    energy = spectrum.square().mean(2) / (height * width)
    down, across = (np.arange(size) * max(height, width) / (2 * size) for size in (height, width))
    octave = torch.from_numpy(np.digitize(np.hypot(down[:, None], across), EDGES))
    return torch.stack([energy[..., octave == band].sum(2) for band in range(len(EDGES) + 1)], dim=2)


def band_names() -> list[str]:
    """Names of the bands of `band_energy`, in cycles per image."""
    return [f"below {EDGES[0]}", *(f"{a} to {b}" for a, b in zip(EDGES, EDGES[1:], strict=False)), f"from {EDGES[-1]}"]


def slot_rms(latents: Tensor, slots: int) -> Tensor:
    """rms change of each of the first `slots` styles of codes [n, N+1, k, 512], [n, N, slots]."""
    return latents[:, :, :slots].diff(dim=1).square().mean(3).sqrt()


def shares(path: Tensor) -> Tensor:
    """The share of each step in all, of step lengths [n, N, ...]; equal shares where nothing ever changes."""
    total = path.sum(1, keepdim=True)
    return torch.where(total > 0, path / total, 1 / path.shape[1])


def mean_step(path: Tensor) -> Tensor:
    """When a part changes: the centre of mass over steps of its step lengths [n, N, ...], [n, ...] in [0, 1].

    0: all in the first step, 1: all in the last. Raises ValueError for fewer than two steps.
    """
    if path.shape[1] < 2:
        raise ValueError("when a part changes is a question for two steps or more")
    return torch.tensordot(shares(path), torch.linspace(0, 1, path.shape[1]), dims=([1], [0]))


def fine_minus_coarse(energy: Tensor) -> Tensor:
    """Claim C5, of `band_energy` [n, N, 6]: the mean step of the fine bands minus that of the coarse ones, [n].

    Positive: fine detail changes later; 1 is everything coarse in the first step and everything fine in the last.
    """
    coarse = energy[..., : EDGES.index(COARSE_BELOW) + 1].sum(2).sqrt()
    fine = energy[..., EDGES.index(FINE_FROM) + 1 :].sum(2).sqrt()
    return mean_step(fine) - mean_step(coarse)


def fine_slots_minus_coarse(path: Tensor) -> Tensor:
    """The same in the code, of `slot_rms` [n, N, slots]: the mean step of the finer half of slots minus the coarser."""
    coarse, fine = mean_step(path).tensor_split(2, dim=1)
    return fine.mean(1) - coarse.mean(1)


def over_steps(part: str, names: Sequence[str], paths: dict[str, Tensor]) -> pd.DataFrame:
    """Step lengths {trail: [n, N, parts]} as means over images: trail, `part`, step, metric, mean, low, high, n.

    For each step the rms change and its share of the part's whole path; for step "all" the mean step.
    """
    records = []
    for trail, path in paths.items():
        share, when = shares(path), mean_step(path)
        for i, name in enumerate(names):
            measured: dict[tuple[int | str, str], Tensor] = {("all", "mean step"): when[:, i]}
            for t in range(path.shape[1]):
                measured |= {(t + 1, "rms change"): path[:, t, i], (t + 1, "share"): share[:, t, i]}
            for (step, metric), values in measured.items():
                mean, low, high = mean_and_interval(values)
                record = {"trail": trail, part: name, "step": step, "metric": metric}
                records.append(record | {"mean": mean, "low": low, "high": high, "n": len(values)})
    return pd.DataFrame(records)
