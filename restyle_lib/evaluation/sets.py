"""The images that methods are compared on."""

from collections.abc import Iterator
from pathlib import Path

import matplotlib.cbook
import skimage.data
import torch
from PIL import Image
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib.assets import fetch
from restyle_lib.checkpoints.domains import Domain
from restyle_lib.evaluation.cache import digest, remembered_tensors
from restyle_lib.faces.align import align
from restyle_lib.generators import load_generator, render_sets
from restyle_lib.images import PhotoError, is_called_photo, open_photo, to_tensor
from restyle_lib.inversion import detail
from restyle_lib.precision import best_device

HELDOUT_SEED = 20_000_000


def heldout(n: int) -> render_sets.Renders:
    """n fp32 renders of the full 1024 px generator at psi 0.7, seeds that no training uses, at 256 px.

    They are easier than photographs, since a code that reproduces them exists.
    """
    return render_sets.renders(
        load_generator("faces-1024").to(best_device()), "heldout", n, HELDOUT_SEED, render_sets.heldout_codes
    )


def photographs() -> dict[str, Image.Image]:
    """Four public-domain photographs, unaligned: by NASA, the US Navy and the White House."""
    hopper = matplotlib.cbook.get_sample_data("grace_hopper.jpg", asfileobj=False)
    white_house = fetch("face-recognition")
    return {
        "Eileen Collins": Image.fromarray(skimage.data.astronaut()),
        "Grace Hopper": open_photo(hopper),
        "Barack Obama": open_photo(white_house / "obama.jpg"),
        "Joe Biden": open_photo(white_house / "biden.jpg"),
    }


def aligned_photographs(size: int = 256, n: int = 4) -> tuple[list[str], Tensor]:
    """Names of the first n of four, and the FFHQ-aligned crops [n, 3, size, size] in [-1, 1].

    From the cache, since another number of threads rounds landmarks in another way, which moves some pixels by a level:
    what one notebook found of a photograph would be unknown to the next.
    """
    photos = photographs()
    key = digest("aligned", size, *(photo.tobytes() for photo in photos.values()))
    crops = remembered_tensors(key, lambda: {name: to_tensor(align(photo, size)) for name, photo in photos.items()})
    names = list(photos)[:n]
    return names, torch.cat([crops[name] for name in names])


def of_folder(
    folder: Path, domain: Domain, size: int = 256, aligned: bool = False
) -> tuple[list[str], Tensor, dict[str, str]]:
    """Names and images [n, 3, size, w] of a folder's photographs, prepared as `domain` wants, and {skipped file: why}.

    aligned: they are cropped already. Smaller ones are enlarged, unless all are of one size, which they then keep.
    Raises PhotoError where none can be used.
    """
    skipped: dict[str, str] = {}
    names, images = zip(*prepared(folder, domain, skipped, size, aligned), strict=True)
    if len({image.shape for image in images}) > 1:
        images = tuple(detail.fitted(image, (size, image.shape[3] * size // image.shape[2])) for image in images)
    return list(names), torch.cat(images), skipped


def batches(
    folder: Path, domain: Domain, skipped: dict[str, str], size: int = 256, aligned: bool = False, batch: int = 20
) -> Iterator[Tensor]:
    """The images of `of_folder`, at most `batch` of one size at a time, so that memory holds no more than these.

    skipped: is given {file: why} of what cannot be used. Raises PhotoError at the end where that is all.
    """
    waiting = []
    for _, image in prepared(folder, domain, skipped, size, aligned):
        if waiting and (len(waiting) == batch or waiting[0].shape != image.shape):
            yield torch.cat(waiting)
            waiting = []
        waiting.append(image)
    if waiting:
        yield torch.cat(waiting)


def prepared(
    folder: Path, domain: Domain, skipped: dict[str, str], size: int = 256, aligned: bool = False
) -> Iterator[tuple[str, Tensor]]:
    """Name and image [1, 3, size, w] of each photograph that can be used, under a bar; see `batches`."""
    prepare = domain.cropped if aligned else domain.prepare
    files = sorted(path for path in folder.iterdir() if not (path.is_dir() or path.name.startswith(".")))
    for path in tqdm(files, desc=folder.name, unit="image"):
        if not is_called_photo(path):
            skipped[path.name] = f"{path}: its name does not end as an image's"
            continue
        try:
            image = to_tensor(prepare(open_photo(path), size))
        except PhotoError as error:
            skipped[path.name] = str(error)
        else:
            yield path.name, image
    if len(skipped) == len(files):
        raise PhotoError(f"{folder}: none of its {len(skipped)} files is a photograph that can be used")
