"""Trains a named inverter: `restyle train NAME`, or with several processes `accelerate launch -m restyle_lib.train`."""

import dataclasses
import json
import platform
from pathlib import Path
from typing import Annotated

import torch
import tyro

from restyle_lib import data, precision
from restyle_lib.generators import load_generator
from restyle_lib.inversion.inverter import save_inverter
from restyle_lib.training.loop import train, validate_on
from restyle_lib.training.samples import Pool
from restyle_lib.training.settings import SETTINGS

VALIDATION_SEED = 30_000_000


def run(
    name: tyro.conf.Positional[str],
    out: Path = Path("runs"),
    resume: bool = True,
    ship: bool = False,
    override: Annotated[dict[str, float], tyro.conf.arg(metavar="KEY VALUE")] = {},  # noqa: B006 (never changed)
) -> Path:
    """Trains the inverter `name` (see training/settings.py) into out/<name>/ and returns the file of its weights.

    resume:   continue where a run in that folder was stopped
    ship:     also write the weights and their recipe to data/weights/, as the ones that the project ships
    override: settings to change, e.g. --override loop-passes 1000
    Raises ValueError for an unknown name or setting.
    """
    if name not in SETTINGS:
        raise ValueError(f"no inverter {name!r}; there are {', '.join(SETTINGS)}")
    settings = change(SETTINGS[name], override)
    folder = out / name
    device = precision.best_device()
    full, cut = (load_generator(generator).to(device) for generator in ("faces-1024", settings.generator))
    pool = Pool(full, cut, settings)
    heldout = data.renders(full, "validation", settings.validation, VALIDATION_SEED, data.heldout_codes)
    validate = validate_on(pool, heldout, folder)
    encoder = train(settings, folder, pool, validate, resume)
    weights = folder / f"{name}.safetensors"
    save_inverter(weights, encoder.cpu(), settings.generator)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    validation = next(record["validation"] for record in reversed(log) if "validation" in record)
    recipe = {
        "inverter": f"faces/{name}",
        "settings": dataclasses.asdict(settings),
        "minutes": round(sum(record.get("seconds", 0) for record in log) / 60, 1),
        "machine": f"{torch.get_num_threads()} threads, {platform.machine()}, {precision.name(device)}",
        "validation": {"n": len(heldout), "psi": 0.7, "seed": VALIDATION_SEED, "step": "1, 2, …"} | validation,
    }
    weights.with_suffix(".json").write_text(json.dumps(recipe, indent=1, ensure_ascii=False) + "\n")
    if ship:
        for path in (weights, weights.with_suffix(".json")):
            (data.WEIGHTS / f"faces-{path.name}").write_bytes(path.read_bytes())
    return weights


def change(settings, override: dict[str, float]):
    """The settings with some replaced; a value takes the type of the one it replaces."""
    known = {field.name: type(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    override = {key.replace("-", "_"): value for key, value in override.items()}
    if unknown := set(override) - set(known):
        raise ValueError(f"no setting {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return dataclasses.replace(settings, **{key: known[key](value) for key, value in override.items()})


if __name__ == "__main__":
    tyro.cli(run)
