"""The methods that are compared: their order, names and colours, the same in every table and figure."""

import json
from collections.abc import Iterable

import torch
from torch import Tensor

from restyle_lib.evaluation.cache import digest, remembered_rows, remembered_tensors
from restyle_lib.evaluation.labels import COLOURS as COLOURS
from restyle_lib.inversion.inverter import Inverter, Viewed, load_inverter, shipped_inverters
from restyle_lib.inversion.optimize import hybrid, optimize
from restyle_lib.inversion.refine import Callback
from restyle_lib.inversion.result import Inversion
from restyle_lib.inversion.tune import tune
from restyle_lib.paths import WEIGHTS

# In the paper's order. What is not shipped is left out of every comparison, and the claims say so.
ENCODERS = {
    "IDInvert": "faces/idinvert",
    "pSp": "faces/psp",
    "e4e": "faces/e4e",
    "ReStyle-pSp": "faces/restyle-psp",
    "ReStyle-e4e": "faces/restyle-e4e",
    "ReStyle-pSp, FPN": "faces/restyle-psp-fpn",
}
OPTIMIZATIONS = {"Optimization, W": "W", "Optimization, W+": "W+"}  # and the spaces that they search, from w_avg
HYBRIDS = {"Hybrid, pSp": "pSp", "Hybrid, ReStyle-pSp": "ReStyle-pSp"}  # and the encoders that they start from
# Pivotal tuning, and the hybrids whose codes are the pivots. What it finds is a generator for each image, not a code.
PIVOTAL = {"PTI, ReStyle-pSp": "Hybrid, ReStyle-pSp"}
START_STEPS = 5  # of a hybrid's encoder


def shipped() -> dict[str, str]:
    """Names of the shipped encoders of faces by label, in order."""
    names = shipped_inverters()
    return {label: name for label, name in ENCODERS.items() if name in names}


def budgets() -> dict[str, dict[str, int]]:
    """By label, the passes and images of the loop that each shipped encoder was trained with, as its recipe says."""
    files = {label: WEIGHTS / f"{name.replace('/', '-')}.json" for label, name in shipped().items()}
    recipes = {label: json.loads(file.read_text(encoding="utf-8")) for label, file in files.items()}
    return {
        label: {part: sum(r.get(part, 0) for r in recipe["rounds"][1:]) for part in ("passes", "images")}
        for label, recipe in recipes.items()
    }


def load_encoders(device: torch.device | str = "cpu", labels: Iterable[str] = tuple(ENCODERS)) -> dict[str, Inverter]:
    """The encoders that are compared, or those of them that have these labels, by label, in order."""
    return {label: load_inverter(name).to(device) for label, name in shipped().items() if label in labels}


def searches(encoders: dict[str, Inverter]) -> list[str]:
    """Labels of the optimizations, and of the hybrids that can start from one of these encoders, in order."""
    return [*OPTIMIZATIONS, *(label for label, start in HYBRIDS.items() if start in encoders)]


def tunings(encoders: dict[str, Inverter]) -> list[str]:
    """Labels of the pivotal tunings whose hybrids can start from one of these encoders, in order."""
    return [label for label, pivot in PIVOTAL.items() if pivot in searches(encoders)]


def invert(
    label: str, encoders: dict[str, Inverter], images: Tensor, steps: int, callback: Callback | None = None
) -> Inversion:
    """Images [n, 3, h, w] in [-1, 1] by one of `encoders` or `searches`: latents [n, 2, k, 512], its start and its end.

    All search the codes of one generator, that of the encoders. callback: as in `refine` and `optimize`
    """
    inverter = _inverter(label, encoders)
    if label in OPTIMIZATIONS:
        x = inverter.prepare(images)
        return optimize(inverter.view(images), x, OPTIMIZATIONS[label], steps, callback=callback, interruptible=False)
    if label in HYBRIDS:
        start = begun(inverter, images)
        # a search that Ctrl-C ended is none to keep in the cache
        found, ends = hybrid(inverter, images, start, steps, callback, interruptible=False), [-2, -1]
    else:
        found, ends = inverter.invert(images, steps, callback), [0, -1]
    return Inversion(found.latents[:, ends], found.images[:, ends])


def _inverter(label: str, encoders: dict[str, Inverter]) -> Inverter:
    """The one that a label names or that its hybrid begins at; an optimization has the generator of the first."""
    return next(iter(encoders.values())) if label in OPTIMIZATIONS else encoders[HYBRIDS.get(label, label)]


def begun(inverter: Inverter, images: Tensor) -> Inversion:
    """Where a hybrid's encoder ends with images [n, 3, h, w] in [-1, 1]: latents [n, 1, k, 512].

    From the cache, since several searches begin there.
    """

    def ends() -> dict[str, Tensor]:
        return {name: x[:, -1:] for name, x in vars(inverter.invert(images, START_STEPS)).items()}

    return Inversion(**remembered_tensors(digest("begun", inverter, inverter.decay, START_STEPS, images), ends))


def inverted(label: str, encoders: dict[str, Inverter], images: Tensor, steps: int, batch: int = 16) -> Inversion:
    """The same, image by image from the cache, and in batches what it lacks.

    So an interrupted search goes on where it was, and notebooks that look at some of the same images share them.
    """
    used = _inverter(label, encoders)
    weights = digest(used.G, used.input_size) if label in OPTIMIZATIONS else digest(used, used.decay)
    keys = [digest(label, weights, x, steps) for x in images.split(1)]

    def search_lacking(lacking: Tensor) -> dict[str, Tensor]:
        return vars(invert(label, encoders, images[lacking], steps))

    return Inversion(**remembered_rows(keys, search_lacking, batch))


def tune_to(
    label: str,
    encoders: dict[str, Inverter],
    images: Tensor,
    pivots: Tensor,
    steps: int,
    callback: Callback | None = None,
) -> Inversion:
    """Images [n, 3, h, w] in [-1, 1] by one of `tunings`, each by a generator of its own: images before and after.

    pivots: codes [n, k, 512] of the images, as the hybrid found them; they are the latents before and after
    Images are tuned to as all methods see them, at the size of the loop. callback: as in `tune`
    """
    inverter, seen = encoders[HYBRIDS[PIVOTAL[label]]], []
    G = inverter.G
    view = inverter.view(images)
    targets = images if view.px else inverter.prepare(images)
    for x, code in zip(targets.split(1), pivots.to(G.w_avg.device).split(1), strict=True):
        T = tune(G, code, x, steps, callback=callback, interruptible=False)
        views = [view, Viewed(T, view.size, view.px)]
        with torch.no_grad(), inverter.precision():
            seen.append(torch.stack([view.synthesize(code).float().cpu() for view in views], 1))
    return Inversion(pivots.cpu()[:, None].repeat(1, 2, 1, 1), torch.cat(seen))


def tuned(label: str, encoders: dict[str, Inverter], images: Tensor, pivots: Tensor, steps: int) -> Inversion:
    """The same, image by image from the cache, so that an interrupted one goes on where it was."""
    weights, pairs = digest(encoders[HYBRIDS[PIVOTAL[label]]]), zip(images.split(1), pivots.split(1), strict=True)
    keys = [digest(label, weights, x, code, steps) for x, code in pairs]

    def tune_lacking(lacking: Tensor) -> dict[str, Tensor]:
        return vars(tune_to(label, encoders, images[lacking], pivots[lacking], steps))

    return Inversion(**remembered_rows(keys, tune_lacking))
