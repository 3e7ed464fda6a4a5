"""Training learns, stops with its checkpoint intact, and resumes to the bit after kill -9."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from functools import partial

import pytest
import torch
from safetensors.torch import load_file

import restyle_lib as rl
from restyle_lib import encoders, losses, precision
from restyle_lib import train as training
from restyle_lib.checkpoints.packing import unpack
from restyle_lib.encoders import SimplifiedEncoder
from restyle_lib.faces.identity import EMBEDDING, Identity, recognise_in_place
from restyle_lib.features.perceptual import st_lpips
from restyle_lib.generators import render_sets
from restyle_lib.images import to_float, to_image, to_uint8
from restyle_lib.inversion import detail
from restyle_lib.inversion.inverter import Viewed, load_inverter, save_inverter, shipped_inverters
from restyle_lib.inversion.refine import refine
from restyle_lib.making.distill import trainable
from restyle_lib.paths import WEIGHTS
from restyle_lib.train import change, run
from restyle_lib.training import checkpoint, loop, objective, phases, processes, states
from restyle_lib.training.adversary import Adversary, latent_discriminator
from restyle_lib.training.replay import Replay
from restyle_lib.training.schedule import Schedule
from restyle_lib.training.settings import SETTINGS, Settings
from restyle_lib.training.sources import Images, generator_for
from restyle_lib.training.sources.faces import Faces
from restyle_lib.training.sources.renders import disturb, scatter
from restyle_lib.training.validation import validate

# An encoder of 64 px from random weights, with the small generator in the loop: a pass takes a hundredth of a second.
TINY = {
    "init": "",
    "size": 64,
    "generator": "faces-64",
    "warmup_passes": 64,
    "warmup_batch": 4,
    "replay_passes": 16,
    "replay_states": 6,
    "replay_batch": 2,
    "loop_passes": 25,
    "batch": 2,
    "renders": 20,
    "validation": 2,
    "validate_every": 10,
    "checkpoint_every": 3,
}


SHORT = TINY | {"warmup_passes": 32, "checkpoint_every": 4, "validation": 1, "validate_every": 100}


def tiny(name: str = "restyle-psp", **settings) -> Settings:
    return change(SETTINGS[name], TINY | settings)


def faces(settings: Settings, photographs=None, near=True) -> Faces:
    """A source with twenty renders, the near ones by the small generator."""
    G = Viewed(rl.load_generator("faces-64"), (64, 64))
    drawn = render_sets.renders(rl.load_generator("faces-1024"), "train", 20, render_sets.POOL_SEED)
    codes = scatter(drawn.codes, 8, torch.Generator().manual_seed(2))
    with torch.no_grad():
        nearby = render_sets.Renders(to_uint8(G.synthesize(codes)), codes)
    return Faces(G, settings, drawn, nearby if near else None, photographs)


@pytest.fixture(scope="module")
def pool():
    return faces(tiny())


def learn(encoder, pool, images, settings=None, piece=slice(None)) -> phases.Learned:
    """One batch of the loop, of which `piece` is learned from."""
    critics = objective.Critics(Identity(), st_lpips())
    begun = states.begin(pool, images, critics.see(images.x))
    whole = objective.Whole(len(images.x), int(objective.known(images.codes).sum()))
    recorded = {t: str(t) for t in range(1, 6)}
    learner = phases.Learner(settings or tiny(), encoder, pool, critics)
    return phases.Unrolled(begun, whole, 5, recorded).learn(learner, piece)


def start(out, **environment) -> subprocess.Popen:
    command = [sys.executable, "-m", "restyle_lib.train", "restyle-psp", "--out", str(out), "--override"]
    command += [word for key, value in SHORT.items() for word in (key, str(value))]
    return subprocess.Popen(command, env=os.environ | {"OMP_NUM_THREADS": "1"} | environment, stderr=subprocess.PIPE)


def finish(process: subprocess.Popen) -> None:
    _, errors = process.communicate(timeout=600)
    assert process.returncode == 0, errors.decode()[-3000:]


def test_resume_after_kill_is_exact_to_the_bit(tmp_path, pool):
    """Two runs of the same settings, one of them killed without warning in either phase, give identical weights."""
    torch.set_num_threads(1)  # as the processes do
    run("restyle-psp", tmp_path / "whole", override=SHORT)
    total = Schedule(change(SETTINGS["restyle-psp"], SHORT)).total
    for after in (4, 12, 16):  # in the warm start, among replayed states, and in the loop
        process = start(tmp_path / "killed")
        folder = tmp_path / "killed" / "restyle-psp"
        deadline = time.monotonic() + 300
        while (checkpoint.newest(folder) or {"iteration": 0})["iteration"] < after:
            assert process.poll() is None and time.monotonic() < deadline, process.stderr.read().decode()[-3000:]
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert checkpoint.newest(folder)["iteration"] < total, "the run ended before it was killed"
    finish(start(tmp_path / "killed"))

    whole, killed = (tmp_path / run / "restyle-psp" for run in ("whole", "killed"))
    weights = [load_file(run / "restyle-psp.safetensors") for run in (whole, killed)]
    assert weights[0].keys() == weights[1].keys()
    assert all(torch.equal(weights[0][key], weights[1][key]) for key in weights[0])
    timings = ("seconds", "images_per_s")
    logs = [[json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()] for run in (whole, killed)]
    assert len({json.dumps([{k: v for k, v in r.items() if k not in timings} for r in log]) for log in logs}) == 1
    assert load_inverter(whole / "restyle-psp.safetensors").invert(torch.zeros(1, 3, 64, 64)).latents.isfinite().all()


def test_warm_start_learns(pool, tmp_path):
    settings = tiny("restyle-e4e", warmup_passes=160, warmup_batch=16, replay_passes=0, loop_passes=0)
    loop.train(settings, tmp_path, pool)
    log = [json.loads(line)["latent"] for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert log[-1] < 0.8 * log[0]


def says_something(encoder):
    """The encoder, its zeroed last layers filled."""
    for name, p in encoder.named_parameters():
        if "out.weight" in name:
            torch.nn.init.normal_(p, std=0.02, generator=torch.Generator().manual_seed(0))
    return encoder


def test_the_loop_lowers_its_losses_step_by_step():
    """A batch of the shipped encoder's own loop: later steps have lower losses, and every parameter learns."""
    inverter = rl.load_inverter("faces/restyle-psp")
    settings = tiny(size=256, generator="faces-1024")
    drawn = render_sets.renders(inverter.G, "train", 20, render_sets.POOL_SEED)
    source = Faces(Viewed(inverter.G, (256, 256)), settings, drawn)
    x = torch.cat([to_float(drawn.images[:1]), disturb(*to_float(drawn.images[1:3]).split(1), generator_for(0, 0))])
    codes = torch.cat([drawn.codes[:1], source.unknown(1)])
    encoder = inverter.encoder.requires_grad_(True)
    record = learn(encoder, source, Images(x, codes, torch.tensor([256, 256]))).record
    assert record["total_5"] < record["total_1"] and record["l2_5"] < record["l2_1"]
    assert {"lpips_5", "id_5", "latent_5", "prior_5"} <= record.keys()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in encoder.parameters())
    assert all(p.grad is None for p in inverter.G.parameters())


