"""Trains one inverter: pairs with known codes, states of the loop one by one, then the paper's loop as it is."""

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

from restyle_lib import data, encoders, losses
from restyle_lib.faces.identity import Identity
from restyle_lib.inversion.refine import refine
from restyle_lib.perceptual import st_lpips
from restyle_lib.precision import autocast, has_fast_bf16
from restyle_lib.training import state
from restyle_lib.training.adversary import Adversary, image_discriminator, latent_discriminator
from restyle_lib.training.replay import Replay
from restyle_lib.training.samples import Pool, generator_for
from restyle_lib.training.settings import Settings


@dataclass
class Schedule:
    """Batch counts of the three phases, and the learning rate of every batch."""

    settings: Settings

    @cached_property
    def warmup(self) -> int:
        """The first batch after the warm start."""
        return self.settings.warmup_passes // self.settings.warmup_batch

    @cached_property
    def replayed(self) -> int:
        """The first batch of the true loop."""
        return self.warmup + self.settings.replay_passes // self.settings.replay_batch

    @cached_property
    def total(self) -> int:
        passes = batches = 0
        while passes < self.settings.loop_passes:
            passes += self.settings.batch * self.steps(batches)
            batches += 1
        return self.replayed + batches

    def steps(self, i: int) -> int:
        """Refinement steps of the i-th batch of the loop."""
        s = self.settings
        return 2 * s.steps if s.long_every and i % s.long_every == s.long_every - 1 else s.steps

    def share(self, iteration: int) -> float:
        """How much of the passes of replay and loop is done, 0 to 1."""
        s = self.settings
        replayed = min(iteration - self.warmup, self.replayed - self.warmup) * s.replay_batch
        looped = max(iteration - self.replayed, 0) / max(self.total - self.replayed, 1) * s.loop_passes
        return max(replayed + looped, 0) / (s.replay_passes + s.loop_passes or 1)

    def stage(self, iteration: int, heads: int) -> int:
        """The last slot that a progressive encoder may set apart: none until a quarter of the way, all after half."""
        share = self.share(iteration)
        return min(int(1 + (share - 0.25) * 4 * (heads - 1)), heads - 1) if share >= 0.25 else 0

    def lr(self, iteration: int) -> float:
        """A short linear rise, then a cosine to zero: once for the warm start, once for all that follows."""
        if iteration < self.warmup:
            i, n, peak, share = iteration, self.warmup, self.settings.warmup_lr, iteration / self.warmup
        else:
            i, n = iteration - self.warmup, self.total - self.warmup
            peak, share = self.settings.loop_lr, self.share(iteration)
        rise = min(1.0, (i + 1) / min(100, 1 + n // 20))
        return peak * rise * (1 + math.cos(math.pi * share)) / 2


class Critics(NamedTuple):
    """The networks that losses look through: two frozen ones, and the discriminators that learn beside the encoder.

    embed: identity, or MoCo where there are no faces, or none
    """

    embed: nn.Module | None
    distance: nn.Module
    codes: Adversary | None = None
    images: Adversary | None = None

    @torch.no_grad()
    def see(self, x: Tensor) -> list[Tensor]:
        """What the losses compare of images x: their embeddings, and the perceptual network's layers."""
        with autocast(x.device):
            return [self.embed(x) if self.embed else x.new_empty(len(x), 0), *self.distance.features(x)]


def batch_losses(
    settings: Settings, pool: Pool, critics: Critics, x: Tensor, x_codes: Tensor, seen: list[Tensor]
) -> Callable:
    """The loss of one batch as a function of (w_t, y_t); seen = critics.see(x), computed once for all steps."""
    known = ~x_codes.isnan().any(dim=(1, 2))
    x_embedding, *x_features = seen
    weights = {
        "l2": settings.lambda_l2,
        "lpips": settings.lambda_lpips,
        "id": settings.lambda_id or settings.lambda_moco,
        "latent": settings.lambda_latent,
        "prior": settings.lambda_prior,
        "delta": settings.lambda_delta,
        "adversarial": settings.lambda_latent_adversarial,
        "realism": settings.lambda_image_adversarial,
    }

    def loss(codes: Tensor, y: Tensor) -> dict[str, Tensor]:
        terms = {
            "l2": losses.l2(y, x),
            "lpips": losses.perceptual(critics.distance, y, x_features),
        }
        if critics.embed:
            terms["id"] = losses.identity(critics.embed, y, x_embedding)
        if settings.lambda_latent and known.any():  # a batch may by chance hold disturbed images only
            terms["latent"] = losses.latent(codes[known], x_codes[known], pool.codes_scale, pool.cut.slots_read)
        if settings.lambda_prior and not known.all():
            terms["prior"] = losses.prior(codes[~known], pool.cut.w_avg, pool.whitening, pool.cut.slots_read)
        if settings.lambda_delta:
            terms["delta"] = losses.delta(codes[:, : pool.cut.slots_read])
        if critics.codes:
            terms["adversarial"] = critics.codes.loss(codes[:, : pool.cut.slots_read].flatten(0, 1))
        if critics.images:
            terms["realism"] = critics.images.loss(y)
        return terms | {"total": sum(weights[name] * term for name, term in terms.items())}

    return loss


def warmup_step(encoder: nn.Module, pool: Pool, examples: tuple, backward: Callable) -> dict:
    """Pairs: the encoder sees (x, y) and learns the residual from the one to the other; see `Pool.pairs`."""
    x, y, residual = examples
    found = encoder(x if encoder.in_channels == 3 else torch.cat([x, y], dim=1))
    loss = losses.latent(found, residual, pool.codes_scale, pool.cut.slots_read)
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
    loss = batch_losses(settings, pool, critics, x, codes, critics.see(x))
    record = {}

    def learn(t: int, w: Tensor, y: Tensor) -> None:
        terms = loss(w, y)
        backward(terms["total"])
        if t in (1, settings.steps):
            record.update({f"{name}_{t}": term for name, term in terms.items()})

    start = pool.cut.w_avg.expand(len(x), pool.cut.n_styles, -1)
    refine(encoder, pool.cut, x, start, pool.average_image.expand_as(x), steps, learn, settings.decay)
    return record


def replay_step(
    encoder: nn.Module,
    pool: Pool,
    replay: Replay,
    iteration: int,
    rng: torch.Generator,
    settings: Settings,
    critics: Critics,
    backward: Callable,
) -> dict:
    """One refinement step of images that are at different steps; the encoder learns from all of them at once."""
    i = replay.take(iteration)
    loss = batch_losses(settings, pool, critics, replay.x[i], replay.x_codes[i], [part[i] for part in replay.seen])
    record = {}

    def learn(t: int, w: Tensor, y: Tensor) -> None:
        terms = loss(w, y)
        backward(terms["total"])
        record.update({f"{name}_replay": term for name, term in terms.items()})

    state = (replay.x[i], replay.w[i], replay.y[i])
    first = (1 + replay.taken[i]).to(pool.device).view(-1, 1, 1)
    replay.put(i, *refine(encoder, pool.cut, *state, 1, learn, settings.decay, first), rng)
    return record


def teach(critics: Critics, pool: Pool, count: int, iteration: int, rng: torch.Generator) -> dict:
    """The discriminators' step after the encoder's: real codes are those of W, real images the full renders."""
    record = {}
    if critics.codes:
        z = torch.randn(count * pool.cut.slots_read, len(pool.cut.w_avg), generator=rng)
        record["d_codes"] = critics.codes.learn(pool.cut.map(z.to(pool.device)), iteration, rng)
    if critics.images:
        i = torch.randint(pool.n_full, (count,), generator=rng)
        record["d_images"] = critics.images.learn(data.to_float(pool.images[i].to(pool.device)), iteration, rng)
    return record


def train(
    settings: Settings,
    out: Path,
    pool: Pool,
    validate: Callable[[nn.Module, int], dict] | None = None,
    resume: bool = True,
    embed: nn.Module | None = None,
) -> nn.Module:
    """Trains an encoder and returns its averaged weights (EMA), on the device of the pool's generator.

    pool:     what it learns from: `samples.Pool`, or `full_scale.Photographs`
    out:      folder for checkpoint.pt, log.jsonl and what `validate(encoder, iteration)` draws
    embed:    the network whose features the "id" loss compares; by default the identity network where lambda_id is set
    resume:   continue from out/checkpoint.pt where it exists; the result is the same to the bit as without the stop
    Raises FloatingPointError when a loss is not finite: the last checkpoint is kept, and the message says where it is.
    """
    torch.manual_seed(settings.seed)
    precision = "bf16" if has_fast_bf16(pool.device) else "no"
    accelerator = Accelerator(mixed_precision=precision, cpu=pool.device.type == "cpu")
    schedule = Schedule(settings)
    shape = (settings.in_channels, pool.cut.slots_read, pool.cut.n_styles)
    encoder = encoders.build(*shape, settings.design, settings.progressive)
    if pool.start:
        encoder.begin_as(pool.start)
    ema = copy.deepcopy(encoder).requires_grad_(False).eval().to(accelerator.device)
    encoder.to(memory_format=torch.channels_last)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=settings.warmup_lr, betas=(0.9, 0.99))
    encoder, optimizer = accelerator.prepare(encoder, optimizer)
    if embed is None and settings.lambda_id:
        embed = Identity().to(accelerator.device)
    critics = Critics(embed, st_lpips().to(accelerator.device))
    if settings.lambda_latent_adversarial:
        latent_critic = Adversary(latent_discriminator(), settings.discriminator_lr, accelerator.device)
        critics = critics._replace(codes=latent_critic)
    if settings.lambda_image_adversarial:
        image_critic = Adversary(image_discriminator(), settings.discriminator_lr, accelerator.device)
        critics = critics._replace(images=image_critic)
    replay = Replay(pool, settings, critics.see) if settings.replay_passes else None
    others = {"replay": replay, "codes": critics.codes, "images": critics.images}  # what else a resume must restore
    others = {name: part for name, part in others.items() if part}

    checkpoint, log = out / "checkpoint.pt", out / "log.jsonl"
    out.mkdir(parents=True, exist_ok=True)
    iteration = 0
    if resume and (saved := state.load(checkpoint)):
        if saved["settings"] != asdict(settings):
            raise ValueError(f"{checkpoint} was made with other settings; use another folder or --no-resume")
        accelerator.unwrap_model(encoder).load_state_dict(saved["encoder"])
        ema.load_state_dict(saved["ema"])
        optimizer.load_state_dict(saved["optimizer"])
        for name, part in others.items():
            part.load_state_dict(saved[name])
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
        for model in (accelerator.unwrap_model(encoder), ema):
            model.stage = schedule.stage(iteration, pool.cut.slots_read)
        with accelerator.autocast():
            if iteration < schedule.warmup:
                count = settings.warmup_batch
                record = warmup_step(encoder, pool, pool.pairs(rng, count), backward)
            elif iteration < schedule.replayed:
                count = settings.replay_batch
                record = replay_step(encoder, pool, replay, iteration, rng, settings, critics, backward)
            else:
                count, steps = settings.batch, schedule.steps(iteration - schedule.replayed)
                record = loop_step(encoder, pool, pool.batch(rng, count), settings, steps, critics, backward)
        accelerator.clip_grad_norm_(encoder.parameters(), 1.0)
        optimizer.step()
        if iteration >= schedule.warmup:
            record |= teach(critics, pool, count, iteration, rng)
        for average, value in zip(ema.buffers(), encoder.buffers(), strict=True):
            average.copy_(value)  # of batch normalisations, in the full-size encoders
        for average, p in zip(ema.parameters(), encoder.parameters(), strict=True):
            average.lerp_(p.detach(), 1 - min(settings.ema, (iteration + 1) / (iteration + 10)))
        iteration, images = iteration + 1, images + count
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
            saved |= {name: part.state_dict() for name, part in others.items()}
            state.save(checkpoint, saved)
    progress.close()
    return ema


def _append(path: Path, record: dict) -> None:
    with path.open("a") as file:
        file.write(json.dumps(record) + "\n")


def validate_on(
    pool: Pool, x: Tensor, out: Path, embed: nn.Module | None = None, decay: float = 0.0, steps: int = 10
) -> Callable[[nn.Module, int], dict]:
    """A validation function: L2 and "id" after each step on held-out images x, and a strip of them in `out`."""
    x = x.to(pool.device)

    @torch.no_grad()
    def validate(encoder: nn.Module, iteration: int) -> dict:
        steps_ = steps if encoder.in_channels == 6 else 1
        trail = []
        start = pool.cut.w_avg.expand(len(x), pool.cut.n_styles, -1)
        y0 = pool.average_image.expand_as(x)
        with autocast(pool.device):
            refine(encoder, pool.cut, x, start, y0, steps_, lambda t, w, y: trail.append(y.clamp(-1, 1)), decay)
            ids = [1 - losses.identity(embed, y, embed(x)).item() for y in trail] if embed else []
        _save_strip([x, *trail[:6]], out / f"validation-{iteration:06d}.png")
        errors = [losses.l2(y, x).item() for y in trail]
        return {"l2": [round(v, 5) for v in errors]} | ({"id": [round(v, 4) for v in ids]} if embed else {})

    return validate


def _save_strip(columns: list[Tensor], path: Path, rows: int = 6) -> None:
    grid = torch.cat([torch.cat(list(column[:rows]), dim=1) for column in columns], dim=2)
    Image.fromarray(data.to_uint8(grid).permute(1, 2, 0).cpu().numpy()).save(path)
