"""The paper's training of any domain: its own generator, encoder and losses, on a folder of photographs."""

from pathlib import Path

import torch
from torch import Tensor

from restyle_lib.domains import DOMAINS, Domain
from restyle_lib.images import PhotoError, open_photo, to_tensor
from restyle_lib.inversion.inverter import Viewed
from restyle_lib.training.settings import Settings

METHODS = {
    "psp": {"in_channels": 3, "steps": 1, "pyramid": True},
    "e4e": {"in_channels": 3, "steps": 1, "pyramid": True, "progressive": True},
    "restyle-psp": {},
    "restyle-e4e": {"progressive": True},
    "restyle-psp-fpn": {"pyramid": True},
}


def domain_named(name: str) -> Domain:
    """The domain `name`, or a user's own under "own": square 256 px images, ResNet34. Raises ValueError."""
    if name != "own" and name not in DOMAINS:
        raise ValueError(f"no domain {name!r}; there are {', '.join(DOMAINS)}, and own")
    return DOMAINS.get(name) or Domain("own", output_size=0)


def settings_of(method: str, domain: Domain, generator: str) -> Settings:
    """The official settings of a method in a domain (the paper's section 5 and its code), with Adam.

    Losses and backbone are the domain's; e4e's terms are the method's. Raises ValueError for an unknown method.
    """
    if method not in METHODS:
        raise ValueError(f"no method {method!r} at full scale; there are {', '.join(METHODS)}")
    kind = dict(METHODS[method])
    design = domain.backbone + "-pyramid" * kind.pop("pyramid", False)
    if kind.get("progressive"):
        kind |= {"lambda_delta": 2e-4, "lambda_latent_adversarial": 0.1, "discriminator_lr": 2e-5}
    steps = kind.get("steps", 5)
    return Settings(
        **kind,
        generator=generator,
        domain=domain.name,
        design=design,
        long_every=0,
        batch=8,
        warmup_passes=0,
        loop_passes=100_000 * 8 * steps,  # the published models are from 40,000 to 150,000 batches
        loop_lr=1e-4,
        lambda_id=domain.lambda_id,
        lambda_moco=domain.lambda_moco,
        lambda_latent=0.0,
        lambda_prior=0.0,
        renders=0,
        cut_samples=0,
        disturb=False,
        ema=0.999,
        validate_every=1000,
        checkpoint_every=500,
    )


class Photographs:
    """What `training.loop` draws from: a folder of prepared photographs, whose codes nobody knows.

    The files are cropped to the domain's proportions and scaled to the encoder's input; faces must be aligned already.
    A file that cannot be opened is left out and reported. The last `validation` files are kept for validation.
    """

    start = None  # no one-pass encoder is known to begin from

    def __init__(self, G, domain: Domain, folder: Path, validation: int):
        """Raises ValueError where the generator is not of the domain's size, or the folder holds too few images."""
        if domain.output_size and domain.output_size != G.resolution[1]:
            raise ValueError(f"{domain.name} are made at {domain.output_size} px, the generator's at {G.resolution[1]}")
        self.cut, self.domain, self.device = Viewed(G, domain.input_size), domain, G.w_avg.device
        with torch.no_grad():
            self.average_image = self.cut.synthesize(G.w_avg[None])[0]
        files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
        self.reported: set[Path] = set()
        heldout = [x for path in reversed(files[len(files) // 2 :]) if (x := self._open(path)) is not None][:validation]
        self.files = files[: len(files) - min(validation, len(files) // 2)]
        if not self.files or not heldout:
            raise ValueError(f"{folder} holds {len(files)} files; training needs at least two images")
        self.validation = torch.cat(heldout).to(self.device)

    def batch(self, rng: torch.Generator, n: int) -> tuple[Tensor, Tensor]:
        """n images [n, 3, h, w] in [-1, 1], mirrored by chance where the domain allows it; their codes are NaN."""
        images = []
        for _ in range(100 * n):
            path = self.files[int(torch.randint(len(self.files), (), generator=rng))]
            mirrored = self.domain.mirror and torch.rand((), generator=rng) < 0.5
            if (x := self._open(path)) is not None:
                images.append(x.flip(3) if mirrored else x)
            if len(images) == n:
                unknown = torch.full((n, self.cut.n_styles, len(self.cut.w_avg)), torch.nan, device=self.device)
                return torch.cat(images).to(self.device), unknown
        raise PhotoError(f"hardly any of the {len(self.files)} files can be opened; see the lines above")

    def _open(self, path: Path) -> Tensor | None:
        try:
            return to_tensor(self.domain.fit(open_photo(path)))
        except PhotoError as error:
            if path not in self.reported:
                print(f"left out {error}")
                self.reported.add(path)
            return None
