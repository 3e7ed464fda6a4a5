"""The two means that are shipped beside the weights: of the generator's codes, and of its faces' embeddings.

python -m restyle_lib.making.statistics
"""

import torch
from safetensors.torch import save_file
from torch import Tensor

from restyle_lib.faces import networks
from restyle_lib.faces.identity import IDENTITY_CROP, face_crop
from restyle_lib.generators import embedded, render_sets
from restyle_lib.images import to_float
from restyle_lib.paths import WEIGHTS, save_atomically


@torch.no_grad()
def mean_code(G, n: int = 100_000, seed: int = 0) -> Tensor:
    """w_avg [512]: the mean of n mapped codes (StyleGAN, appendix B)."""
    rng = torch.Generator().manual_seed(seed)
    total = sum(G.mapping(torch.randn(1000, 512, generator=rng)).double().sum(0) for _ in range(n // 1000))
    return (total / n).float()


@torch.no_grad()
def mean_embedding(G, n: int = 500) -> Tensor:
    """The mean raw identity embedding [128] of the first n training renders."""
    images = render_sets.renders(G, "train", n, render_sets.POOL_SEED, shard=100).images
    network = networks.load("recognition")
    return torch.cat([network(face_crop(to_float(x), IDENTITY_CROP, 150)) for x in images.split(25)]).mean(0)


if __name__ == "__main__":
    teacher = embedded(1024)
    for name, key, tensor in [
        ("faces-w_avg", "w_avg", mean_code(teacher)),
        ("identity-mean", "mean", mean_embedding(teacher)),
    ]:
        path = WEIGHTS / f"{name}.safetensors"
        save_atomically(lambda temporary, t={key: tensor}: save_file(t, temporary), path)
