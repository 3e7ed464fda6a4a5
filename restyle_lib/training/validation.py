"""How good an encoder is on held-out images, by the metrics of `03_eval` for which nothing must be downloaded."""

from functools import partial

import torch
from torch import Tensor, nn

from restyle_lib.evaluation.metrics import identity, l2, ms_ssim, st_lpips_distance
from restyle_lib.images import to_uint8
from restyle_lib.inversion import detail
from restyle_lib.inversion.refine import refine
from restyle_lib.precision import autocast
from restyle_lib.training.sources import Images, Source

STEPS, SHOWN = 10, 6  # twice as many steps as training makes; rows and steps of the strip


@torch.no_grad()
def validate(
    encoder: nn.Module, source: Source, images: Images, decay: float, faces: bool, batch: int = 8
) -> tuple[dict[str, list[float]], Tensor]:
    """Inverts images; returns the mean of each metric after steps 1, 2, ..., and a strip of pictures.

    The strip [3, H, W], uint8, shows the first images beside their first steps. faces: whether identity is measured.
    """
    used = {"L2": l2, "ST-LPIPS": st_lpips_distance} | ({"ID": identity} if faces else {}) | {"MS-SSIM": ms_ssim}
    trails = []
    for part, px in zip(images.x.to(source.device).split(batch), images.px.split(batch), strict=True):
        w, y = source.G.w_avg.expand(len(part), source.G.n_styles, -1), source.average_image.expand_as(part)
        trail, G = [part], detail.SeenAt(source.G, px)
        with autocast(source.device):
            refine(encoder, G, part, w, y, STEPS, partial(_keep, trail), decay)
        trails.append(torch.stack(trail).cpu())
    x, *steps_of_x = torch.cat(trails, dim=1)
    metrics = {name: [round(_mean(metric, y, x, batch), 5) for y in steps_of_x] for name, metric in used.items()}
    columns = [x, *steps_of_x[:SHOWN]]
    strip = torch.cat([torch.cat(list(column[:SHOWN]), dim=1) for column in columns], dim=2)
    return metrics, to_uint8(strip)


def _keep(trail: list[Tensor], t: int, w: Tensor, y: Tensor) -> None:
    trail.append(y.clamp(-1, 1))


def _mean(metric, y: Tensor, x: Tensor, batch: int) -> float:
    return torch.cat([metric(*pair) for pair in zip(y.split(batch), x.split(batch), strict=True)]).mean().item()
