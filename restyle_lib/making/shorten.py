"""Teaches a ReStyle encoder shorter late steps, so that the loop can go on for ten steps without getting worse.

    python -m restyle_lib.making.shorten restyle-psp OUT --images photographs.zip

After training the residuals of one image stay nearly parallel from step 3 on (notebook 02 prints their cosines): after
step 5 they carry its code too far. A decay mends that, residual t scaled by 1 / t^decay, but it is a crutch that the
paper does without. Here the encoder learns to do it by itself: it is taught its own residuals with that decay, on
states of that loop, and nothing flows back through the generator. What it finds is added whole.
"""

import copy
import json
from pathlib import Path

import torch
import tyro
from torch import Tensor, nn
from tqdm.auto import tqdm

from restyle_lib import losses, precision
from restyle_lib.inversion import detail
from restyle_lib.inversion.inverter import load_inverter, save_inverter
from restyle_lib.inversion.refine import encoder_input, refine
from restyle_lib.paths import WEIGHTS
from restyle_lib.precision import autocast
from restyle_lib.train import embedded_job
from restyle_lib.training import optimizers
from restyle_lib.training.loop import follow
from restyle_lib.training.replay import Replay
from restyle_lib.training.schedule import Schedule
from restyle_lib.training.settings import Settings
from restyle_lib.training.sources import GeneratorInLoop, Source, generator_for
from restyle_lib.training.states import States
from restyle_lib.training.validation import validate

LR = 5e-5  # the encoder changes little, and what it knows of the first step must not suffer
EMA = 0.98  # decay per batch of the average that is kept


def shorten(
    name: tyro.conf.Positional[str],
    out: tyro.conf.Positional[Path],
    images: Path,
    decay: float = 0.3,
    passes: int = 2400,
    batch: int = 8,
    renders: int = 1000,
    validation: int = 32,
    seed: int = 4,
    start: Path | None = None,
) -> dict:
    """Writes OUT/faces-NAME.safetensors and its recipe: the shipped one's, with this round added. Returns the round.

    name:       a shipped ReStyle encoder of faces, such as restyle-psp
    images:     photographs to learn from beside renders, a folder or zip archive of aligned faces
    decay:      of the residuals that it is taught: that of step t is 1 / t^decay times its own of before
    passes:     states that are learned from, each once
    renders:    images to learn from beside the photographs
    validation: photographs kept for validation, the last ones
    start:      what another call wrote, to learn on from there; the one that is taught stays the shipped one
    """
    device, teacher = precision.best_device(), load_inverter(f"faces/{name}").encoder
    changes: dict[str, float | str] = {"init": "", "loop_lr": LR, "long_every": 1, "seed": seed}
    changes |= {"replay_passes": passes, "replay_batch": batch, "replay_states": 6 * batch}
    changes |= {"renders": renders, "validation": validation}
    settings, source, heldout = embedded_job(name, changes, device, images)[1:4]
    begun = load_inverter(start).encoder if start else teacher
    encoder, n = learn(begun.to(device), teacher.to(device), source, settings, decay)

    weights = out / f"faces-{name}.safetensors"
    out.mkdir(parents=True, exist_ok=True)
    save_inverter(weights, encoder, settings.generator)
    packed = load_inverter(weights).encoder.to(device)
    metrics, _ = validate(packed, source, heldout, 0.0, faces=True)
    done = {"round": "late steps shortened", "decay": decay, "passes": passes, "images": n, "batch": batch, "lr": LR}
    done |= {"seed": seed, "precision": precision.name(device), "validation": {"n": len(heldout.x)} | metrics}
    before = start or WEIGHTS / f"faces-{name}.safetensors"
    recipe = json.loads(before.with_suffix(".json").read_text(encoding="utf-8"))
    recipe["rounds"] = [*recipe["rounds"], done]
    weights.with_suffix(".json").write_text(json.dumps(recipe, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return done


def learn(
    start: nn.Module, teacher: nn.Module, source: Source, settings: Settings, decay: float
) -> tuple[nn.Module, int]:
    """The encoder that has learned the teacher's residuals with a decay, and the number of images it learned from.

    It is its average over the last batches.
    """
    teacher = teacher.eval().requires_grad_(False)
    encoder = copy.deepcopy(start).requires_grad_(True)
    average = copy.deepcopy(start).eval().requires_grad_(False)
    optimizer, schedule = torch.optim.Adam(encoder.parameters()), Schedule(settings)
    replay, images = Replay(source, settings, see=lambda x: []), 0
    progress = tqdm(range(schedule.total), desc="shortening late steps", unit="batch")
    for iteration in progress:
        rng, turn = generator_for(settings.seed, iteration), replay.take(iteration)
        states = replay.states[turn]
        w, y = decayed(teacher, source.G, states, decay)
        with autocast(source.device):
            found = encoder(encoder_input(encoder, states.x, states.y)).float()
        loss = losses.latent(found, w - states.w, source.codes_scale, source.slots)
        optimizers.set_rate(optimizer, schedule.lr(iteration))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        follow(average, encoder, min(EMA, (iteration + 1) / (iteration + 10)))
        images += int((states.taken == 0).sum())
        progress.set_postfix(error=f"{loss.item():.5f}", refresh=False)
        replay.put(turn, w, y, rng)
    return average, images


@torch.no_grad()
def decayed(teacher: nn.Module, G: GeneratorInLoop, states: States, decay: float) -> tuple[Tensor, Tensor]:
    """The teacher's next step, its residual scaled by its number: new codes [n, k, 512] and images [n, 3, s, s]."""
    number = (1 + states.taken).to(states.w.device).view(-1, 1, 1)
    G_seen = detail.SeenAt(G, states.px)
    with autocast(states.w.device):
        return refine(teacher, G_seen, states.x, states.w, states.y, 1, decay=decay, first=number)


if __name__ == "__main__":
    print(json.dumps(tyro.cli(shorten), indent=2))
