"""pSp's encoder (Richardson et al. 2021, section 3.1) at the size of ours: the heads read three maps."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from restyle_lib.encoders.simplified import WIDTHS, Encoder, StyleHeads

COARSE, MIDDLE = 3, 7  # heads below COARSE read the smallest map, those below MIDDLE the middle one, as in the paper


class PyramidEncoder(Encoder):
    """pSp's and, progressive, e4e's: coarse heads read the last map, finer ones earlier maps enriched by it."""

    def __init__(self, in_channels: int = 3, n_styles: int = 16, progressive: bool = False):
        super().__init__(in_channels, n_styles, progressive)
        self.lateral = nn.ModuleList(nn.Conv2d(width, WIDTHS[2], 1) for width in (WIDTHS[1], WIDTHS[0]))
        for lateral in self.lateral:
            nn.init.zeros_(lateral.weight)  # at first the finer maps show what the last one does
            nn.init.zeros_(lateral.bias)
        self.counts = (COARSE, MIDDLE - COARSE, n_styles - MIDDLE)
        self.heads = nn.ModuleList(StyleHeads(WIDTHS[2], n, self.people) for n in self.counts)

    def styles(self, maps: list[Tensor], people: Tensor) -> Tensor:
        fine, middle, coarse = maps
        pyramid = [coarse]
        for lateral, finer in zip(self.lateral, (middle, fine), strict=True):
            above = F.interpolate(pyramid[-1], finer.shape[2:], mode="bilinear", align_corners=False)
            pyramid.append(above + lateral(finer))
        return torch.cat([heads(x, people) for heads, x in zip(self.heads, pyramid, strict=True)], dim=1)

    def from_simplified(self, state: dict[str, Tensor]) -> dict[str, Tensor]:
        """Each level takes its share of the heads; the laterals are zero, so it does nearly the same at first."""
        arranged = self.state_dict()
        for name, x in state.items():
            if name.startswith("heads."):
                shares = x.unflatten(0, (self.n_styles, -1)).split(self.counts)
                for level, share in enumerate(shares):
                    arranged[name.replace("heads.", f"heads.{level}.", 1)] = share.flatten(0, 1)
            else:
                arranged[name] = x
        return arranged | {name: torch.zeros_like(x) for name, x in arranged.items() if name.startswith("lateral.")}
