"""A StyleGAN2 whose images OpenVINO makes, for CPUs."""

import torch
from torch import Tensor, nn

from restyle_lib.compilation import Compiled
from restyle_lib.generators.mapping import each_slot
from restyle_lib.generators.stylegan2 import StyleGAN2


class CompiledGenerator(nn.Module):
    """`G` itself, but that its images with the noise "fixed" come, but for rounding, from its weights as compiled.

    What needs gradients, as a search does, and other noise is G's own. bf16: see `Compiled`
    """

    def __init__(self, G: StyleGAN2, bf16: bool = False):
        super().__init__()
        self.G, self.n_styles, self.slots_read, self.resolution = G, G.n_styles, G.slots_read, G.resolution
        self.compiled = Compiled(G.synthesize, G.w_avg.expand(1, G.n_styles, -1).contiguous(), bf16)

    @property
    def w_avg(self) -> Tensor:
        """G's own."""
        return self.G.w_avg

    def map(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """As G maps z [B, 512] to w [B, 512]."""
        return self.G.map(z, psi)

    def synthesize(self, codes: Tensor, noise: str = "fixed") -> Tensor:
        """Codes [B, 512] or [B, k, 512] -> RGB images [B, 3, H, W], as G's; ValueError for codes of another shape."""
        if noise != "fixed" or (torch.is_grad_enabled() and codes.requires_grad):
            return self.G.synthesize(codes, noise)
        return self.compiled(each_slot(codes, self.n_styles, len(self.w_avg)))
