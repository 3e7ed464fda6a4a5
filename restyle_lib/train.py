"""Trains a named inverter: `restyle train NAME`, or with several processes `accelerate launch -m restyle_lib.train`."""

import dataclasses
import json
import os
import platform
import tempfile
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Annotated, NamedTuple

import torch
import tyro
from accelerate import PartialState
from torch import nn

from restyle_lib import precision
from restyle_lib.checkpoints import backbones as pretrained
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.commands import dry_run as probing
from restyle_lib.encoders import full_size
from restyle_lib.features.moco import moco_where_given
from restyle_lib.generators import load_generator, render_sets
from restyle_lib.images import downsample, to_float
from restyle_lib.inversion.inverter import Inverter, Viewed, check_styles, load_inverter, save_full_size, save_inverter
from restyle_lib.paths import WEIGHTS
from restyle_lib.training import full_scale, processes
from restyle_lib.training.checkpoint import alone
from restyle_lib.training.full_scale import Files
from restyle_lib.training.loop import train
from restyle_lib.training.settings import SETTINGS, Settings
from restyle_lib.training.sources import Images
from restyle_lib.training.sources.faces import Faces
from restyle_lib.training.sources.photographs import Photographs
from restyle_lib.training.sources.renders import near_codes
from restyle_lib.training.validation import validate

