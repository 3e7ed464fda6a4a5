"""Photographs for training: checked once, decoded by worker processes, in an order that no stop can change."""

import csv
import hashlib
import json
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from restyle_lib import losses
from restyle_lib.checkpoints.domains import Domain
from restyle_lib.generators.stylegan2 import keeping_rows
from restyle_lib.images import PhotoError, open_photo, to_float, to_tensor, to_uint8
from restyle_lib.inversion.inverter import Viewed
from restyle_lib.paths import save_atomically
from restyle_lib.training.sources.collection import Collection, collection, facts, verdict

ATTEMPTS = 100  # files in a row that may have become unreadable since they were checked


class Photographs:
    """A `Source` of photographs, whose codes nobody knows.

    Images are cropped to the domain's proportions and scaled to the encoder's input; faces must be aligned already.
    The last `validation` of the usable images are kept for validation.
    """

    def __init__(
        self,
        G,
        domain: Domain,
        images: Path,
        validation: int,
        workers: int = 0,
        report: Path | None = None,
        start: nn.Module | None = None,
    ):
        """images:  a folder of images at any depth, or a zip archive of them
        workers: processes that decode images while the device computes; they change no result
        report:  CSV file to be written: every image that is left out or converted, and why
        start:   a pretrained backbone that the encoder begins with

        Raises ValueError where too few images can be used; warns where the generator is not of the domain's usual size.
        """
        if domain.output_size and domain.output_size != G.resolution[1]:
            sizes = f"at {domain.output_size} px as a rule, by this generator at {G.resolution[1]}"
            warnings.warn(f"images of {domain.name} are made {sizes}; training takes any", stacklevel=2)
        if domain.rows and G.resolution[0] == G.resolution[1]:  # a generator's own file does not say what it pads
            G = keeping_rows(G, domain.rows)
        self.whole, self.G = G, Viewed(G, domain.input_size)
        self.domain, self.device, self.start, self.slots = domain, G.w_avg.device, start, G.slots_read
        with torch.no_grad():
            self.average_image = self.G.synthesize(G.w_avg[None])[0]
        source, self.workers = collection(images), workers
        usable = _checked(source, domain, workers, report)
        if len(usable) < 2:
            raise ValueError(
                f"{images}: {len(usable)} usable images; training needs at least two"
                + (f" (see {report})" if report else "")
            )
        kept = min(validation, len(usable) // 2)
        self.files = usable[: len(usable) - kept]
        self._decoded = Decoded(source, domain, self.files)
        stamps = source.files()
        self._identity = hashlib.sha256(json.dumps([[name, stamps[name][0]] for name in usable]).encode()).hexdigest()
        heldout = Decoded(source, domain, usable[len(usable) - kept :])
        self.validation = to_float(torch.stack([heldout[i, False] for i in range(kept)])).to(self.device)
        self._next: tuple | None = None
        self._batches: Iterator[Tensor] = iter(())

    def state_dict(self) -> dict:
        """What a checkpoint says of the images, so that a run is not continued on others; see `load_state_dict`."""
        return {"images": len(self.files), "identity": self._identity}

    def load_state_dict(self, state: dict) -> None:
        """Compares: names and sizes tell images apart, wherever they lie. Raises ValueError where they are others."""
        if state["identity"] != self._identity:
            raise ValueError(
                f"the run to be continued learned from {state['images']} other images than these {len(self.files)}; "
                "name the same with --images, or use another folder or --no-resume"
            )

    def batch(self, rng: torch.Generator, n: int, share: slice = slice(None)) -> tuple[Tensor, Tensor]:
        """n images [n, 3, h, w] in [-1, 1], mirrored by chance; their codes are NaN.

        rng:   of `sources.generator_for`. Its seed numbers the batch, so that the workers know which ones come next
        share: of the n images, those of this process
        """
        number = rng.initial_seed()
        if self._next != (number, n, share):
            order = Order(len(self.files), n, share, number)
            pin = self.device.type == "cuda"
            loader = DataLoader(self._decoded, batch_sampler=order, num_workers=self.workers, pin_memory=pin)
            self._batches = iter(loader)
        self._next = (number + 1, n, share)
        x = to_float(next(self._batches).to(self.device, non_blocking=True))
        return x, torch.full((len(x), self.G.n_styles, len(self.G.w_avg)), torch.nan, device=self.device)

    def goal(self, x: Tensor, codes: Tensor) -> Tensor:
        """What a reconstruction should look like: x itself."""
        return x

    def pairs(self, rng: torch.Generator, n: int) -> tuple[Tensor, Tensor, Tensor]:
        """Raises ValueError: pairs are learned from known codes."""
        raise ValueError("photographs have no known codes to warm up with; leave the setting warmup_passes at 0")

    def real_images(self, rng: torch.Generator, n: int) -> Tensor:
        """n photographs, [n, 3, h, w] in [-1, 1]; decoded here, not by the workers."""
        chosen = torch.randint(len(self.files), (n,), generator=rng).tolist()
        return to_float(torch.stack([self._decoded[i, False] for i in chosen]).to(self.device))

    @cached_property
    def codes_scale(self) -> float:
        """The standard deviation of w, over 10,000 samples."""
        z = torch.randn(10_000, len(self.G.w_avg), generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            return (self.G.map(z.to(self.device)) - self.G.w_avg).std().item()

    @cached_property
    def whitening(self) -> Tensor:
        """Of the prior, [512, 512]; computed where a setting gives the prior a weight."""
        return losses.whitening(self.G)


class Order:
    """Which images make up batch `first` and all that follow, as lists of (index, whether mirrored).

    Every epoch is a permutation of its own. A function of the batch's number alone: neither a resumed run, nor other
    numbers of workers or processes see other images.
    """

    def __init__(self, total: int, n: int, share: slice, first: int):
        self.total, self.n, self.share, self.first = total, n, share, first

    def __iter__(self) -> Iterator[list[tuple[int, bool]]]:
        number = self.first
        while True:
            places = [divmod(number * self.n + i, self.total) for i in range(self.n)]
            heads = torch.rand(self.n, generator=torch.Generator().manual_seed(number)) < 0.5
            chosen = [int(permutation(self.total, epoch)[place]) for epoch, place in places]
            yield [(i, bool(head)) for i, head in zip(chosen, heads, strict=True)][self.share]
            number += 1


@lru_cache(maxsize=2)
def permutation(total: int, epoch: int) -> Tensor:
    """The order of the images in one epoch, [total]."""
    return torch.randperm(total, generator=torch.Generator().manual_seed(epoch))


class Decoded:
    """Items (index, whether mirrored) -> uint8 [3, h, w] at the size of the encoder's input.

    A file that has become unreadable since it was checked is reported, and the next one takes its place.
    """

    def __init__(self, source: Collection, domain: Domain, files: list[str]):
        self.source, self.domain, self.files = source, domain, files

    def __getitem__(self, item: tuple[int, bool]) -> Tensor:
        index, mirrored = item
        for i in range(index, index + ATTEMPTS):
            name = self.files[i % len(self.files)]
            try:
                with self.source.open(name) as file:
                    x = to_uint8(to_tensor(self.domain.fit(open_photo(file, whole=True)))[0])
                    return x.flip(2) if mirrored else x
            except PhotoError as error:
                print(f"left out {error}", file=sys.stderr)
        raise PhotoError(
            f"{self.source.path}: {ATTEMPTS} files in a row have become unreadable; is the disk still there?"
        )


def _checked(source: Collection, domain: Domain, workers: int, report: Path | None) -> list[str]:
    """Names of the images that training can use; prints how many and why not the others, and writes the report."""
    verdicts = {name: verdict(found, domain) for name, found in facts(source, workers).items()}
    remarks = [(name, "converted" if used else "left out", why) for name, (used, why) in verdicts.items() if why]
    usable = [name for name, (used, _) in verdicts.items() if used]
    counts = ", ".join(f"{count} {what}" for what, count in Counter(what for _, what, _ in remarks).items())
    said = [f"{source.path}: {len(usable)} of {len(verdicts)} images can be used"]
    said += [f"; {counts}"] if counts else []
    said += [f", listed in {report}"] if counts and report else []
    print("".join(said))
    if report:
        save_atomically(lambda temporary: _write(temporary, remarks), report)
    return usable


def _write(path: Path, remarks: list[tuple[str, str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows([("file", "what", "why"), *remarks])