def test_a_batch_of_images_of_unknown_codes_alone_has_finite_losses(pool):
    """The prior takes the codes' place, and there is no mean over nothing."""
    x = pool.batch(torch.Generator().manual_seed(0), 2).x
    critics = objective.Critics(None, st_lpips())
    begun = states.begin(pool, Images(x, pool.unknown(2), torch.tensor([64, 64])), critics.see(x))
    terms = objective.batch_losses(tiny(), pool, critics, begun, objective.Whole(2, 0))(
        pool.G.w_avg.expand(2, 16, -1) + 0.1, pool.average_image.expand_as(x)
    )
    assert "latent" not in terms and terms["prior"] > 0 and terms["total"].isfinite()


def test_replayed_states_are_the_loops_own(pool, tmp_path):
    """Each state is the loop's after so many steps, and images that have made all theirs are replaced."""
    settings = tiny(replay_states=4, replay_batch=2, steps=2, long_every=0)
    replay = Replay(pool, settings, see=lambda x: [x.mean(dim=(1, 2, 3))])
    encoder = says_something(encoders.build(3, 16))  # one pass: w_avg + E(x) at each step, whatever came before
    now = replay.states
    images, left = now.x.clone(), replay.left.clone()
    with torch.no_grad():
        for iteration in range(4):  # everyone has two turns
            i = replay.take(iteration)
            w, y = refine(encoder, pool.G, now.x[i], now.w[i], now.y[i], 1)
            replay.put(i, w, y, torch.Generator().manual_seed(50 + iteration))
        assert (replay.left > 0).all() and (replay.left <= 2).all()
        for k in range(4):
            replaced = not torch.equal(images[k], now.x[k])
            assert replaced == (left[k] <= 2)
            steps = 2 - int(left[k]) if replaced else 2
            expected = pool.G.w_avg + steps * encoder(now.x[k : k + 1])
            assert torch.allclose(now.w[k : k + 1], expected.expand(1, 16, -1), atol=1e-3)
            at_start = torch.equal(now.y[k], pool.average_image)
            assert at_start == (steps == 0)
            assert now.taken[k] == steps
    assert torch.equal(now.seen[0], now.x.mean(dim=(1, 2, 3)))  # what was seen of an image goes with it
    again = Replay(pool, settings, replay.see)
    again.load_state_dict(replay.state_dict())
    assert torch.equal(again.left, replay.left)
    assert all(
        torch.equal(a.nan_to_num(-99), b.nan_to_num(-99))
        for a, b in zip(again.states.tensors(), now.tensors(), strict=True)
    )


