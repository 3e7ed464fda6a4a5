"""Whether a direction does less of what nobody asked for where it moves only some of the styles.

python -m restyle_lib.evaluation.slots   measures it on unseen samples of W and writes benchmark_slots.csv

For each direction, the best range of slots is chosen on one half of the samples and compared with all slots on the
other half, at equal effect: the fewer slots an edit has, the stronger it must be.
"""

import json

import pandas as pd
import torch
import tyro
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib.evaluation import metrics
from restyle_lib.evaluation.evaluate import mean_and_interval, save_table
from restyle_lib.faces import attributes, looks
from restyle_lib.generators import load_generator
from restyle_lib.inversion.edit import LOOKS, deviations, directions, edit
from restyle_lib.inversion.inverter import Viewed
from restyle_lib.paths import RESULTS, destination
from restyle_lib.precision import best_device

RANGES = ((0, 3), (4, 7), (0, 7), (2, 9))  # first and last slot
STRENGTH = 2.0  # of the edits of all slots, to both sides
STRONGEST = 2.0  # times as strong as with all slots; what needs more leaves the generator's images
LABELS = (*attributes.NAMES, *looks.LABELS)
SEED, PSI = 40_000_002, 0.7


class Unseen:
    """Samples w [n, 512] of a generator, and what edits do to them."""

    @torch.no_grad()
    def __init__(self, G, w: Tensor):
        self.G, self.codes = G, w[:, None].expand(-1, G.n_styles, -1)
        self.networks = [attributes.Attributes().to(w.device), looks.Looks().to(w.device)]
        self.scales = torch.cat([deviations(), looks_deviations()])
        self.images, self.labels = self._drawn(self.codes)

    def _drawn(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """Images of codes, and their labels [n, 12] in standard deviations."""
        images = torch.cat([self.G.synthesize(code).clamp(-1, 1) for code in codes.split(1)])
        labels = torch.cat([attributes.side_by_side(self.networks, image) for image in images.split(1)])
        return images, labels.cpu() / self.scales

    @torch.no_grad()
    def effects(self, direction: str, slots: tuple[int, int] | None, strength: float) -> Tensor:
        """What edits along a direction do in these slots (None: in all), by +-strength: [n, 3], means of both.

        wanted and unwanted: change of the direction's own label as asked, and mean absolute change of the other
        attributes, in standard deviations; JUDGE: identity to the unedited face
        """
        own = LABELS.index(direction)
        others = [i for i in range(len(attributes.NAMES)) if i != own]
        wanted, unwanted, same = [], [], []
        for sign in (-1, 1):
            images, labels = self._drawn(edit(self.codes, direction, sign * strength, slots))
            change = labels - self.labels
            wanted.append(sign * change[:, own])
            unwanted.append(change[:, others].abs().mean(1))
            same.append(metrics.judged(images, self.images).cpu())
        return torch.stack([torch.stack(values).mean(0) for values in (wanted, unwanted, same)], dim=1)


def looks_deviations() -> Tensor:
    """Standard deviations [7] of `looks.LABELS` in W; of the two that have no direction 1."""
    labels = json.loads(LOOKS.with_suffix(".json").read_text(encoding="utf-8"))["labels"]
    return torch.tensor([labels.get(name, {"standard deviation": 1.0})["standard deviation"] for name in looks.LABELS])


def compare(n: int = 8) -> pd.DataFrame:
    """A row for each direction: its best range of slots on n samples of W, and what it does on n others.

    times as strong:  the edit needs to be for the effect that it has in all slots
    ..., all slots:   see `Unseen.effects`; means
    ... difference:   those of the range minus those of all slots, with its 95 % interval over samples
    """
    G = Viewed(load_generator("faces-1024"), (256, 256)).to(best_device())
    z = torch.randn(2 * n, len(G.w_avg), generator=torch.Generator().manual_seed(SEED))
    first, second = (Unseen(G, w) for w in G.map(z.to(best_device()), PSI).split(n))
    records = []
    for name in tqdm(directions(), desc="directions", unit="direction"):
        wanted = {slots: first.effects(name, slots, STRENGTH)[:, 0].mean().item() for slots in (None, *RANGES)}
        stronger = {s: wanted[None] / wanted[s] for s in RANGES if wanted[s] * STRONGEST >= wanted[None] > 0}
        beside = {
            slots: first.effects(name, slots, times * STRENGTH)[:, 1].mean().item() for slots, times in stronger.items()
        }
        record: dict[str, object] = {"direction": name, "slots": "none has its effect", "n": n}
        if beside:
            best = min(beside, key=beside.__getitem__)
            everywhere = second.effects(name, None, STRENGTH)
            there = second.effects(name, best, stronger[best] * STRENGTH)
            record |= {"slots": f"{best[0]} to {best[1]}", "times as strong": round(stronger[best], 2)}
            for i, label in enumerate(("wanted", "unwanted", "JUDGE")):
                record[f"{label}, all slots"] = round(everywhere[:, i].mean().item(), 3)
                mean, low, high = mean_and_interval(there[:, i] - everywhere[:, i])
                record[f"{label} difference"] = f"{mean:+.3f} [{low:+.3f}, {high:+.3f}]"
        records.append(record)
    return pd.DataFrame(records)


def main(update: bool = False) -> None:
    """Compares them, and writes runs/measured/results/benchmark_slots.csv.

    update: for maintainers: it becomes the committed table, in data/results/
    """
    print(save_table(compare(), destination(RESULTS, update) / "benchmark_slots.csv").to_string())


if __name__ == "__main__":
    tyro.cli(main)
