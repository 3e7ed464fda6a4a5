"""Trains a named inverter: `restyle train NAME`, or with several processes `accelerate launch -m restyle_lib.train`."""

import dataclasses
import json
import platform
from pathlib import Path
from typing import Annotated

import torch
import tyro

from restyle_lib import data, precision
from restyle_lib.encoders import full_size
from restyle_lib.faces.identity import Identity
from restyle_lib.generators import load_generator
from restyle_lib.inversion.inverter import Inverter, save_full_size, save_inverter
from restyle_lib.moco import moco_where_given
from restyle_lib.training import full_scale
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
    domain: str | None = None,
    generator: Path | None = None,
    images: Path | None = None,
    moco: Path | None = None,
) -> Path:
    """Trains the inverter `name` into out/<name>/ and returns the file of its weights.

    Without --domain that is an encoder of the embedded faces (see training/settings.py). With it, the official method
    in full size: restyle train restyle-psp --domain cars --generator stylegan2-car.pt --images cars/

    resume:    continue where a run in that folder was stopped
    ship:      also write the weights and their recipe to data/weights/, as the ones that the project ships
    override:  settings to change, e.g. --override loop-passes 1000
    domain:    faces, cars, church, horse, wild, toonify, or own
    generator: a StyleGAN2 of the domain, any file that rl.load_generator opens
    images:    a folder of photographs of the domain, at any depth; faces aligned
    moco:      the public MoCo-v2 file, for the loss that takes the place of identity where there are no faces
    Raises ValueError for an unknown name, setting or domain, and for files that do not fit.
    """
    device = precision.best_device()
    if domain:
        if ship or not (generator and images):
            raise ValueError("--domain needs --generator and --images, and its weights are too large for --ship")
        kind = full_scale.domain_named(domain)
        G = load_generator(generator).to(device)
        settings = change(full_scale.settings_of(name, kind, str(generator)), override)
        folder = out / f"{domain}-{name}"
        pool = full_scale.Photographs(G, kind, images, settings.validation)
        heldout, source = pool.validation, {"images": len(pool.files)}
        embed = Identity() if settings.lambda_id else None
        if settings.lambda_moco:
            embed, weight = moco_where_given(moco, settings.lambda_moco)
            settings = dataclasses.replace(settings, lambda_moco=weight)
    else:
        if name not in SETTINGS:
            raise ValueError(f"no inverter {name!r}; there are {', '.join(SETTINGS)}")
        settings = change(SETTINGS[name], override)
        folder = out / name
        full, cut = (load_generator(each).to(device) for each in ("faces-1024", settings.generator))
        pool = Pool(full, cut, settings)
        renders = data.renders(full, "validation", settings.validation, VALIDATION_SEED, data.heldout_codes)
        heldout, source = (
            data.downsample(data.to_float(renders.images), pool.size),
            {"psi": 0.7, "seed": VALIDATION_SEED},
        )
        embed = Identity() if settings.lambda_id else None
    embed = embed.to(device) if embed else None
    encoder = train(
        settings, folder, pool, validate_on(pool, heldout, folder, embed, settings.decay), resume, embed
    ).cpu()
    weights = folder / f"{folder.name}.safetensors"
    if domain:
        full_size.fold_batch_norms(encoder)
        save_full_size(weights, Inverter(encoder, G.cpu(), kind.input_size, kind))
    else:
        save_inverter(weights, encoder, settings.generator, settings.used_decay)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    validation = next(record["validation"] for record in reversed(log) if "validation" in record)
    recipe = {
        "inverter": f"{settings.domain}/{name}",
        "settings": dataclasses.asdict(settings),
        "minutes": round(sum(record.get("seconds", 0) for record in log) / 60, 1),
        "machine": f"{torch.get_num_threads()} threads, {platform.machine()}, {precision.name(device)}",
        "validation": {"n": len(heldout)} | source | {"step": "1, 2, …"} | validation,
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