@pytest.mark.parametrize("name", ["e4e", "idinvert", "restyle-e4e", "restyle-psp-fpn"])
def test_every_named_inverter_trains_and_loads(name, pool, tmp_path):
    more = {"replay_passes": 8 if "restyle" in name else 0, "progressive": name == "restyle-e4e"}
    encoder = loop.train(tiny(name, warmup_passes=8, **more), tmp_path, pool)
    save_inverter(tmp_path / "mine.safetensors", encoder, "faces-64", size=64)
    loaded = load_inverter(tmp_path / "mine.safetensors").encoder
    assert (type(loaded), loaded.progressive) == (type(encoder), encoder.progressive)
    assert loaded.in_channels == (6 if "restyle" in name else 3)
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert ("d_codes" in log[-1]) == ("e4e" in name) and ("d_images" in log[-1]) == (name == "idinvert")
    assert (tmp_path / "checkpoint.pt").stat().st_size > 0


def test_a_progressive_encoder_sets_its_styles_free_one_by_one():
    schedule = Schedule(dataclasses.replace(SETTINGS["restyle-e4e"], progressive=True))
    stages = [schedule.stage(i, 16) for i in range(schedule.total)]
    assert stages[0] == stages[schedule.warmup] == 0 and stages[-1] == 15 and stages == sorted(stages)
    for design in encoders.DESIGNS:
        encoder = encoders.build(3, 16, design, progressive=True)
        for p in encoder.parameters():
            torch.nn.init.normal_(p, std=0.1)
        encoder.stage = 2
        with torch.no_grad():
            styles = encoder(torch.randn(2, 3, 64, 64))
        same = (styles == styles[:, :1]).all(dim=(0, 2))
        assert same.tolist() == [True, False, False] + [True] * 13


@torch.no_grad()
def test_an_adversary_learns_and_remembers():
    torch.manual_seed(0)
    settings, device = tiny(discriminator_lr=1e-2), torch.device("cpu")
    alone = processes.start(device)
    adversary = Adversary(latent_discriminator(8), settings, device)
    for iteration in range(60):
        rng = torch.Generator().manual_seed(iteration)
        with torch.enable_grad():
            last = adversary.learn(alone, torch.randn(16, 8) - 2, torch.randn(16, 8) + 2, iteration, rng)
    assert last < 0.3 and len(adversary.pool) == 50
    assert adversary.loss(torch.randn(16, 8) - 2) < adversary.loss(torch.randn(16, 8) + 2)
    again = Adversary(latent_discriminator(8), settings, device)
    again.load_state_dict(adversary.state_dict())
    x = torch.randn(4, 8)
    assert torch.equal(again.network(x), adversary.network(x))


@torch.no_grad()
def test_the_pool_of_an_adversary_holds_codes_not_their_batches():
    """Also those that take the place of others: a view keeps its whole batch, in memory and in each checkpoint."""
    adversary = Adversary(latent_discriminator(8), tiny(), torch.device("cpu"))
    for seed in range(6):
        adversary._with_earlier(torch.randn(16, 8), torch.Generator().manual_seed(seed))
        assert all(one.untyped_storage().nbytes() == one.nbytes for one in adversary.pool)
    assert len(adversary.pool) == 50


