"""What a training run is and costs, before it is started: its settings, its networks, and a probe of ten batches."""

import dataclasses
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch
from PIL import Image
from torch import nn

from restyle_lib import precision
from restyle_lib.checkpoints.domains import Domain
from restyle_lib.evaluation import measure
from restyle_lib.making import stand_ins as official
from restyle_lib.training import loop, phases, states
from restyle_lib.training.full_scale import Files
from restyle_lib.training.objective import Whole, critics_of, known
from restyle_lib.training.schedule import Schedule
from restyle_lib.training.settings import Settings
from restyle_lib.training.sources import Images, Source, generator_for
from restyle_lib.training.validation import validate

PROBED = 10  # batches of each phase
ENOUGH = 120.0  # seconds after which the probe of a phase ends, with two batches at least
PHASES = {"warm start": "warmup_passes", "replayed states": "replay_passes", "loop": "loop_passes"}


class Probe(NamedTuple):
    """What batches of one phase cost here."""

    batches: int
    seconds_per_pass: float
    """A pass is one refinement step of one image, forward and backward."""
    peak_memory: float
    """GiB, see `measure.peak_memory`."""


def probe(
    settings: Settings, source: Source, phase: str, moco: nn.Module | None = None, batches: int = PROBED
) -> Probe:
    """Trains for a few batches of one of PHASES, of which the first only warms up, and keeps nothing."""
    only = dict.fromkeys(PHASES.values(), 0) | {PHASES[phase]: getattr(settings, PHASES[phase])}
    schedule = Schedule(dataclasses.replace(settings, **only))
    seconds: list[float] = []
    begin = time.perf_counter()

    def enough(record: dict) -> bool:
        seconds.append(record["seconds"])
        return len(seconds) >= batches or (len(seconds) > 1 and time.perf_counter() - begin > ENOUGH)

    measure.forget_peak_memory(source.device)
    with tempfile.TemporaryDirectory() as folder:
        loop.train(schedule.settings, Path(folder) / "probe", source, embed=moco, watch=enough, log_every=1)
    memory = measure.peak_memory(source.device)
    first = min(1, len(seconds) - 1)
    passes = [passes_of(schedule, i) for i in range(len(seconds))]
    return Probe(len(seconds), sum(seconds[first:]) / sum(passes[first:]), memory)


def passes_of(schedule: Schedule, i: int) -> int:
    return schedule.batch(i) * (schedule.steps(i - schedule.replayed) if i >= schedule.replayed else 1)


def networks(settings: Settings, source: Source, image: Images, moco: nn.Module | None = None) -> pd.DataFrame:
    """Parameters in millions, and GMAC for one image: each network in the loop, and a whole step."""
    encoder = loop.begin(settings, source).eval()
    critics = critics_of(settings, source.device, moco)
    begun = states.begin(source, image, critics.see(source.goal(image)))
    whole = Whole(1, int(known(image.codes).sum()))
    both = torch.cat([image.x, begun.y], dim=1)[:, : settings.in_channels]
    judges = nn.ModuleList([critics.distance, *filter(None, [critics.embed])])
    parts = {
        "encoder": (encoder, lambda: encoder(both)),
        "generator": (getattr(source.G, "G", source.G), lambda: source.G.synthesize(begun.w)),
        "loss networks": (judges, lambda: critics.see(image.x)),
    }
    rows = []
    for name, (network, call) in parts.items():
        with torch.no_grad():
            rows.append((name, sum(p.numel() for p in network.parameters()) / 1e6, measure.gmacs(call)))
    learner = phases.Learner(settings, encoder, source, critics)
    step = partial(phases.Unrolled(begun, whole, 1, {}).learn, learner, slice(None))
    rows.append(("a step, forward and backward", float("nan"), measure.gmacs(step)))
    return pd.DataFrame(rows, columns=["network", "M parameters", "GMAC per image"])


def report(settings: Settings, source: Source, heldout: Images, moco: nn.Module | None = None) -> str:
    """The settings, the networks, and time and memory of the whole run on this machine, to be printed."""
    device = source.device
    image = Images(*(part[:1] for part in heldout))
    tables = {"settings": pd.Series(dataclasses.asdict(settings)).to_string()}
    tables["networks"] = networks(settings, source, image, moco).to_string(index=False, float_format="%.1f", na_rep="")
    rows: list[tuple] = []
    memory = 0.0
    for phase, name in PHASES.items():
        if passes := getattr(settings, name):
            found = probe(settings, source, phase, moco)
            memory = max(memory, found.peak_memory)
            hours = passes * found.seconds_per_pass / 3600
            rows.append((phase, found.batches, passes, 1 / found.seconds_per_pass, hours))
    total = Schedule(settings).total
    seconds = (
        settings.validation * -(-total // settings.validate_every) * seconds_of_validation(settings, source, heldout)
    )
    rows.append(("validation", 1, "", "", seconds / 3600))
    columns = ["phase", "batches probed", "images x steps", "of them per second", "hours in all"]
    tables["time"] = pd.DataFrame(rows, columns=columns).to_string(index=False, float_format="{:,.3g}".format)
    hours = sum(row[-1] for row in rows)
    text = "\n\n".join(f"{title}\n{table}" for title, table in tables.items())
    where = f"{measure.machine(device)}, {precision.name(device)}"
    return (
        f"{text}\n\nThe whole run: {total:,} batches, {hours:,.1f} hours and {memory:.1f} GiB on {where}.\n"
        "Not counted: renders that are made once, the check of the images, and writing checkpoints."
    )


def seconds_of_validation(settings: Settings, source: Source, heldout: Images) -> float:
    """Seconds for one image."""
    encoder = loop.begin(settings, source).eval()
    begin = time.perf_counter()
    some = Images(*(part[:2] for part in heldout))
    validate(encoder, source, some, settings.decay, faces=False)
    return (time.perf_counter() - begin) / len(some.x)


def with_stand_ins(files: Files, domain: Domain, folder: Path, width: float = 2) -> Files:
    """The files, with a random generator and random images of the domain's sizes in place of those that are missing.

    width: of the generator's channels, 2 as published
    """
    size = domain.output_size or 256
    side = max(size, *domain.input_size)
    if not files.generator:
        state = official.generator_state(size, 8, generator_for(0, 0), width)
        path = folder / f"random-stylegan2-{domain.name}.pt"
        torch.save({"g_ema": state, "latent_avg": torch.zeros(512)}, path)
        print(f"no --generator: random weights at {size} px stand in")
        files = files._replace(generator=path)
    if not files.images:
        path = folder / "random-images"
        path.mkdir()
        for i in range(12):
            Image.effect_noise((side, side), 20 + 10 * i).convert("RGB").save(path / f"{i:02d}.jpg")
        print("no --images: twelve pictures of noise stand in")
        files = files._replace(images=path)
    return files
