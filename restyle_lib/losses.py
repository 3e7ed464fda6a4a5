"""The losses of encoder training, side by side. Images are [B, 3, s, s] in [-1, 1], codes [B, k, 512]."""

import hashlib

import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from restyle_lib.paths import cache_dir, keep

_WHITENINGS: dict[str, Tensor] = {}  # by what `whitening` knows its generator by: every search asks for the same one


def l2(y: Tensor, x: Tensor) -> Tensor:
    """Mean squared error over pixels (ReStyle eq. 4, pSp eq. 1)."""
    return F.mse_loss(y, x)


def perceptual(distance: nn.Module, y: Tensor, x_features: list[Tensor]) -> Tensor:
    """LPIPS to an image given by its features (pSp eq. 2); `distance` is a network of `features/perceptual.py`."""
    return distance(y, x_features).mean()


def identity(network: nn.Module, y: Tensor, x_embedding: Tensor) -> Tensor:
    """1 - cosine of face embeddings (pSp eq. 4); `network` is `restyle_lib.faces.identity.Identity`."""
    return 1 - (network(y).float() * x_embedding.float()).sum(1).mean()  # no vecdot: autocast would round it to bf16


def latent(codes: Tensor, target: Tensor, scale: float, slots: int) -> Tensor:
    """Mean squared distance to the code that made the image, in units of w's variance.

    Not in the paper: it needs images whose codes are known, as those of renders are. scale is the standard
    deviation of w; slots is how many of the first slots count, those that the generator in the loop reads. The finer
    ones repeat the last of these, which would otherwise weigh as much as all others together.
    """
    return F.mse_loss(codes[:, :slots] / scale, target[:, :slots] / scale)


def prior(codes: Tensor, w_avg: Tensor, whitening: Tensor, slots: int) -> Tensor:
    """Squared Mahalanobis distance of each style from w_avg, in the mean 1 for samples of W (psi 1).

    Not in the paper; for images whose code is unknown. Directions in which W hardly varies count most: a style that
    moves along them is one that the generator has never met. whitening [512, 512] is that of `whitening`.
    """
    return priors(codes, w_avg, whitening, slots).mean()


def priors(codes: Tensor, w_avg: Tensor, whitening: Tensor, slots: int) -> Tensor:
    """`prior` of each code, [B]."""
    return ((codes[:, :slots] - w_avg) @ whitening).square().mean((1, 2))


@torch.no_grad()
def whitening(G, n: int = 50_000) -> Tensor:
    """[512, 512], such that (w - w_avg) @ whitening has the identity as its covariance in W.

    It takes seconds, so it is kept in the cache. A generator is known by w_avg and by how it maps a few z: mapping
    networks that agree in these are the same, whatever draws their codes.
    """

    def mapped(count: int) -> Tensor:
        return G.map(torch.randn(count, len(G.w_avg), generator=torch.Generator().manual_seed(0)).to(G.w_avg.device))

    known_by = torch.cat([G.w_avg[None], mapped(4)]).cpu().numpy().tobytes()
    key = hashlib.sha256(known_by + str(n).encode()).hexdigest()
    if key not in _WHITENINGS:
        path = cache_dir() / "whitenings" / f"{key}.safetensors"
        if path.exists():
            _WHITENINGS[key] = load_file(path)["whitening"]
        else:
            w = mapped(n) - G.w_avg
            variances, directions = torch.linalg.eigh(w.T @ w / n)
            found = _WHITENINGS[key] = (directions / variances.clamp_min(1e-4).sqrt()).cpu().contiguous()
            keep(lambda temporary: save_file({"whitening": found}, temporary), path)
    return _WHITENINGS[key].to(G.w_avg.device)


def delta(codes: Tensor) -> Tensor:
    """Sum over slots of the distance to slot 0's style, mean over the batch: keeps codes near W (e4e eq. 4)."""
    return (codes[:, 1:] - codes[:, :1]).norm(dim=2).sum(1).mean()


def w_norm(codes: Tensor, w_avg: Tensor) -> Tensor:
    """Distance of the whole code from the mean code, mean over the batch (pSp eq. 3)."""
    return (codes - w_avg).flatten(1).norm(dim=1).mean()


def adversarial(discriminator: nn.Module, fake: Tensor) -> Tensor:
    """Non-saturating loss of what a discriminator should take for real (Goodfellow 2014; e4e eq. 3)."""
    return F.softplus(-discriminator(fake)).mean()


def discrimination(discriminator: nn.Module, real: Tensor, fake: Tensor) -> Tensor:
    """The discriminator's side of `adversarial`."""
    return F.softplus(-discriminator(real)).mean() + F.softplus(discriminator(fake)).mean()


def r1(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Squared gradient of the discriminator at real examples, mean over the batch (Mescheder et al. 2018, eq. 9)."""
    real = real.detach().requires_grad_()
    (gradient,) = torch.autograd.grad(discriminator(real).sum(), real, create_graph=True)
    return gradient.square().flatten(1).sum(1).mean()