def test_losses_by_hand():
    codes = torch.zeros(2, 3, 4)
    codes[0, 1] = 1.0  # at distance 2 from slot 0
    assert losses.delta(codes).item() == pytest.approx(1.0)
    assert losses.w_norm(codes, torch.zeros(4)).item() == pytest.approx(1.0)
    scores = torch.nn.Linear(4, 1, bias=False)
    torch.nn.init.constant_(scores.weight, 0.5)
    assert losses.r1(scores, torch.randn(3, 4)).item() == pytest.approx(1.0)
    sure = torch.nn.Flatten(0)
    assert losses.adversarial(sure, torch.full((2, 1), 20.0)).item() == pytest.approx(0, abs=1e-6)
    assert losses.discrimination(sure, torch.full((2, 1), 20.0), torch.full((2, 1), -20.0)).item() < 1e-6


def test_nan_stops_with_a_message_and_keeps_the_checkpoint(pool, tmp_path, monkeypatch):
    settings = tiny()
    calls = iter(range(1000))
    real = losses.latent
    poisoned = lambda *a: real(*a) * (float("nan") if next(calls) == 8 else 1)  # noqa: E731
    monkeypatch.setattr(losses, "latent", poisoned)
    with pytest.raises(FloatingPointError, match="batch 8: .*checkpoint.pt of batch 6 is still good"):
        loop.train(settings, tmp_path, pool)
    assert checkpoint.newest(tmp_path)["iteration"] == 6


def test_other_settings_do_not_continue_a_run(pool, tmp_path):
    loop.train(tiny(warmup_passes=12, replay_passes=0, loop_passes=0), tmp_path, pool)
    with pytest.raises(ValueError, match="other settings"):
        loop.train(tiny(warmup_passes=24, replay_passes=0, loop_passes=0), tmp_path, pool)


def test_two_runs_do_not_write_into_one_folder(tmp_path):
    short = SHORT | {"warmup_passes": 8, "replay_passes": 0, "loop_passes": 0}
    with checkpoint.alone(tmp_path / "restyle-psp"), pytest.raises(ValueError, match="another training goes on in"):
        run("restyle-psp", tmp_path, override=short)
    assert run("restyle-psp", tmp_path, override=short).exists(), "nor does a lock outlive its run"


def test_a_broken_checkpoint_is_named(tmp_path):
    (tmp_path / "checkpoint.pt").write_bytes(b"PK\x03\x04 not really")
    with pytest.raises(ValueError, match="not a checkpoint"):
        checkpoint.newest(tmp_path)


def test_a_truncated_checkpoint_gives_way_to_the_one_before(pool, tmp_path, capsys):
    """A run that lost the end of its newest file continues from the previous one, to the same weights."""
    settings = tiny(warmup_passes=32, replay_passes=0, loop_passes=0)
    whole = loop.train(settings, tmp_path / "whole", pool).state_dict()
    loop.train(settings, tmp_path / "damaged", pool)
    newest = tmp_path / "damaged" / "checkpoint.pt"
    assert checkpoint.newest(tmp_path / "damaged")["iteration"] == 8
    newest.write_bytes(newest.read_bytes()[:-1000])
    assert checkpoint.newest(tmp_path / "damaged")["iteration"] == 6
    again = loop.train(settings, tmp_path / "damaged", pool).state_dict()
    assert "continuing from" in capsys.readouterr().out
    assert all(torch.equal(again[name], whole[name]) for name in whole)
    for path in (newest, newest.with_name("checkpoint-previous.pt")):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="not a checkpoint"):
        loop.train(settings, tmp_path / "damaged", pool)


def test_a_full_disk_stops_with_a_message_and_keeps_the_checkpoint(pool, tmp_path, monkeypatch):
    settings = tiny(warmup_passes=64, replay_passes=0, loop_passes=0)
    real, calls = torch.save, iter(range(1000))

    def save(content, file):
        if next(calls) == 2:
            file.write(b"a part")
            raise OSError(errno.ENOSPC, "No space left on device")
        real(content, file)

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(OSError, match="the disk is full; make room .*checkpoint.pt of batch 6 is still good"):
        loop.train(settings, tmp_path, pool)
    assert checkpoint.newest(tmp_path)["iteration"] == 6 and not list(tmp_path.glob(".checkpoint*"))
    loop.train(settings, tmp_path, pool)
    assert checkpoint.newest(tmp_path)["iteration"] == 16


def begin_of(settings, pool) -> dict:
    """The weights that a run of these settings starts from."""
    torch.manual_seed(settings.seed)
    return loop.begin(settings, pool).state_dict()


@pytest.fixture
def fp32(monkeypatch):
    """Sums in fp32, whose rounding is small beside what a test compares."""
    monkeypatch.setattr(precision, "has_fast_bf16", lambda device: False)


