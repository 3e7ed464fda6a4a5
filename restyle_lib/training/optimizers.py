"""Adam, and Ranger, with which the paper trains."""

import torch
from torch import nn

from restyle_lib.training.settings import Settings


class Ranger(torch.optim.RAdam):
    """Rectified Adam (Liu et al. 2020) that looks ahead (Zhang et al. 2019) along centralised gradients.

    Every `k` steps the weights go back to a share `alpha` of the way that they have come since (Lookahead). The mean
    of a weight's gradient over all but its first dimension is taken off first (Yong et al. 2020). Defaults are those of
    ReStyle's code. The slow weights are part of the state, so a resumed run is exact.
    """

    def __init__(
        self,
        parameters: list[nn.Parameter],
        lr: float,
        betas: tuple[float, float] = (0.95, 0.999),
        eps: float = 1e-5,
        k: int = 6,
        alpha: float = 0.5,
    ):
        super().__init__(parameters, lr=lr, betas=betas, eps=eps)
        self.k, self.alpha = k, alpha

    @torch.no_grad()
    def step(self) -> None:
        """One step of RAdam; every k-th ends on the slow weights."""
        moved = [p for group in self.param_groups for p in group["params"] if p.grad is not None]
        for p in moved:
            if p.ndim > 1:
                p.grad -= p.grad.mean(dim=tuple(range(1, p.ndim)), keepdim=True)
        begins = {p: p.clone() for p in moved if p not in self.state}
        super().step()
        for p in moved:
            state = self.state[p]
            if p in begins:
                state["slow"] = begins[p]
            if state["step"] % self.k == 0:
                p.copy_(state["slow"].lerp_(p, self.alpha))


OPTIMIZERS = {
    "adam": lambda parameters, lr: torch.optim.Adam(parameters, lr=lr, betas=(0.9, 0.99)),
    "ranger": Ranger,
}


def set_rate(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Sets the learning rate of all parameters."""
    for group in optimizer.param_groups:
        group["lr"] = lr


def build(settings: Settings, parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    """The optimizer of the encoder's parameters. Raises ValueError for an unknown name."""
    if settings.optimizer not in OPTIMIZERS:
        raise ValueError(f"no optimizer {settings.optimizer!r}; there are {', '.join(OPTIMIZERS)}")
    return OPTIMIZERS[settings.optimizer](parameters, settings.loop_lr)
