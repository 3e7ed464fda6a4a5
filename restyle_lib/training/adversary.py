"""Discriminators that learn beside an encoder: of codes (e4e, section 4.3) and of images (IDInvert, section 3.1)."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from restyle_lib import losses
from restyle_lib.training import processes
from restyle_lib.training.settings import Settings

R1_EVERY, R1_WEIGHT = 16, 10.0  # lazy regularisation, as in e4e and StyleGAN2
POOL = 50  # codes of earlier batches that the discriminator may be shown again, so that it does not forget them


def latent_discriminator(latent: int = 512, layers: int = 4) -> nn.Module:
    """Codes [B, 512] -> scores [B]: the multilayer perceptron of e4e."""
    hidden = [part for _ in range(layers) for part in (nn.Linear(latent, latent), nn.LeakyReLU(0.2))]
    return nn.Sequential(*hidden, nn.Linear(latent, 1), nn.Flatten(0))


def image_discriminator() -> nn.Module:
    """Images [B, 3, s, s], seen at 64 px -> scores [B]."""
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(64)]
    for a, b in ((3, 32), (32, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 1), nn.Flatten(0))


class Adversary:
    """A discriminator with its optimizer and its memory of earlier fakes; the encoder sees it frozen."""

    def __init__(self, network: nn.Module, settings: Settings, device: torch.device):
        self.network = network.to(device).requires_grad_(False)
        self.parameters = list(network.parameters())
        self.optimizer = torch.optim.Adam(self.parameters, lr=settings.discriminator_lr, betas=(0.0, 0.99))
        self.pool: list[Tensor] = []

    def loss(self, fake: Tensor) -> Tensor:
        """The encoder's loss for what it made."""
        return losses.adversarial(self.network, fake)

    def learn(
        self, accelerator: Accelerator, real: Tensor, fake: Tensor, iteration: int, rng: torch.Generator
    ) -> Tensor:
        """One step of the discriminator on a batch, the same in all processes, of which each learns from its share.

        Every 16th step also bounds the gradient at real examples (R1). Returns the summand of this share in the loss.
        Raises FloatingPointError for a gradient that is not finite.
        """
        fake = self._with_earlier(fake.float(), rng)
        mine = processes.share(accelerator, len(fake))
        real, fake, part = real[mine], fake[mine], 1 / accelerator.num_processes
        self.network.requires_grad_(True)
        self.optimizer.zero_grad()
        loss = total = part * losses.discrimination(self.network, real, fake)
        if iteration % R1_EVERY == 0:
            total = loss + part * R1_WEIGHT / 2 * R1_EVERY * losses.r1(self.network, real)
        total.backward()
        processes.sum_gradients(self.parameters)
        processes.finite_norm(self.parameters, f"batch {iteration}, discriminator")
        self.optimizer.step()
        self.network.requires_grad_(False)
        return loss.detach()

    def _with_earlier(self, fake: Tensor, rng: torch.Generator) -> Tensor:
        """Every second fake, by chance, is exchanged for one of the pool once that is full."""
        shown = []
        for one in fake:
            if len(self.pool) < POOL:
                self.pool.append(one.clone())  # of its own: a view would keep its whole batch, and in each checkpoint
            elif torch.rand((), generator=rng) < 0.5:
                i = int(torch.randint(POOL, (), generator=rng))
                one, self.pool[i] = self.pool[i], one.clone()
            shown.append(one)
        return torch.stack(shown)

    def state_dict(self) -> dict:
        """Everything that an exact resume needs."""
        return {"network": self.network.state_dict(), "optimizer": self.optimizer.state_dict(), "pool": self.pool}

    def load_state_dict(self, state: dict) -> None:
        """Continues from `state_dict`."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.pool = [one.to(next(self.network.parameters()).device) for one in state["pool"]]
