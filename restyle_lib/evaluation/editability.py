"""How well inversions can be edited: what an edit changes of the attribute it is named after, and of all else."""

from functools import partial

import pandas as pd
import torch
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib import losses
from restyle_lib.evaluation import metrics
from restyle_lib.evaluation.cache import digest, remembered
from restyle_lib.evaluation.evaluate import mean_and_interval
from restyle_lib.faces.attributes import NAMES, Attributes, side_by_side
from restyle_lib.faces.identity import shared
from restyle_lib.faces.looks import Looks
from restyle_lib.generators import load_generator
from restyle_lib.generators.averaged import averaged
from restyle_lib.inversion.edit import deviations, edit

EDITED = ("smile", "age", "pose")  # the paper's edits
STRENGTHS = (-3.0, -1.5, 1.5, 3.0)
LEAST = 0.1  # with optimized codes it has happened that an edit does the opposite of what was asked
LOWER_IS_BETTER = ["side effects", "identity lost"]  # what claim C6 compares


@torch.no_grad()
def measure(
    codes: dict[str, Tensor], G, directions: tuple[str, ...] = EDITED, strengths: tuple[float, ...] = STRENGTHS
) -> pd.DataFrame:
    """Edits codes {method: [n, k, 512]}, renders them by G, and compares each with the same code unedited.

    A row per method, image, direction and strength (0 too), attributes in standard deviations of theirs in W:

    wanted:   change of the attribute that the direction is named after, above 0 where it went the way it was asked to
    unwanted: mean absolute change of the other attributes
    ID:       identity cosine to the unedited image
    """
    networks = Attributes().to(G.w_avg.device), shared(G.w_avg.device)
    weights, asked = digest(G), [list(directions), list(strengths)]
    tables = []
    for method, of_method in codes.items():
        for i, code in enumerate(tqdm(of_method, desc=f"editing {method}", unit="image")):
            work = partial(_measure, code[None].to(G.w_avg.device), G, networks, directions, strengths)
            rows = remembered(digest("editability", weights, code, asked), work)
            tables.append(rows.assign(method=method, image=i))
    return pd.concat(tables, ignore_index=True)


def _measure(code: Tensor, G, networks, directions, strengths) -> pd.DataFrame:
    attributes, identity = networks
    settings = [(direction, strength) for direction in directions for strength in strengths]
    edits = [code, *(edit(code, *setting) for setting in settings)]
    images = [G.synthesize(some).clamp(-1, 1) for some in torch.cat(edits).split(5)]  # a few: they fill the caches
    labels = torch.cat([attributes(y) for y in images]).cpu() / deviations()
    embedded = torch.cat([identity(y) for y in images])
    changes, kept = labels - labels[0], (embedded @ embedded[0]).tolist()
    records = [{"direction": d, "strength": 0.0, "wanted": 0.0, "unwanted": 0.0, "ID": 1.0} for d in directions]
    for (direction, strength), change, same in zip(settings, changes[1:], kept[1:], strict=True):
        own = NAMES.index(direction)
        others = [i for i in range(len(NAMES)) if i != own]
        sign = 1 if strength > 0 else -1
        values = {"wanted": sign * change[own].item(), "unwanted": change[others].abs().mean().item(), "ID": same}
        records.append({"direction": direction, "strength": strength} | values)
    return pd.DataFrame(records)