def test_pieces_of_a_batch_add_up_to_its_gradient(pool, fp32):
    """Known and unknown codes are divided unevenly: the third piece has no known code at all."""
    encoder = says_something(encoders.build(6, 16))
    images = pool.batch(torch.Generator().manual_seed(0), 4)
    images.codes[3] = torch.nan
    whole = learn(encoder, pool, images)
    expected = torch.cat([p.grad.flatten() for p in encoder.parameters()])
    encoder.zero_grad()
    pieces = phases.join([learn(encoder, pool, images, piece=slice(a, b)) for a, b in ((0, 1), (1, 3), (3, 4))])
    gradient = torch.cat([p.grad.flatten() for p in encoder.parameters()])
    assert (gradient - expected).norm() < 2e-3 * expected.norm()  # rounding of five steps in a row
    assert all(
        pieces.record[name].item() == pytest.approx(term.item(), rel=2e-3) for name, term in whole.record.items()
    )
    assert torch.allclose(pieces.last[0], whole.last[0], atol=1e-4)


def test_out_of_memory_halves_the_pieces_and_says_so(pool, tmp_path, monkeypatch, capsys, fp32):
    """The failed batch is done again in halves, with the result of a run that had the memory."""
    settings = tiny(warmup_passes=8, replay_passes=0, loop_passes=20)
    expected = loop.train(settings, tmp_path / "roomy", pool).state_dict()
    real, sizes = losses.l2, []

    def l2(y, x):
        sizes.append(len(y))
        if len(sizes) == 3:  # in the middle of the first batch's steps
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB")
        return real(y, x)

    monkeypatch.setattr(losses, "l2", l2)
    found = loop.train(settings, tmp_path / "scarce", pool).state_dict()
    assert "out of memory: 1 images at a time" in capsys.readouterr().out
    assert sizes[:3] == [2, 2, 2] and set(sizes[3:]) == {1}
    begin = begin_of(settings, pool)
    moved, apart = (
        torch.cat([(one[name] - expected[name]).flatten() for name in begin]).norm() for one in (begin, found)
    )
    assert apart < 0.01 * moved


def test_a_batch_in_pieces_teaches_the_same(pool, tmp_path, monkeypatch, fp32):
    """As many images at a time as the setting says."""
    real, sizes = losses.l2, []
    monkeypatch.setattr(losses, "l2", lambda y, x: sizes.append(len(y)) or real(y, x))
    settings = tiny(warmup_passes=0, replay_passes=0, loop_passes=20)
    whole = loop.train(settings, tmp_path / "whole", pool).state_dict()
    assert set(sizes) == {2}
    sizes.clear()
    parts = loop.train(dataclasses.replace(settings, at_a_time=1), tmp_path / "parts", pool).state_dict()
    assert set(sizes) == {1}
    begin = begin_of(settings, pool)
    moved, apart = (torch.cat([(one[name] - whole[name]).flatten() for name in begin]).norm() for one in (begin, parts))
    assert apart < 0.03 * moved  # Adam's first steps have the size of the learning rate, however small a gradient


def test_a_single_image_that_is_too_much_ends_the_run(pool, tmp_path, monkeypatch):
    def l2(y, x):
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(losses, "l2", l2)
    with pytest.raises(
        MemoryError, match="single image at a time; use .*checkpointing.* no checkpoint was written yet"
    ):
        loop.train(tiny(warmup_passes=0, replay_passes=0, loop_passes=10), tmp_path, pool)


def test_recomputed_or_compiled_training_is_the_same(pool, tmp_path, fp32, monkeypatch):
    """One batch of the loop: its losses, and the norm of its gradient. Compilation leaves out C++, its slow half."""
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    plain, *others = [], [], []
    for records, kind in zip((plain, *others), ({}, {"checkpointing": True}, {"compile": True}), strict=True):
        settings = tiny(warmup_passes=0, replay_passes=0, loop_passes=10, **kind)
        loop.train(settings, tmp_path, pool, resume=False, watch=records.append)
        records[0] = {name: x for name, x in records[0].items() if name not in ("seconds", "images_per_s")}
    assert all(records[0] == pytest.approx(plain[0], rel=0.01, abs=1e-4) for records in others)
    assert "forward" not in vars(pool.G.G.blocks[0]) and "synthesize" not in vars(pool.G)
    with pytest.raises(ValueError, match="not both"):
        loop.train(tiny(checkpointing=True, compile=True), tmp_path, pool, resume=False)


