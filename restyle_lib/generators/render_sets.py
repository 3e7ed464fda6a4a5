"""Sets of renders with known codes, made once and kept in the cache."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib.images import downsample, to_uint8
from restyle_lib.paths import cache_dir, keep

POOL_SEED = 1_000_000  # of the renders that everything trains on


@dataclass
class Renders:
    """Renders of the full generator: images [n, 3, 256, 256] uint8 and the codes [n, 16, 512] that made them."""

    images: Tensor
    codes: Tensor

    def __len__(self) -> int:
        return len(self.images)

    def agreeing(self, slot: int) -> "Renders":
        """Those whose code is one style from `slot` on, so that a generator cut there can know the colours.

        The finest slots hold much of the colour: changing slots 8 to 15 moves the 64 px image by an L2 of 0.1.
        """
        return self.chosen(self.agree(slot))

    def agree(self, slot: int) -> Tensor:
        """Which those are, [n]; see `agreeing`."""
        return (self.codes[:, slot:] == self.codes[:, slot : slot + 1]).all(dim=(1, 2))

    def chosen(self, which: Tensor) -> "Renders":
        """Some of them, by a mask [n] or by indices."""
        return Renders(self.images[which], self.codes[which])


def heldout_codes(G, n: int, seed: int) -> Tensor:
    """n codes in W at psi 0.7, the natural-looking setting: the evaluation set."""
    z = torch.randn(n, 512, generator=torch.Generator().manual_seed(seed)).to(G.w_avg.device)
    return G.map(z, psi=0.7)[:, None].repeat(1, G.n_styles, 1)


def training_codes(G, n: int, seed: int, slots: int = 0) -> Tensor:
    """n codes of W+ [n, k, 512]: psi uniform in [0.5, 1], and half of them two styles that meet at a random slot.

    They meet among the first `slots` (0: those that the generator reads); finer ones follow the last of these. Wider
    than the evaluation set on purpose: an encoder's own codes stray from W, and photographs are not at psi 0.7.
    """
    rng, device = torch.Generator().manual_seed(seed), G.w_avg.device  # drawn on the CPU: the same on every device
    z = torch.randn(2 * n, 512, generator=rng)
    psi = 0.5 + 0.5 * torch.rand(2 * n, 1, generator=rng)
    crossover = torch.randint(1, slots or G.slots_read, (n, 1), generator=rng)
    crossover[torch.rand(n, 1, generator=rng) < 0.5] = G.n_styles
    from_first = (torch.arange(G.n_styles) < crossover).to(device)
    first, second = torch.lerp(G.w_avg, G.map(z.to(device)), psi.to(device)).chunk(2)
    return torch.where(from_first[..., None], first[:, None], second[:, None])


def renders(G, name: str, n: int, seed: int, codes: Callable = training_codes, shard: int = 20) -> Renders:
    """n renders of the full generator `G` at 256 px, from the cache where they are there, else made and kept.

    Files hold `shard` renders, which is all that a kill can lose; file i depends only on (seed, i), so a longer set
    begins with the shorter one. In fp32 on every machine: even CPUs that compute in bf16 take twice as long in it for
    the generator's depthwise convolutions at 1024 px.
    """
    folder = cache_dir() / "renders" / f"{name}-seed{seed}-by{shard}"
    paths = [folder / f"{i:05d}.safetensors" for i in range(-(-n // shard))]
    missing = {path for path in paths if not path.exists()}
    parts = []
    with tqdm(total=len(missing) * shard, desc=f"rendering {name}", unit="image", disable=not missing) as progress:
        for i, path in enumerate(paths):
            if path.exists():  # also where another process was there first
                progress.update(shard if path in missing else 0)
                parts.append(load_file(path))
            else:
                parts.append(_render_shard(G, codes(G, shard, seed + i), path, progress))
    images, found = (torch.cat([part[key] for part in parts]) for key in ("images", "codes"))
    return Renders(images[:n], found[:n].float())


@torch.no_grad()
def _render_shard(G, codes: Tensor, path: Path, progress: tqdm) -> dict[str, Tensor]:
    images = []
    for code in codes.split(1):  # one at a time: larger batches fall out of the cache and are slower on a CPU
        images.append(to_uint8(downsample(G.synthesize(code), 256)))
        progress.update()
    tensors = {"images": torch.cat(images).cpu().contiguous(), "codes": codes.cpu().contiguous()}
    keep(lambda temporary: save_file(tensors, temporary), path)
    return tensors