def of_images(rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of `measure` -> one per method and image, over all its edits; what a method's codes are worth for editing.

    wanted:        mean change of the attribute that was asked for, in standard deviations, per unit of strength
    side effects:  change of the other attributes, for each standard deviation of wanted change
    identity lost: 1 - ID, for each standard deviation of wanted change
    Ratios of means, so that an edit that changes nothing is not the best one; at least LEAST of what was asked counts
    as changed in them, so that edits which go the wrong way are bad and not, by a change of sign, the best.
    """
    edits = rows[rows.strength != 0]
    edits = edits.assign(asked=edits.strength.abs(), lost=1 - edits.ID)
    means = edits.groupby(["method", "image"], sort=False)[["wanted", "asked", "unwanted", "lost"]].mean()
    gained = means.wanted.clip(lower=LEAST * means.asked)
    ratios = {
        "wanted": means.wanted / means.asked,
        "side effects": means.unwanted / gained,
        "identity lost": means.lost / gained,
    }
    return pd.DataFrame(ratios).reset_index()


@torch.no_grad()
def distances(codes: dict[str, Tensor], G) -> pd.DataFrame:
    """How far codes {method: [n, k, 512]} are from W, a row per method and image, of the styles that G reads.

    spread: mean distance of the styles from the first one, as a share of the mean distance of w from w_avg; 0 in W
            (what e4e's delta loss holds down)
    rarity: Mahalanobis distance of the styles from w_avg, root mean square; 1 for samples of W at psi 1
    """
    whitening, w_avg = losses.whitening(G).cpu(), G.w_avg.cpu()
    z = torch.randn(10_000, len(w_avg), generator=torch.Generator().manual_seed(0)).to(G.w_avg.device)
    width = (G.map(z) - G.w_avg).norm(dim=1).mean().item()
    records = []
    for method, of_method in codes.items():
        for i, code in enumerate(of_method[:, None, : G.slots_read].cpu()):
            spread = losses.delta(code).item() / (G.slots_read - 1) / width
            rarity = losses.prior(code, w_avg, whitening, G.slots_read).sqrt().item()
            records.append({"method": method, "image": i, "spread": spread, "rarity": rarity})
    return pd.DataFrame(records)


@torch.no_grad()
def effects(directions: Tensor, w: Tensor, G) -> Tensor:
    """What one unit of each direction [d, 512] does to the attributes of samples w [n, 512]: [d, 5], in deviations.

    Half the difference between a step there and one back, mean over the samples.
    """
    network = Attributes().to(G.w_avg.device)

    def labels(codes: Tensor) -> Tensor:
        return torch.cat([network(G.synthesize(code).clamp(-1, 1)) for code in codes.split(1)]).cpu() / deviations()

    steps = [(labels(edit(w, direction, 1.0)) - labels(edit(w, direction, -1.0))) / 2 for direction in directions]
    return torch.stack([step.mean(0) for step in steps])


@torch.no_grad()
def effects_of_looks(
    found: Tensor, deviations: Tensor, seed: int, strength: float = 2.0, n: int = 8
) -> list[dict[str, list[float]]]:
    """What directions [d, 512] of `faces.looks` do to n unseen faces of the whole generator at 256 px.

    deviations: of all labels, [12], those of `attributes` first; seed: of the faces
    wanted:   change of its own label per unit, in its standard deviations, of edits by +-strength
    unwanted: mean absolute change of the five attributes, likewise
    JUDGE:    identity to the unedited face, of these edits; each a mean and its 95 % interval
    """
    G = load_generator("faces-1024").to(found.device)
    networks = [Attributes().to(found.device), Looks().to(found.device)]
    w = G.map(torch.randn(n, 512, generator=torch.Generator().manual_seed(seed)).to(found.device), 0.7)
    rows = []
    for code in tqdm(w.split(1), desc="measuring edits", unit="face"):
        edits = [code, *(edit(code, d, s) for d in found for s in (-strength, strength))]
        images = torch.cat([averaged(G, one).clamp(-1, 1) for one in edits])  # type: ignore[arg-type]
        change = torch.cat([side_by_side(networks, image) for image in images.split(1)]) / deviations
        change = ((change[1:] - change[0]) / strength).unflatten(0, (-1, 2))
        same = metrics.judged(images[1:], images[:1].expand(len(images) - 1, -1, -1, -1)).unflatten(0, (-1, 2)).mean(1)
        own = torch.arange(len(found)) + len(NAMES)
        wanted = (change[:, 1] - change[:, 0]).div(2)[torch.arange(len(found)), own]
        unwanted = change[:, :, : len(NAMES)].abs().mean((1, 2))
        rows.append(torch.stack([wanted.cpu(), unwanted.cpu(), same.cpu()], dim=1))
    columns = torch.stack(rows, dim=1)  # [d, n, 3]
    names = ("wanted", "unwanted", "JUDGE")
    return [{m: [round(v, 3) for v in mean_and_interval(of[:, i])] for i, m in enumerate(names)} for of in columns]