def test_tensorboard_shows_losses_and_strips(pool, tmp_path):
    """And after a stop, nothing twice: what came after the checkpoint is purged."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    settings = tiny(warmup_passes=12, replay_passes=0, loop_passes=20, validate_every=100)
    heldout = Images(torch.zeros(3, 3, 64, 64), pool.unknown(3), torch.full((3,), 64))
    for _ in range(2):
        records = []
        loop.train(settings, tmp_path, pool, heldout, watch=records.append, log_every=1)
        (tmp_path / "checkpoint.pt").unlink()  # the next run begins at the one before
    board = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    log = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert (
        len(records) == 3
        and records == log[-3:]
        and {"L2", "ST-LPIPS", "ID", "MS-SSIM"} == log[-1]["validation"].keys()
    )
    assert [scalar.step for scalar in board.Scalars("gradient/norm")] == [1, 2, 3, 4, 5]
    assert board.Scalars("l2/5")[-1].value == pytest.approx(log[-2]["l2_5"], rel=1e-4)
    (image,) = board.Images("validation")
    assert (image.width, image.height) == (64 * 7, 64 * 3)
    assert board.Scalars("validation L2/step 10")[0].value == pytest.approx(log[-1]["validation"]["L2"][9], rel=1e-4)


def test_log_is_rewound_to_the_checkpoint(tmp_path):
    log = tmp_path / "log.jsonl"
    log.write_text('{"iteration": 20}\n{"iteration": 40}\n{"iteration": 60}\n{"itera')
    checkpoint.rewind_log(log, 40)
    assert log.read_text() == '{"iteration": 20}\n{"iteration": 40}\n'


def test_examples_depend_on_seed_and_iteration_alone(pool):
    def draw(iteration):
        rng = generator_for(3, iteration)
        return [x.nan_to_num(-99) for x in (*pool.pairs(rng, 5), *pool.batch(rng, 4)[:2])]  # unknown codes are NaN

    assert all(torch.equal(a, b) for a, b in zip(draw(7), draw(7), strict=True))
    assert not torch.equal(draw(7)[0], draw(8)[0])


def test_pairs_are_what_they_claim(pool):
    """The residual leads from the code of y to that of x; where y is w_avg's image it is the whole code."""
    x, y, residual = pool.pairs(torch.Generator().manual_seed(0), 30)
    difference = (y - pool.average_image).square().mean((1, 2, 3))
    first = difference < 0.08  # some are seen at a low resolution
    assert 4 < first.sum() < 18 and x.shape == y.shape == (30, 3, 64, 64)
    with torch.no_grad():
        error = (pool.G.synthesize(pool.G.w_avg + residual[first]).clamp(-1, 1) - x[first]).square().mean()
    assert error < 0.05  # a render of the whole generator: near what the truncated one makes of its code
    lengths = residual[~first].square().mean((1, 2))
    assert lengths.min() < 0.5 * residual[first].square().mean(), "near ones among them"
    apart = [(codes - pool.renders.codes).square().mean() for codes in (pool.near.codes, pool.renders.codes.roll(1, 0))]
    assert apart[0] < 0.5 * apart[1], "each near one is near its own render, whatever the small generator leaves out"
    with pytest.raises(ValueError, match="near renders"):
        faces(tiny(), near=False).pairs(torch.Generator().manual_seed(0), 9)
    one_pass = faces(tiny("psp"), near=False)
    y = one_pass.pairs(torch.Generator().manual_seed(0), 9)[1]
    assert ((y - pool.average_image).square().mean((1, 2, 3)) < 0.08).all()


@torch.no_grad()
def test_codes_in_w_are_near_its_mean_in_every_direction(pool):
    z = torch.randn(2000, 512, generator=torch.Generator().manual_seed(9))
    codes = pool.G.map(z)[:, None].expand(-1, 16, -1)
    prior = [losses.prior(pool.G.w_avg + scale * (codes - pool.G.w_avg), pool.G.w_avg, pool.whitening, 8)
             for scale in (1, 2)]  # fmt: skip
    assert prior[0].item() == pytest.approx(1, rel=0.05) and prior[1].item() == pytest.approx(4, rel=0.05)
    astray = torch.randn(2000, 1, 512, generator=torch.Generator().manual_seed(8))
    astray *= (codes - pool.G.w_avg).std()
    assert losses.prior(pool.G.w_avg + astray, pool.G.w_avg, pool.whitening, 8) > 3  # as long, but not in W


