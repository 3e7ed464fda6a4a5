"""What an inversion returns."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Inversion:
    """The whole trajectory of an inversion, on the CPU.

    latents: [B, steps+1, k, 512], index 0 is w_avg
    images:  [B, steps+1, 3, h, w], what the encoder saw as y_0..y_N, nominal range [-1, 1], unclamped
    """

    latents: Tensor
    images: Tensor

    @torch.no_grad()
    def final(self, G, step: int = -1) -> Tensor:
        """The code of one step (the last by default) rendered by `G` at its full resolution, [B, 3, H, W]."""
        device = G.w_avg.device
        return torch.cat([G.synthesize(code[None].to(device)).cpu() for code in self.latents[:, step]])


def joined(parts: list[Inversion]) -> Inversion:
    """Inversions of the batches of a set, as one of all its images."""
    return Inversion(torch.cat([part.latents for part in parts]), torch.cat([part.images for part in parts]))
