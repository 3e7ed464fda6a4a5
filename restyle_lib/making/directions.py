"""Finds edit directions in W: fitted to labels of W samples, and two kinds that need none, SeFa and GANSpace.

python -m restyle_lib.making.directions   fits the named directions anew and ships them
"""

import json
from collections.abc import Sequence
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn
from tqdm.auto import tqdm

from restyle_lib.evaluation.editability import effects_of_looks
from restyle_lib.faces import attributes, looks
from restyle_lib.generators import load_generator, mobile, stylegan2
from restyle_lib.inversion.edit import LOOKS, SHIPPED
from restyle_lib.inversion.inverter import Viewed
from restyle_lib.paths import save_atomically
from restyle_lib.precision import best_device

SAMPLES, SEED, PSI = 3000, 40_000_000, 0.8  # of W that are labelled; seeds that nothing else uses
RIDGE = 0.1  # in units of the mean variance of w; of 0.001 to 1 it predicts unseen labels best


@torch.no_grad()
def label(G, n: int, seed: int, psi: float, networks: Sequence[nn.Module] = ()) -> tuple[Tensor, Tensor]:
    """n samples of W at psi, [n, 512], and the labels of their images, [n, 5] in the order of `attributes.NAMES`.

    networks: what labels them where it is not `Attributes` alone; their labels stand side by side
    Five a second on two cores with the whole generator seen at 256 px.
    """
    device = G.w_avg.device
    networks = networks or [attributes.Attributes().to(device)]
    w = G.map(torch.randn(n, 512, generator=torch.Generator().manual_seed(seed)).to(device), psi)
    parts = tqdm(w.split(1), desc="labelling samples of W", unit="image")
    return w, torch.cat([attributes.side_by_side(networks, G.synthesize(part).clamp(-1, 1)) for part in parts])


def fit(w: Tensor, labels: Tensor, covariance: Tensor) -> Tensor:
    """Directions [a, 512] of labels [n, a] of samples w [n, 512]: each changes its own label and no other.

    Ridge regression predicts the labels, in standard deviations, as B^T w. Of all steps d that raise label i by one and
    leave the others, B^T d = e_i, each direction is the one whose d^T M^-1 d is smallest: D = M B (B^T M B)^-1. M = C,
    the covariance of W, would ask for the most usual step in W, which changes much that no label knows; M = I, for the
    shortest one, which leads out of W: along it the pose, for one, hardly moves. M = C^(1/2) lies between them.
    """
    values, vectors = torch.linalg.eigh(covariance.double())
    M = vectors * values.clamp_min(0).sqrt() @ vectors.T
    B = regression(w, labels)
    return torch.linalg.solve(B.T @ M @ B, B.T @ M).float()


def regression(w: Tensor, labels: Tensor) -> Tensor:
    """Ridge regression of standardised labels [n, a] on samples w [n, 512]: B [512, a], in double precision."""
    x = w.double() - w.double().mean(0)
    ridge = RIDGE * x.var(0).mean() * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
    return torch.linalg.solve(x.T @ x / len(x) + ridge, x.T @ standardised(labels) / len(x))


def explained(w: Tensor, labels: Tensor, unseen: float = 0.2) -> Tensor:
    """R^2 [a] of `regression` on the last share of samples, which it has not seen."""
    n = round(len(w) * (1 - unseen))
    y = standardised(labels)
    error = y[n:] - w[n:].double() @ regression(w[:n], y[:n])
    return 1 - error.var(0) / y[n:].var(0)


def standardised(labels: Tensor) -> Tensor:
    """Labels [n, a] with mean 0 and standard deviation 1, in double precision."""
    labels = labels.double()
    return (labels - labels.mean(0)) / labels.std(0)


@torch.no_grad()
def covariance(G, n: int = 50_000, seed: int = 0) -> Tensor:
    """The covariance [512, 512] of W."""
    z = torch.randn(n, len(G.w_avg), generator=torch.Generator().manual_seed(seed)).to(G.w_avg.device)
    return torch.cov(G.map(z).T)


def ganspace(G, n: int = 10) -> Tensor:
    """The first n principal components of W (Härkönen et al. 2020), [n, 512], each one standard deviation long."""
    variances, vectors = torch.linalg.eigh(covariance(G))
    return (vectors * variances.clamp_min(0).sqrt()).T.flip(0)[:n]


def sefa(G, n: int = 10) -> Tensor:
    """The n unit directions [n, 512] that move the styles of all layers most (Shen and Zhou 2021, eq. 5).

    They need the generator's weights alone: eigenvectors of A^T A, where A stacks the affine maps from w to style.
    """
    affine = [layer.weight for layer in G.modules() if isinstance(layer, mobile.Modulation | stylegan2.Affine)]
    A = torch.cat([F.normalize(weight, dim=1) for weight in affine])
    return torch.linalg.eigh(A.T @ A)[1].T.flip(0)[:n]


def ship() -> tuple[dict, dict]:
    """Labels samples of W, fits the named directions, and writes them with their recipes into data/weights."""
    G = Viewed(load_generator("faces-1024"), (256, 256)).to(best_device())
    networks = [attributes.Attributes().to(best_device()), looks.Looks().to(best_device())]
    w, labels = label(G, SAMPLES, SEED, PSI, networks)
    n, C = len(attributes.NAMES), covariance(G)
    of_attributes = _write(SHIPPED, attributes.NAMES, fit(w, labels[:, :n], C), w, labels[:, :n])
    return of_attributes, ship_looks(w, labels, C)


def ship_looks(w: Tensor, labels: Tensor, C: Tensor) -> dict:
    """The directions of `looks.NAMES`, each of which leaves the attributes and the others alone."""
    n = len(attributes.NAMES)
    found = fit(w, labels, C)[n:][: len(looks.NAMES)]
    measured = dict(zip(looks.NAMES, effects_of_looks(found, labels.std(0), SEED + 1), strict=True))
    return _write(LOOKS, looks.NAMES, found, w, labels[:, n:][:, : len(looks.NAMES)], {"edits by +-2, n = 8": measured})


def _write(
    path: Path, names: Sequence[str], found: Tensor, w: Tensor, labels: Tensor, more: dict | None = None
) -> dict:
    recipe = {
        "source": "python -m restyle_lib.making.directions",
        "samples": {"n": SAMPLES, "seed": SEED, "psi": PSI, "generator": "faces-1024, averaged to 256 px"},
        "ridge": RIDGE,
        "labels": {
            name: {"mean": mean, "standard deviation": deviation, "R2 on an unseen fifth": r2}
            for name, mean, deviation, r2 in zip(
                names, *(_rounded(x) for x in (labels.mean(0), labels.std(0), explained(w, labels))), strict=True
            )
        },
    } | (more or {})
    tensors = {name: x.clone() for name, x in zip(names, found.cpu(), strict=True)}
    save_atomically(lambda temporary: save_file(tensors, temporary), path)
    path.with_suffix(".json").write_text(json.dumps(recipe, indent=2) + "\n")
    return recipe


def _rounded(values: Tensor) -> list[float]:
    return [float(f"{value:.4g}") for value in values.tolist()]


if __name__ == "__main__":
    print(json.dumps(ship(), indent=2))
