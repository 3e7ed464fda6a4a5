"""Trains one inverter: a warm start on pairs with known codes, then the paper's loop with image losses."""

import copy
import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from accelerate import Accelerator
from PIL import Image
from torch import Tensor, nn
from tqdm.auto import tqdm

from restyle_lib import data, losses
from restyle_lib.encoders.simplified import SimplifiedEncoder
from restyle_lib.faces.identity import Identity
from restyle_lib.inversion.refine import refine
from restyle_lib.perceptual import st_lpips
from restyle_lib.precision import autocast, has_fast_bf16
from restyle_lib.training import state
from restyle_lib.training.samples import Pool, generator_for
from restyle_lib.training.settings import Settings


@dataclass
class Schedule:
    """Batch counts of the two phases, and the learning rate of every batch."""

    settings: Settings

    @cached_property
    def warmup(self) -> int:
        return self.settings.warmup_passes // self.settings.warmup_batch

    @cached_property
    def total(self) -> int:
        passes = batches = 0
        while passes < self.settings.loop_passes:
            passes += self.settings.batch * self.steps(batches)
            batches += 1
        return self.warmup + batches

    def steps(self, i: int) -> int:
        """Refinement steps of the i-th batch of the loop."""
        s = self.settings
        return 2 * s.steps if s.long_every and i % s.long_every == s.long_every - 1 else s.steps

    def lr(self, iteration: int) -> float:
        """Linear rise over 100 batches, then a cosine to zero, in each phase."""
        in_warmup = iteration < self.warmup
        peak = self.settings.warmup_lr if in_warmup else self.settings.loop_lr
        i, n = (iteration, self.warmup) if in_warmup else (iteration - self.warmup, self.total - self.warmup)
        return peak * min(1.0, (i + 1) / 100) * (1 + math.cos(math.pi * i / n)) / 2


class Critics(NamedTuple):
    """The frozen networks that losses look through."""

    identity: nn.Module
    distance: nn.Module


def batch_losses(settings: Settings, pool: Pool, critics: Critics, x: Tensor, x_codes: Tensor) -> Callable:
    """The loss of one batch as a function of (w_t, y_t); features of the target are computed once, for all steps."""
    known = ~x_codes.isnan().any(dim=(1, 2))
    with torch.no_grad():
        x_features, x_embedding = critics.distance.features(x), critics.identity(x)
    weights = {
        "l2": settings.lambda_l2,
        "lpips": settings.lambda_lpips,
        "id": settings.lambda_id,
        "latent": settings.lambda_latent,
    }

    def loss(codes: Tensor, y: Tensor) -> dict[str, Tensor]:
        terms = {
            "l2": losses.l2(y, x),
            "lpips": losses.perceptual(critics.distance, y, x_features),
            "id": losses.identity(critics.identity, y, x_embedding),
            "latent": losses.latent(codes[known], x_codes[known], pool.codes_scale, pool.cut.slots_read),
        }
        return terms | {"total": sum(weights[name] * term for name, term in terms.items())}

    return loss


def warmup_step(encoder: nn.Module, pool: Pool, examples: tuple, settings: Settings, backward: Callable) -> dict:
    """All pairs: the encoder sees (x_i, y_j) and learns w_i - w_j. A one-pass encoder starts at w_avg instead."""
    x, x_codes, y, y_codes = examples
    one_pass = settings.in_channels == 3
    codes = pool.cut.w_avg + encoder(x) if one_pass else y_codes + encoder(torch.cat([x, y], dim=1))
    loss = losses.latent(codes, x_codes, pool.codes_scale, pool.cut.slots_read)
    backward(loss)
    return {"latent": loss}


def loop_step(
    encoder: nn.Module,
    pool: Pool,
    examples: tuple,
    settings: Settings,
    steps: int,
    critics: Critics,
    backward: Callable,
) -> dict:
    """The true loop on one batch: a loss and a backward at each step, gradients summed over the steps."""
    x, codes = examples
    loss = batch_losses(settings, pool, critics, x, codes)
    record = {}

    def learn(t: int, w: Tensor, y: Tensor) -> None:
        terms = loss(w, y)
        backward(terms["total"])
        if t in (1, settings.steps):
            record.update({f"{name}_{t}": term for name, term in terms.items()})

    start = pool.cut.w_avg.expand(len(x), pool.cut.n_styles, -1)
    refine(encoder, pool.cut, x, start, pool.average_image.expand_as(x), steps, learn)
    return record