def test_renders_are_disturbed_as_often_as_the_setting_says(pool):
    images = pool.batch(torch.Generator().manual_seed(0), 40)
    unknown = images.codes.isnan().all(dim=(1, 2))
    assert 0.5 < unknown.float().mean() < 0.9 and not images.codes[~unknown].isnan().any()
    sharp = ~unknown & (images.px == 64)
    with torch.no_grad():
        error = (pool.G.synthesize(images.codes[sharp]).clamp(-1, 1) - images.x[sharp]).square().mean((1, 2, 3))
    assert error.max() < 0.06 and images.x.abs().max() <= 1.2
    disturbed = disturb(images.x, images.x.roll(1, 0), torch.Generator().manual_seed(1))
    assert disturbed.shape == images.x.shape and disturbed.abs().max() <= 1
    assert ((disturbed - images.x).square().mean((1, 2, 3)) > 0.005).all()


# photographs beside renders


@pytest.fixture
def photographs(tmp_path, heldout):
    """Five faces of 48 to 300 px, and one that is not square."""
    folder = tmp_path / "photographs"
    folder.mkdir()
    for i, size in enumerate((48, 66, 80, 300, 300, 300)):
        to_image(to_float(heldout.images[i : i + 1])).resize((size, size)).save(folder / f"{i}.png")
    to_image(to_float(heldout.images[:1])).resize((89, 109)).save(folder / "tall.png")
    return folder


def test_photographs_are_mixed_with_renders_and_keep_their_resolution(photographs, capsys, tmp_path):
    report = tmp_path / "images.csv"
    source = Faces(faces(tiny()).G, tiny(validation=2), faces(tiny()).renders, None, photographs, report=report)
    assert "5 of 7 images can be used" in capsys.readouterr().out and "not square" in report.read_text()
    assert len(source.crops) == 3 and source.heldout.x.shape == (2, 3, 64, 64)
    images = source.batch(torch.Generator().manual_seed(0), 64)
    known = ~images.codes.isnan().any(dim=(1, 2))
    assert 0.05 < known.float().mean() < 0.3  # 7/16 renders, of which three in ten are as they are
    again = source.batch(torch.Generator().manual_seed(0), 64, slice(16, 32))
    assert torch.equal(again.x, images.x[16:32]) and torch.equal(again.px, images.px[16:32])
    alone = faces(tiny()).batch(torch.Generator().manual_seed(0), 64)
    assert not torch.equal(alone.codes.isnan(), images.codes.isnan())
    with pytest.raises(ValueError, match="other photographs"):
        source.load_state_dict({"photographs": "others"})


def test_a_small_photograph_is_compared_at_its_own_resolution(photographs):
    """Beside it stands what the generator makes, no sharper than it is."""
    source = Faces(faces(tiny()).G, tiny(size=256, validation=2), faces(tiny()).renders, None, photographs)
    image, px = source.crops[0]
    assert px == 66 and image.shape == (3, 256, 256)
    assert (detail.at(image[None], torch.tensor([66]))[0] - image).abs().mean() < 0.02
    sharp = to_float(faces(tiny()).renders.images[:2])
    blurred = detail.at(sharp, torch.tensor([66, 256]))
    assert torch.equal(blurred[1], sharp[1]) and blurred[0].diff().abs().mean() < 0.8 * sharp[0].diff().abs().mean()
    small = torch.nn.functional.adaptive_avg_pool2d(sharp[:1], 66)
    assert torch.allclose(blurred[:1], detail.enlarged(small, 256), atol=1e-5)
    assert detail.at(sharp, torch.tensor([256, 300])) is sharp


def test_training_with_photographs_goes_on_where_it_was(photographs, tmp_path):
    override = TINY | {"warmup_passes": 0, "loop_passes": 0}
    job = training.embedded_job("restyle-psp", override, torch.device("cpu"), photographs)
    weights = training.carry_out(job, tmp_path / "run")
    assert json.loads(weights.with_suffix(".json").read_text())["validation"]["photographs learned from"] == 3
    assert rl.load_inverter(weights).input_size == (64, 64)
    (photographs / "3.png").unlink()
    job = training.embedded_job("restyle-psp", override, torch.device("cpu"), photographs)
    with pytest.raises(ValueError, match="other photographs"):
        training.carry_out(job, tmp_path / "run")