VALIDATION_SEED = 30_000_000
WORKERS = min(8, (os.cpu_count() or 2) // 2)


class Job(NamedTuple):
    """A run that is ready to start."""

    name: str
    settings: Settings
    source: Faces | Photographs
    heldout: Images
    """For validation."""
    origin: dict
    """Where these are from, for the recipe."""
    moco: nn.Module | None = None


def run(
    name: tyro.conf.Positional[str],
    out: Path = Path("runs"),
    resume: bool = True,
    ship: bool = False,
    override: Annotated[dict[str, float | str], tyro.conf.arg(metavar="KEY VALUE")] = {},  # noqa: B006 (never changed)
    dry_run: bool = False,
    domain: str | None = None,
    generator: Path | None = None,
    images: Path | None = None,
    backbone: Path | None = None,
    moco: Path | None = None,
    workers: int = WORKERS,
) -> Path | None:
    """Trains the inverter `name` into out/<name>/ and returns the file of its weights.

    Without --domain that is an encoder of the embedded faces (see training/settings.py). With it, the official method
    in full size: restyle train restyle-psp --domain cars --generator stylegan2-car.pt --images cars/

    resume:    continue where a run in that folder was stopped
    ship:      also write the weights and their recipe to data/weights/, as the ones that the project ships
    override:  settings to change, e.g. --override loop-passes 1000
    dry_run:   train nothing: print the recipe, and what the run would cost here, from ten batches
    domain:    faces, cars, church, horse, wild, toonify, or own
    generator: a StyleGAN2 or 3 of the domain, any file that rl.load_generator opens
    images:    photographs, a folder at any depth or a zip archive; faces aligned (see data/README.md). Without --domain
               they are learned from beside renders, and small ones keep their resolution
    backbone:  the public network that the encoder begins as: model_ir_se50.pth for faces, else torchvision's resnet34
    moco:      the public MoCo-v2 file, for the loss that takes the place of identity where there are no faces
    workers:   processes that decode photographs
    Raises ValueError for an unknown name, setting or domain, and for files that do not fit.
    """
    device = precision.best_device()
    process = PartialState(cpu=device.type == "cpu")  # of several, each takes a GPU of its own
    folder = out / (f"{domain}-{name}" if domain else name)
    files = Files(generator, images, backbone, moco)
    if dry_run:
        with tempfile.TemporaryDirectory() as temporary:
            if domain:
                files = probing.with_stand_ins(files, full_scale.domain_named(domain), Path(temporary))
                job = full_size_job(name, domain, override, files, workers, device)
            else:
                job = embedded_job(name, override, device, images, few=True)
            print(probing.report(job.settings, job.source, job.heldout, job.moco))
        return None
    if not domain and (generator or backbone or moco):
        raise ValueError("--generator, --backbone and --moco are for --domain: name one, such as own")
    if domain and (ship or not (generator and images)):
        raise ValueError("--domain needs --generator and --images, and its weights are too large for --ship")
    with process.main_process_first():  # the others find the images checked, or rendered
        if domain:
            job = full_size_job(name, domain, override, files, workers, device, folder / "images.csv")
        else:
            job = embedded_job(name, override, device, images, report=folder / "images.csv")
    return carry_out(job, folder, resume, ship)


def carry_out(
    job: Job, folder: Path, resume: bool = True, ship: bool = False, watch: Callable[[dict], bool | None] | None = None
) -> Path:
    """Trains in `folder`; writes the weights and their recipe there and returns the weights' file.

    ship:  also write both to data/weights/
    watch: called with every record of the log while training goes on; True ends it, and what it has learned is kept
    Raises ValueError where another training goes on in that folder, and what `loop.train` raises.
    """
    settings, source = job.settings, job.source
    with alone(folder) if PartialState().is_main_process else nullcontext():
        encoder = train(settings, folder, source, job.heldout, resume, job.moco, watch).cpu()
    weights = folder / f"{folder.name}.safetensors"
    if not PartialState().is_main_process:
        return weights
    if isinstance(source, Photographs):
        full_size.fold_batch_norms(encoder)
        save_full_size(weights, Inverter(encoder, source.whole.cpu(), source.domain.input_size, source.domain))
    else:
        save_inverter(weights, encoder, settings.generator, settings.decay, settings.size)
    log = [json.loads(line) for line in (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()]
    # none where `watch` ended the run before the first
    validation = next((record["validation"] for record in reversed(log) if "validation" in record), {})
    if not isinstance(source, Photographs):  # of the weights in the file, which has them at 8 bits
        packed = load_inverter(weights).encoder.to(source.device)
        validation, _ = validate(packed, source, job.heldout, settings.decay, DOMAINS[settings.domain].faces)
    embedded = isinstance(source, Faces)
    family = settings.generator.partition("-")[0] if embedded else settings.domain  # of "toon-1024" it is "toon"
    inverter = f"{family}/{job.name.removeprefix(f'{family}-')}"
    recipe = {
        "inverter": inverter,
        "settings": dataclasses.asdict(settings),
        "minutes": round(sum(record.get("seconds", 0) for record in log) / 60, 1),
        "machine": f"{torch.get_num_threads()} threads, {platform.machine()}, {precision.name(source.device)}",
        "validation": {"n": len(job.heldout.x)} | job.origin | {"step": "1, 2, …"} | validation,
    }
    weights.with_suffix(".json").write_text(json.dumps(recipe, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    if ship:
        for path in (weights, weights.with_suffix(".json")):
            (WEIGHTS / f"{inverter.replace('/', '-')}{path.suffix}").write_bytes(path.read_bytes())
    return weights


def embedded_job(
    name: str,
    override: dict[str, float | str],
    device: torch.device,
    images: Path | None = None,
    few: bool = False,
    report: Path | None = None,
) -> Job:
    """The training of an encoder of the embedded faces.

    images: photographs to learn from beside renders, a folder or zip archive of aligned faces
    few:    with few renders, for a look at its cost
    report: file for what is wrong with the photographs
    """
    if name not in SETTINGS:
        raise ValueError(f"no inverter {name!r}; there are {', '.join(SETTINGS)}")
    settings = change(SETTINGS[name], override)
    drawn = dataclasses.replace(settings, renders=20, validation=4) if few else settings
    whole, in_loop = (load_generator(each).to(device) for each in ("faces-1024", settings.generator))
    G = Viewed(in_loop, (settings.size, settings.size))
    renders = render_sets.renders(whole, "train", drawn.renders, render_sets.POOL_SEED)
    near = None
    if settings.warmup_passes and settings.in_channels == 6:
        near = render_sets.renders(whole, "near", drawn.renders, render_sets.POOL_SEED, near_codes)
    start = load_inverter(settings.init).encoder if settings.init else None
    source = Faces(G, drawn, renders, near, images, start, report)
    if source.crops and source.heldout:
        return Job(name, settings, source, source.heldout, {"photographs learned from": len(source.crops)})
    kept = render_sets.renders(whole, "validation", drawn.validation, VALIDATION_SEED, render_sets.heldout_codes)
    x = downsample(to_float(kept.images), settings.size).to(device)
    heldout = Images(x, kept.codes.to(device), torch.full((len(x),), settings.size))
    return Job(name, settings, source, heldout, {"psi": 0.7, "seed": VALIDATION_SEED})


def full_size_job(
    name: str,
    domain: str,
    override: dict[str, float | str],
    files: Files,
    workers: int,
    device: torch.device,
    report: Path | None = None,
) -> Job:
    """The official training of a domain; see `run`. report: file for what is wrong with the images."""
    kind = full_scale.domain_named(domain)
    settings = full_scale.settings_of(name, kind, str(files.generator), str(files.backbone or ""))
    settings = change(settings, override)
    if files.generator is None or files.images is None:
        raise ValueError("training in a domain needs a generator and images")
    start = pretrained.load_backbone(files.backbone, kind.backbone) if files.backbone else None
    moco = None
    if settings.lambda_moco:
        moco, weight = moco_where_given(files.moco, settings.lambda_moco)
        settings, moco = dataclasses.replace(settings, lambda_moco=weight), moco and moco.to(device)
    G = load_generator(files.generator).to(device)
    try:
        check_styles(G)
    except ValueError as error:
        raise ValueError(f"{files.generator}: {error}") from error
    pool = Photographs(G, kind, files.images, settings.validation, workers, report, start)
    return Job(name, settings, pool, pool.validation, {"images": len(pool.files)}, moco)


def change(settings, override: dict[str, float | str]):
    """The settings with some replaced; a value takes the type of the one it replaces."""
    known = {field.name: type(getattr(settings, field.name)) for field in dataclasses.fields(settings)}
    override = {key.replace("-", "_"): value for key, value in override.items()}
    if unknown := set(override) - set(known):
        raise ValueError(f"no setting {', '.join(sorted(unknown))}; there are {', '.join(known)}")
    return dataclasses.replace(settings, **{key: _as(known[key], key, value) for key, value in override.items()})


def _as(kind: type, key: str, value: float | str):
    """The value of a setting as its kind of value. Raises ValueError for what is none."""
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    try:
        return words[f"{value:g}" if isinstance(value, int | float) else value.lower()] if kind is bool else kind(value)
    except (KeyError, ValueError):
        wanted = "True or False" if kind is bool else f"a number ({kind.__name__})"
        raise ValueError(f"the setting {key} is {wanted}, not {value!r}") from None


if __name__ == "__main__":
    tyro.cli(run)
    processes.end()