def train(
    settings: Settings,
    out: Path,
    pool: Pool,
    validate: Callable[[nn.Module, int], dict] | None = None,
    resume: bool = True,
) -> nn.Module:
    """Trains an encoder and returns its averaged weights (EMA), on the device of the pool's generator.

    out:      folder for checkpoint.pt, log.jsonl and what `validate(encoder, iteration)` draws
    resume:   continue from out/checkpoint.pt where it exists; the result is the same to the bit as without the stop
    Raises FloatingPointError when a loss is not finite: the last checkpoint is kept, and the message says where it is.
    """
    torch.manual_seed(settings.seed)
    precision = "bf16" if has_fast_bf16(pool.device) else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=pool.device.type == "cpu")
    schedule = Schedule(settings)
    encoder = SimplifiedEncoder(settings.in_channels, pool.cut.slots_read, pool.cut.n_styles)
    if pool.start:
        encoder.begin_as(pool.start)
    ema = copy.deepcopy(encoder).requires_grad_(False).eval().to(accelerator.device)
    encoder.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=settings.warmup_lr, betas=(0.9, 0.99))
    encoder, optimizer = accelerator.prepare(encoder, optimizer)
    critics = Critics(Identity().to(accelerator.device), st_lpips().to(accelerator.device))

    checkpoint, log = out / "checkpoint.pt", out / "log.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    iteration = 0
    if resume and (saved := state.load(checkpoint)):
        if saved["settings"] != asdict(settings):
            raise ValueError(f"{checkpoint} was made with other settings; use another folder or --no-resume")
        accelerator.unwrap_model(encoder).load_state_dict(saved["encoder"])
        ema.load_state_dict(saved["ema"])
        optimizer.load_state_dict(saved["optimizer"])
        iteration = saved["iteration"]
        state.rewind_log(log, iteration)
    else:
        log.unlink(missing_ok=True)

    def backward(loss: Tensor) -> None:
        if not torch.isfinite(loss):
            kept = f"{checkpoint} is still good" if checkpoint.exists() else "no checkpoint was written yet"
            raise FloatingPointError(f"the loss is {loss.item()} at batch {iteration}; {kept}")
        accelerator.backward(loss)

    progress = tqdm(initial=iteration, total=schedule.total, desc=out.name, unit="batch", smoothing=0.05)
    clock, images = time.perf_counter(), 0
    while iteration < schedule.total:
        rng = generator_for(settings.seed, iteration)
        for group in optimizer.param_groups:
            group["lr"] = schedule.lr(iteration)
        optimizer.zero_grad()
        if in_warmup := iteration < schedule.warmup:
            examples = pool.pairs(rng, settings.warmup_batch)
        else:
            examples = pool.batch(rng, settings.batch)
        with accelerator.autocast():
            if in_warmup:
                record = warmup_step(encoder, pool, examples, settings, backward)
            else:
                steps = schedule.steps(iteration - schedule.warmup)
                record = loop_step(encoder, pool, examples, settings, steps, critics, backward)
        accelerator.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        for average, p in zip(ema.parameters(), encoder.parameters(), strict=True):
            average.lerp_(p.detach(), 1 - min(settings.ema, (iteration + 1) / (iteration + 10)))
        iteration, images = iteration + 1, images + len(examples[0])
        progress.update()

        if iteration % 20 == 0 or iteration == schedule.total:
            record = {name: round(term.item(), 5) for name, term in record.items()}
            seconds = time.perf_counter() - clock
            rate = round(images / seconds, 1)
            progress.set_postfix(record | {"images/s": rate})
            clock, images = time.perf_counter(), 0
            _append(log, {"iteration": iteration} | record | {"images_per_s": rate, "seconds": round(seconds, 2)})
        if validate and (iteration % settings.validate_every == 0 or iteration == schedule.total):
            _append(log, {"iteration": iteration, "validation": validate(ema, iteration)})
        if iteration % settings.checkpoint_every == 0 or iteration == schedule.total:
            saved = {"encoder": accelerator.unwrap_model(encoder).state_dict(), "ema": ema.state_dict()}
            saved |= {"optimizer": optimizer.state_dict(), "iteration": iteration, "settings": asdict(settings)}
            state.save(checkpoint, saved)
    progress.close()
    return ema


def _append(path: Path, record: dict) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def validate_on(pool: Pool, renders: data.Renders, out: Path, steps: int = 10) -> Callable[[nn.Module, int], dict]:
    """A validation function: L2 and identity after each step on held-out renders, and a strip of images in `out`."""
    x = data.downsample(data.to_float(renders.images), pool.size).to(pool.device)
    identity = Identity().to(pool.device)

    @torch.no_grad()
    def validate(encoder: nn.Module, iteration: int) -> dict:
        steps_ = steps if encoder.in_channels == 6 else 1
        trail = []
        start = pool.cut.w_avg.expand(len(x), pool.cut.n_styles, -1)
        y0 = pool.average_image.expand_as(x)
        with autocast(pool.device):
            refine(encoder, pool.cut, x, start, y0, steps_, lambda t, w, y: trail.append(y.clamp(-1, 1)))
            goal = identity(x).float()
            ids = [torch.linalg.vecdot(identity(y).float(), goal).mean().item() for y in trail]
        _save_strip([x, *trail[:6]], out / f"validation-{iteration:06d}.png")
        errors = [(y - x).square().mean().item() for y in trail]
        return {"l2": [round(v, 5) for v in errors], "id": [round(v, 4) for v in ids]}

    return validate


def _save_strip(columns: list[Tensor], path: Path, rows: int = 6) -> None:
    grid = torch.cat([torch.cat(list(column[:rows]), dim=1) for column in columns], dim=2)
    Image.fromarray(data.to_uint8(grid).permute(1, 2, 0).cpu().numpy()).save(path)