@torch.no_grad()
def test_encoders_hear_who_is_shown(pool):
    """Through the shared face-recognition network, which is in no encoder's file."""
    encoder = says_something(SimplifiedEncoder(6))
    x, y = to_float(pool.renders.images[:4]).chunk(2)
    before = encoder(torch.cat([x, y], dim=1))
    encoder.heads.person.weight[:, :EMBEDDING] += 0.1  # of the image
    heard = 0.1 * recognise_in_place(x)[0].sum(1)
    assert heard.abs().min() > 0.05
    assert not torch.allclose(encoder(torch.cat([x, y], dim=1)), before, atol=1e-3)
    assert not any("network" in name for name in encoder.state_dict())


def test_restyle_has_no_larger_budget_than_psp():
    """The same start, and from there as many encoder passes, of which ReStyle spends N or 2N on an image."""
    named = [SETTINGS[name] for name in ("psp", "e4e", "idinvert", "restyle-psp", "restyle-e4e", "restyle-psp-fpn")]
    assert {settings.init for settings in named} == {"faces/restyle-psp"}
    assert {settings.warmup_passes + settings.replay_passes + settings.loop_passes for settings in named} == {2000}


def test_learning_rate_rises_and_falls_in_each_phase():
    phases_of = {"warmup_passes": 10_000, "replay_passes": 9_000, "loop_passes": 3_000}
    schedule = Schedule(change(SETTINGS["restyle-psp-fpn"], phases_of))
    rates = [schedule.lr(i) for i in range(schedule.total)]
    assert max(rates[: schedule.warmup]) == pytest.approx(schedule.settings.warmup_lr, rel=0.02)
    assert max(rates[schedule.warmup :]) == pytest.approx(schedule.settings.loop_lr, rel=0.15)
    assert rates[schedule.replayed] < rates[schedule.replayed - 1]
    for last in (schedule.warmup - 1, schedule.total - 1):
        assert rates[last] < 0.01 * max(rates)


def test_unknown_names_and_settings_are_refused():
    with pytest.raises(ValueError, match="restyle-psp"):
        run("restyle-nothing")
    with pytest.raises(ValueError, match="loop_passes"):
        change(SETTINGS["psp"], {"loop-pases": 1})
    for said, meant in (("False", False), ("true", True), (0.0, False), (1, True), (False, False)):
        assert change(SETTINGS["psp"], {"progressive": said}).progressive is meant
    with pytest.raises(ValueError, match="progressive is True or False, not 'maybe'"):
        change(SETTINGS["psp"], {"progressive": "maybe"})
    with pytest.raises(ValueError, match="batch is a number"):
        change(SETTINGS["psp"], {"batch": "many"})
    with pytest.raises(ValueError, match="are for --domain"):
        run("restyle-psp", generator=WEIGHTS / "none.pt")
    assert change(SETTINGS["psp"], {"loop-passes": 7.0}).loop_passes == 7


def test_recipes_were_made_with_the_settings_in_the_code():
    for inverter in shipped_inverters():
        recipe = json.loads((WEIGHTS / f"{inverter.replace('/', '-')}.json").read_text())
        if "rounds" in recipe:  # of a GPU, before it trained as everything does
            continue
        expected = dataclasses.asdict(SETTINGS[inverter.removeprefix("faces/").replace("/", "-")])
        assert recipe["settings"] | recipe.get("changed since", {}) == expected


def test_the_file_of_the_small_generator_holds_what_was_learned():
    assert set(unpack(load_file(WEIGHTS / "faces-64.safetensors"))) == set(trainable(rl.load_generator("faces-64")))


@pytest.mark.parametrize("noted", [{"validation": {"L2": [0.0]}}, {}], ids=["validated", "ended before"])
def test_a_recipe_states_the_validation_of_the_weights_in_the_file(pool, tmp_path, monkeypatch, noted):
    """They have 8 bits each, those that training ended with have 32; a run may have ended before it looked."""
    encoder = says_something(encoders.build(6, 16)).requires_grad_(False)
    for weight in encoder.parameters():
        weight += 0.02 * weight.std() * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0))

    def trained(settings, folder, *_):
        (folder / "log.jsonl").write_text(json.dumps({"iteration": 1} | noted) + "\n")
        return encoder

    monkeypatch.setattr(training, "train", trained)
    images = Images(torch.rand(2, 3, 64, 64) * 2 - 1, pool.unknown(2), torch.tensor([64, 64]))
    weights = training.carry_out(training.Job("restyle-psp", tiny(), pool, images, {}), tmp_path / "run")
    recipe = json.loads(weights.with_suffix(".json").read_text())["validation"]
    expected, _ = validate(rl.load_inverter(weights).encoder, pool, images, tiny().decay, faces=True)
    assert all(recipe[name] == pytest.approx(values, abs=2e-5) for name, values in expected.items())
