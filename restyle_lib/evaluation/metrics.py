"""Image metrics, each [B, 3, s, s] x [B, 3, s, s] in [-1, 1] -> one value per image [B]. No image is ever dropped."""

import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.weak import WeakTensorKeyDictionary

from restyle_lib.assets import sha256
from restyle_lib.evaluation.labels import HIGHER_IS_BETTER as HIGHER_IS_BETTER
from restyle_lib.faces import judge
from restyle_lib.faces.identity import shared, similarity
from restyle_lib.features.perceptual import PerceptualDistance, st_lpips
from restyle_lib.features.torchvision_compat import make_torchvision_importable

# The weights of Wang et al. 2003 for five scales; an image of 64 px is large enough for the first three.
MS_SSIM_WEIGHTS = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333)
AT_A_TIME = 50  # images that a network looks at: thousands would take many GB
ALEXNET = "alexnet-owt-7be5be79.pth"  # torchvision's, on ImageNet
ALEXNET_SHA256 = "7be5be79"  # how it begins: as its name says, and no more is published


def l2(a: Tensor, b: Tensor) -> Tensor:
    """Mean squared error on the scale [-1, 1], as the papers report it (four times the error on [0, 1])."""
    return (a - b).square().flatten(1).mean(1)


def psnr(a: Tensor, b: Tensor) -> Tensor:
    """Peak signal-to-noise ratio in dB; the peak is 2, the width of [-1, 1]."""
    return 10 * torch.log10(4 / l2(a, b).clamp_min(1e-12))


def ms_ssim(a: Tensor, b: Tensor) -> Tensor:
    """Multi-scale structural similarity (Wang et al. 2003) on as many of its scales, up to five, as the size allows."""
    make_torchvision_importable()  # torchmetrics imports it where it is installed
    from torchmetrics.functional.image import multiscale_structural_similarity_index_measure

    scales = next(n for n in (5, 4, 3, 2, 1) if 10 * 2 ** (n - 1) < a.shape[-1])
    weights = torch.tensor(MS_SSIM_WEIGHTS[:scales])
    return multiscale_structural_similarity_index_measure(
        a, b, data_range=2.0, betas=tuple((weights / weights.sum()).tolist()), reduction="none", normalize="relu"
    )


def identity(a: Tensor, b: Tensor) -> Tensor:
    """Centred identity cosine, 1 for the same face; the crop is that of aligned images, so none can go undetected."""
    network, pairs = shared(torch.device("cpu")), zip(a.split(AT_A_TIME), b.split(AT_A_TIME), strict=True)
    return torch.cat([similarity(network, *pair) for pair in pairs])


def judged(a: Tensor, b: Tensor) -> Tensor:
    """Centred identity cosine of `faces.judge`: as no loss uses that network, nothing has learned to please it.

    What it sees in b is kept for as long as that tensor exists, so b must not be changed in place.
    """
    network = judge.shared(torch.device("cpu"))
    if b not in _JUDGED:
        _JUDGED[b] = torch.cat([network(part) for part in b.split(AT_A_TIME)])
    return torch.linalg.vecdot(torch.cat([network(part) for part in a.split(AT_A_TIME)]), _JUDGED[b])


def st_lpips_distance(a: Tensor, b: Tensor) -> Tensor:
    """Shift-tolerant LPIPS with AlexNet (Ghildyal and Liu 2022).

    What the network sees in b is kept for as long as that tensor exists, so b must not be changed in place.
    """
    distance = _distance()
    if b not in _FEATURES:
        _FEATURES[b] = [distance.features(part) for part in b.split(AT_A_TIME)]
    pairs = zip(a.split(AT_A_TIME), _FEATURES[b], strict=True)
    return torch.cat([distance(part, features) for part, features in pairs])


def table_metrics(faces: bool = True, lpips: Path | None = None) -> dict[str, Callable[[Tensor, Tensor], Tensor]]:
    """The metrics of the tables by printed name.

    faces: with identity; lpips: AlexNet's weights, with LPIPS itself, see `lpips_alex`
    """
    metrics: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"L2": l2, "ST-LPIPS": st_lpips_distance} | (
        {"ID": identity, "JUDGE": judged} if faces else {}
    )
    metrics |= {"MS-SSIM": ms_ssim, "PSNR": psnr}
    if lpips:
        network = lpips_alex(lpips)
        metrics["LPIPS (AlexNet)"] = lambda a, b: network(a, b).flatten()
    return metrics


CLAIMED = ("L2", "ST-LPIPS", "ID")  # those that the paper compares, its LPIPS by ST-LPIPS


# Of the images that others were compared with, for as long as they exist: each is compared with many.
_FEATURES, _JUDGED = WeakTensorKeyDictionary(), WeakTensorKeyDictionary()


@cache
def _distance() -> PerceptualDistance:
    """One copy for all calls."""
    return st_lpips()


@cache
def lpips_alex(weights: Path) -> torch.nn.Module:
    """LPIPS v0.1 with AlexNet (package lpips): images [B, 3, s, s] twice -> [B, 1, 1, 1].

    weights: torchvision's alexnet-owt-7be5be79.pth, of which `lpips` has the linear layers alone. It is never
    downloaded, so that no table depends on whether a network answers. Raises ValueError for another file, or none.
    """
    if not weights.is_file():
        raise ValueError(f"{weights}: no such file; LPIPS needs https://download.pytorch.org/models/{ALEXNET}")
    if not sha256(weights).startswith(ALEXNET_SHA256):
        raise ValueError(f"{weights} is not {ALEXNET}: its SHA-256 does not begin with {ALEXNET_SHA256}")
    make_torchvision_importable()
    import lpips

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of arguments that lpips gives torchvision
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    state = torch.load(weights, map_location="cpu", weights_only=True)
    for part in network.net.children():  # AlexNet's convolutions in slices, under the numbers that they have there
        for number, layer in part.named_children():
            prefix = f"features.{number}."
            layer.load_state_dict({key.removeprefix(prefix): x for key, x in state.items() if key.startswith(prefix)})
    return network.eval().requires_grad_(False)
