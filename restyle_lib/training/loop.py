"""Trains one inverter: pairs with known codes, states of the loop one by one, then the paper's loop as it is."""

import copy
from collections.abc import Callable
from contextlib import closing, nullcontext
from functools import partial
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import nn

from restyle_lib import encoders
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.encoders import TrainableEncoder
from restyle_lib.precision import autocast
from restyle_lib.training import checkpoint, economy, optimizers, phases, processes, states
from restyle_lib.training.log import Log
from restyle_lib.training.objective import Whole, critics_of, known
from restyle_lib.training.replay import Replay
from restyle_lib.training.schedule import Phase, Schedule
from restyle_lib.training.settings import Settings
from restyle_lib.training.sources import Images, Source, generator_for
from restyle_lib.training.validation import validate


def train(
    settings: Settings,
    out: Path,
    source: Source,
    heldout: Images | None = None,
    resume: bool = True,
    embed: nn.Module | None = None,
    watch: Callable[[dict], bool | None] | None = None,
    log_every: int = 0,
) -> TrainableEncoder:
    """Trains an encoder and returns its averaged weights (EMA), on the device of the source's generator.

    Of several processes, which `accelerate launch` starts, each learns from its share of every batch and returns the
    same; the first of them writes files. Batches and gradients are the same, up to rounding, for any number of them,
    except for batch normalisations (of the full-size encoders), which see the share of their process.

    source:  what it learns from: `sources.faces.Faces`, `sources.photographs.Photographs`, or another `Source`
    out:     folder for checkpoint.pt and the one before, log.jsonl, tensorboard/, and the strips of validation
    heldout: images for validation
    resume:  continue from the newest checkpoint in `out`; the result is the same to the bit as without the stop
    embed:   MoCo, where its features take the place of the identity network's
    watch:   called with every record of the log; True ends the run there, without a checkpoint (of one process)
    log_every: batches from one record to the next; 0: 20, or fewer in a short run, which then has thirty
    Raises ValueError for checkpoints of other settings and for batches that the processes cannot share,
    FloatingPointError where a gradient is not finite, OSError where the disk is full, and MemoryError where one image
    is too much; the last checkpoint is kept, and the message says where it is.
    """
    torch.manual_seed(settings.seed)
    accelerator, schedule = processes.start(source.device), Schedule(settings)

    encoder = begin(settings, source)
    ema = copy.deepcopy(encoder).requires_grad_(False).eval().to(memory_format=torch.contiguous_format)
    parameters = list(encoder.parameters())
    optimizer = optimizers.build(settings, parameters)
    critics = critics_of(settings, source.device, embed)
    replay = Replay(source, settings, critics.see) if settings.replay_passes else None
    learner, pieces = phases.Learner(settings, encoder, source, critics), economy.Pieces(settings.at_a_time)

    saved = {"encoder": encoder, "ema": ema, "optimizer": optimizer, "replay": replay, "source": source}
    saved = saved | {"codes": critics.codes, "images": critics.images}
    saved = {name: part for name, part in saved.items() if part is not None}
    first = checkpoint.restore(out, settings, saved) if resume else checkpoint.forget(out)
    log_every = log_every or min(20, 1 + schedule.total // 30)
    log = Log(out, first, schedule.total, watch) if accelerator.is_main_process else None
    logged = closing(log) if log else nullcontext()  # however the run ends, its last records are written
    faces = settings.domain in DOMAINS and DOMAINS[settings.domain].faces

    with checkpoint.stops_clearly(out), logged, economy.chosen(settings, encoder, source.G):
        for iteration in range(first, schedule.total):
            rng, phase = generator_for(settings.seed, iteration), schedule.phase(iteration)
            optimizers.set_rate(optimizer, schedule.lr(iteration))
            encoder.stage = ema.stage = schedule.stage(iteration, source.G.n_styles)

            batch = draw(learner, schedule, replay, accelerator, iteration, rng)
            with autocast(source.device):
                learned = phases.join(pieces.of(len(batch), partial(batch.learn, learner), optimizer.zero_grad))
            processes.sum_gradients(parameters)
            norm = processes.finite_norm(parameters, f"batch {iteration}")
            nn.utils.clip_grads_with_norm_(parameters, 1.0, norm)
            optimizer.step()
            record = learned.record

            if replay and phase is Phase.REPLAY:
                w, y = accelerator.gather(learned.last)
                replay.put(replay.take(iteration), w, y, rng)
            if phase is not Phase.PAIRS:
                record = record | phases.teach(learner, accelerator, learned.first, iteration, rng)
            processes.average_statistics(encoder)
            follow(ema, encoder, min(settings.ema, (iteration + 1) / (iteration + 10)))

            done = iteration + 1
            last = done == schedule.total
            if log:
                log.count(schedule.batch(iteration))
            if done % log_every == 0 or last:
                record = processes.total(accelerator, record)
                if log:
                    log.losses(done, record | {"gradient_norm": norm})
            if log and heldout is not None and (done % settings.validate_every == 0 or last):
                log.validation(done, *validate(ema, source, heldout, settings.decay, faces))
            if log and (done % settings.checkpoint_every == 0 or last):
                log.flush()
                checkpoint.save(out, done, settings, saved)
            if log and log.stopped:
                break
    accelerator.wait_for_everyone()
    return ema


def begin(settings: Settings, source: Source) -> TrainableEncoder:
    """The encoder that a run trains, on the device of the source, with the weights that it starts from."""
    encoder = encoders.build(settings.in_channels, source.G.n_styles, settings.design, settings.progressive)
    if source.start:
        encoder.begin_as(source.start)
    return encoder.to(source.device, memory_format=torch.channels_last)


def draw(
    learner: phases.Learner,
    schedule: Schedule,
    replay: Replay | None,
    accelerator: Accelerator,
    iteration: int,
    rng: torch.Generator,
) -> phases.Pairs | phases.Unrolled:
    """This process's share of a batch: of pairs, of states in the replay buffer, or of states at step 0.

    Raises ValueError where the processes cannot share it evenly.
    """
    source, n = learner.source, schedule.batch(iteration)
    share = processes.share(accelerator, n)
    if schedule.phase(iteration) is Phase.PAIRS:
        x, y, residual = source.pairs(rng, n)
        return phases.Pairs(x[share], y[share], residual[share], n)
    if replay and schedule.phase(iteration) is Phase.REPLAY:
        turn = replay.states[replay.take(iteration)]
        return phases.Unrolled(turn[share], Whole(n, int(known(turn.x_codes).sum())), 1, {1: "replay"})
    images = source.batch(rng, n, share)
    whole = Whole(n, int(accelerator.reduce(known(images.codes).sum(), "sum")))
    begun = states.begin(source, images, learner.critics.see(source.goal(images)))
    recorded = {t: str(t) for t in (1, learner.settings.steps)}
    return phases.Unrolled(begun, whole, schedule.steps(iteration - schedule.replayed), recorded)


@torch.no_grad()
def follow(ema: nn.Module, encoder: nn.Module, decay: float) -> None:
    """The average moves towards the encoder's weights: decay times itself, 1 - decay times these."""
    for average, value in zip(ema.buffers(), encoder.buffers(), strict=True):
        average.copy_(value)  # of batch normalisations, in the full-size encoders
    for average, p in zip(ema.parameters(), encoder.parameters(), strict=True):
        average.lerp_(p, 1 - decay)
