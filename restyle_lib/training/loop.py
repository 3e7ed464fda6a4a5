"""Trains one inverter: pairs with known codes, states of the loop one by one, then the paper's loop as it is."""

import copy
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from restyle_lib import encoders
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.precision import autocast
from restyle_lib.training import checkpoint as state
from restyle_lib.training import economy, optimizers, phases, processes, states
from restyle_lib.training.log import Log
from restyle_lib.training.objective import Whole, critics_of, known
from restyle_lib.training.replay import Replay
from restyle_lib.training.schedule import Schedule
from restyle_lib.training.settings import Settings
from restyle_lib.training.sources.photographs import Photographs
from restyle_lib.training.sources.renders import Pool, generator_for
from restyle_lib.training.validation import validate


def train(
    settings: Settings,
    out: Path,
    pool: Pool,
    heldout: Tensor | None = None,
    resume: bool = True,
    embed: nn.Module | None = None,
    watch: Callable[[dict], None] | None = None,
    log_every: int = 0,
) -> nn.Module:
    """Trains an encoder and returns its averaged weights (EMA), on the device of the pool's generator.

    Of several processes, which `accelerate launch` starts, each learns from its share of every batch and returns the
    same; the first of them writes files. Batches and gradients are the same, up to rounding, for any number of them,
    except for batch normalisations (of the full-size encoders), which see the share of their process.

    pool:    what it learns from: `sources.renders.Pool`, or `sources.photographs.Photographs`
    out:     folder for checkpoint.pt and the one before, log.jsonl, tensorboard/, and the strips of validation
    heldout: images [n, 3, h, w] in [-1, 1] for validation
    resume:  continue from the newest checkpoint in `out`; the result is the same to the bit as without the stop
    embed:   MoCo, where its features take the place of the identity network's
    watch:   called with every record of the log, one in log_every batches; 0: in 20, or thirty in a shorter run
    Raises ValueError for checkpoints of other settings and for batches that the processes cannot share,
    FloatingPointError where a gradient is not finite, OSError where the disk is full, and MemoryError where one image
    is too much; the last checkpoint is kept, and the message says where it is.
    """
    torch.manual_seed(settings.seed)
    economy.keep_freed_memory()
    accelerator = processes.start(pool.device)
    schedule, heads = Schedule(settings), pool.slots
    log_every = log_every or min(20, 1 + schedule.total // 30)
    encoder = encoders.build(settings.in_channels, heads, pool.cut.n_styles, settings.design, settings.progressive)
    if pool.start:
        encoder.begin_as(pool.start)
    ema = copy.deepcopy(encoder).requires_grad_(False).eval().to(pool.device)
    encoder.to(pool.device, memory_format=torch.channels_last)
    parameters = list(encoder.parameters())
    optimizer = optimizers.build(settings, parameters)
    critics = critics_of(settings, pool.device, embed)
    replay = Replay(pool, settings, critics.see) if settings.replay_passes else None
    pieces = economy.Pieces(settings.at_a_time)

    parts = {"encoder": encoder, "ema": ema, "optimizer": optimizer}
    parts |= {"replay": replay, "codes": critics.codes, "images": critics.images}
    parts["source"] = pool if isinstance(pool, Photographs) else None  # which has nothing to restore, but to compare
    parts = {name: part for name, part in parts.items() if part}
    first = state.restore(out, settings, parts) if resume else state.forget(out)
    log = Log(out, first, schedule.total, watch) if accelerator.is_main_process else None
    faces = settings.domain in DOMAINS and DOMAINS[settings.domain].faces

    def learn(iteration: int, rng: torch.Generator) -> phases.Learned:
        """Leaves the gradients of a batch, those of all processes together."""
        n = schedule.batch(iteration)
        share = processes.share(accelerator, n)
        if iteration < schedule.warmup:
            pairs = [part[share] for part in pool.pairs(rng, n)]
            work = partial(phases.learn_pairs, encoder, pool, pairs, n)
        elif iteration < schedule.replayed:
            turn = replay.states[replay.take(iteration)]
            whole = Whole(n, int(known(turn.x_codes).sum()))
            work = partial(phases.learn_states, encoder, pool, settings, critics, turn[share], whole, {1: "replay"}, 1)
        else:
            x, codes = pool.batch(rng, n, share)
            whole = Whole(n, int(accelerator.reduce(known(codes).sum(), "sum")))
            begun = states.begin(pool, x, codes, critics.see(pool.goal(x, codes)))
            steps = schedule.steps(iteration - schedule.replayed)
            recorded = {t: str(t) for t in (1, settings.steps)}
            work = partial(phases.learn_states, encoder, pool, settings, critics, begun, whole, recorded, steps)
        with autocast(pool.device):
            learned = phases.join(pieces.of(share.stop - share.start, work, optimizer.zero_grad))
        processes.sum_gradients(parameters)
        return learned

    told = closing(log) if log else nullcontext()  # however the run ends, its last records are written
    with state.stops_clearly(out), told, economy.chosen(settings, encoder, pool.cut):
        for iteration in range(first, schedule.total):
            rng = generator_for(settings.seed, iteration)
            for group in optimizer.param_groups:
                group["lr"] = schedule.lr(iteration)
            encoder.stage = ema.stage = schedule.stage(iteration, heads)
            learned = learn(iteration, rng)
            norm = processes.finite_norm(parameters, f"batch {iteration}")
            nn.utils.clip_grads_with_norm_(parameters, 1.0, norm)
            optimizer.step()
            record = learned.record
            if schedule.warmup <= iteration < schedule.replayed:
                w, y = accelerator.gather(learned.last)
                replay.put(replay.take(iteration), w, y, rng)
            if iteration >= schedule.warmup:
                record |= phases.teach(accelerator, critics, pool, learned, iteration, rng)
            processes.average_statistics(encoder)
            follow(ema, encoder, min(settings.ema, (iteration + 1) / (iteration + 10)))

            done, last = iteration + 1, iteration + 1 == schedule.total
            if log:
                log.count(schedule.batch(iteration))
            if done % log_every == 0 or last:
                record = processes.total(accelerator, record)
                if log:
                    log.losses(done, record | {"gradient_norm": norm})
            if log and heldout is not None and (done % settings.validate_every == 0 or last):
                log.validation(done, *validate(ema, pool, heldout, settings.decay, faces))
            if log and (done % settings.checkpoint_every == 0 or last):
                log.flush()
                state.save(out, done, settings, parts)
    accelerator.wait_for_everyone()
    return ema


@torch.no_grad()
def follow(ema: nn.Module, encoder: nn.Module, decay: float) -> None:
    """The average moves towards the encoder's weights: decay times itself, 1 - decay times these."""
    for average, value in zip(ema.buffers(), encoder.buffers(), strict=True):
        average.copy_(value)  # of batch normalisations, in the full-size encoders
    for average, p in zip(ema.parameters(), encoder.parameters(), strict=True):
        average.lerp_(p, 1 - decay)
