"""Photographs for training: checked once, decoded by worker processes, in an order that no stop can change."""

import csv
import hashlib
import json
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cached_property, lru_cache
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader

from restyle_lib import losses
from restyle_lib.checkpoints.domains import DOMAINS, Domain
from restyle_lib.generators.stylegan2 import keeping_rows
from restyle_lib.images import PhotoError, downsample, open_photo, to_float, to_tensor, to_uint8
from restyle_lib.inversion import detail
from restyle_lib.inversion.inverter import Viewed
from restyle_lib.paths import save_atomically
from restyle_lib.training.sources import Images
from restyle_lib.training.sources.collection import Collection, collection, facts, verdict

SMALLEST = 64  # px of a face that is still learned from
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
        self._usable, self.workers = Usable(images, domain, validation, workers, report), workers
        source, self.files, kept = self._usable.source, self._usable.learned, self._usable.kept
        self._decoded, heldout = Decoded(source, domain, self.files), Decoded(source, domain, kept)
        decoded = torch.stack([heldout[i, False] for i in range(len(kept))])
        self.validation = self._known_as(to_float(decoded).to(self.device))
        self._next: tuple | None = None
        self._batches: Iterator[Tensor] = iter(())

    def state_dict(self) -> dict:
        """What a checkpoint says of the images, so that a run is not continued on others; see `load_state_dict`."""
        return {"images": len(self.files), "identity": self._usable.identity}

    def load_state_dict(self, state: dict) -> None:
        """Raises ValueError where a checkpoint is of other images."""
        others = f"{state['images']} other images than these {len(self.files)}"
        must_agree(state["identity"], self._usable.identity, others)

    def batch(self, rng: torch.Generator, n: int, share: slice = slice(None)) -> Images:
        """n images, mirrored by chance, all at their full size.

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
        return self._known_as(x)

    def _known_as(self, x: Tensor) -> Images:
        codes = torch.full((len(x), self.G.n_styles, len(self.G.w_avg)), torch.nan, device=self.device)
        return Images(x, codes, torch.full((len(x),), x.shape[2]))

    def goal(self, images: Images) -> Tensor:
        """What reconstructions should look like: the images themselves."""
        return images.x

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

    See `readable` for files that have become unreadable.
    """

    def __init__(self, source: Collection, domain: Domain, files: list[str]):
        self.source, self.domain, self.files = source, domain, files

    def __getitem__(self, item: tuple[int, bool]) -> Tensor:
        index, mirrored = item
        x = to_uint8(to_tensor(self.domain.fit(readable(self.source, self.files, index)))[0])
        return x.flip(2) if mirrored else x


class Crops:
    """Aligned faces of a folder or zip archive, decoded when they are asked for; small ones keep their resolution."""

    def __init__(self, images: Path, size: int, validation: int, report: Path | None = None):
        """size: px at which they are seen; validation, report: see `Usable`, which also raises ValueError."""
        self.usable, self.size = Usable(images, DOMAINS["faces"], validation, 0, report, (SMALLEST, SMALLEST)), size

    def __len__(self) -> int:
        return len(self.usable.learned)

    def __getitem__(self, i: int) -> tuple[Tensor, int]:
        """The image [3, size, size] in [-1, 1], enlarged where it is small, and the px that it has of its own."""
        return self._seen(readable(self.usable.source, self.usable.learned, i))

    def heldout(self, unknown: Callable[[int], Tensor]) -> Images:
        """The images kept for validation; unknown(n): n codes that nobody knows."""
        kept = self.usable.kept
        found = [self._seen(readable(self.usable.source, kept, i)) for i in range(len(kept))]
        x, px = zip(*found, strict=True)
        return Images(torch.stack(x), unknown(len(x)), torch.tensor(px))

    def _seen(self, photo: Image.Image) -> tuple[Tensor, int]:
        side = min(photo.size)
        x = to_tensor(photo.crop((0, 0, side, side)))
        if side >= self.size:
            return downsample(x, self.size)[0], self.size
        return detail.enlarged(x[0], self.size).clamp(-1, 1), side


def readable(source: Collection, files: list[str], first: int) -> Image.Image:
    """The photograph of that number; one that has become unreadable is reported, and the next one takes its place.

    Raises PhotoError where a hundred in a row are.
    """
    for i in range(first, first + ATTEMPTS):
        try:
            with source.open(files[i % len(files)]) as file:
                return open_photo(file, whole=True)
        except PhotoError as error:
            print(f"left out {error}", file=sys.stderr)
    raise PhotoError(f"{source.path}: {ATTEMPTS} files in a row have become unreadable; is the disk still there?")


class Usable:
    """The images of a folder or zip archive that training can use; the last ones are kept for validation.

    identity: what tells them from others, wherever they lie: a hash of their names and sizes
    """

    def __init__(
        self,
        images: Path,
        domain: Domain,
        validation: int,
        workers: int,
        report: Path | None,
        least: tuple[int, int] | None = None,
    ):
        """validation: images to keep, at most half of them; report: CSV file, see `Photographs`

        least: see `collection.verdict`. Raises ValueError for fewer than two.
        """
        self.source = collection(images)
        usable = _checked(self.source, domain, workers, report, least)
        learned = len(usable) - min(validation, len(usable) // 2)
        self.learned, self.kept = usable[:learned], usable[learned:]
        stamps = self.source.files()
        named = json.dumps([[name, stamps[name][0]] for name in usable])
        self.identity = hashlib.sha256(named.encode()).hexdigest()


def must_agree(saved: str, identity: str, others: str) -> None:
    """Raises ValueError where a checkpoint is of images of another identity, or one of the two of none: "".

    others: what the checkpoint's images are called in that case
    """
    if saved != identity:
        raise ValueError(
            f"the run to be continued learned from {others}; name the same with --images, or use another folder or "
            "--no-resume"
        )


def _checked(
    source: Collection, domain: Domain, workers: int, report: Path | None, least: tuple[int, int] | None = None
) -> list[str]:
    """Names of the images that training can use; prints how many and why not the others, and writes the report.

    least: see `collection.verdict`. Raises ValueError for fewer than two.
    """
    verdicts = {name: verdict(found, domain, least) for name, found in facts(source, workers).items()}
    remarks = [(name, "converted" if used else "left out", why) for name, (used, why) in verdicts.items() if why]
    usable = [name for name, (used, _) in verdicts.items() if used]
    counts = ", ".join(f"{count} {what}" for what, count in Counter(what for _, what, _ in remarks).items())
    said = [f"{source.path}: {len(usable)} of {len(verdicts)} images can be used"]
    said += [f"; {counts}"] if counts else []
    said += [f", listed in {report}"] if counts and report else []
    print("".join(said))
    if report:
        save_atomically(lambda temporary: _write(temporary, remarks), report)
    if len(usable) < 2:
        where = f" (see {report})" if report else ""
        raise ValueError(f"{source.path}: {len(usable)} usable images; training needs at least two{where}")
    return usable


def _write(path: Path, remarks: list[tuple[str, str, str]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows([("file", "what", "why"), *remarks])
