"""A dry run says what a run would be and cost, and leaves nothing behind."""

import dataclasses

import pytest
import torch

from restyle_lib import train
from restyle_lib.checkpoints.domains import Domain
from restyle_lib.commands import dry_run
from restyle_lib.training import full_scale
from restyle_lib.training.full_scale import Files
from restyle_lib.training.schedule import Schedule
from restyle_lib.training.settings import SETTINGS
from restyle_lib.training.sources import Images


@pytest.fixture(autouse=True)
def two_batches(monkeypatch):
    """Of each phase, instead of ten."""
    monkeypatch.setattr(dry_run, "ENOUGH", 0.0)


def test_of_the_embedded_faces(tmp_path, capsys):
    override = {"warmup_passes": 640, "replay_passes": 60, "replay_states": 4, "replay_batch": 2, "batch": 2}
    override |= {"loop_passes": 40, "init": "", "size": 64, "generator": "faces-64"}
    assert train.run("restyle-psp", tmp_path, override=override, dry_run=True) is None
    told = capsys.readouterr().out
    settings = train.change(SETTINGS["restyle-psp"], override)
    assert f"The whole run: {Schedule(settings).total:,} batches" in told
    rows = {line.split("  ")[0].strip() for line in told.splitlines()}
    assert "replay_passes" in told and "lambda_lpips" in told and "GMAC per image" in told
    for phase in ("warm start", "replayed states", "loop", "validation"):
        assert any(phase in line for line in told.splitlines()), rows
    assert not list(tmp_path.iterdir())


def test_of_a_domain_without_any_file(tmp_path, capsys):
    """Random weights and pictures stand in; the parameters are those of the official encoder."""
    domain = Domain("own", output_size=16)
    files = dry_run.with_stand_ins(Files(), domain, tmp_path)
    assert "stand in" in capsys.readouterr().out
    given = Files(tmp_path / "G.pt", tmp_path)
    assert dry_run.with_stand_ins(given, domain, tmp_path) == given
    override = {"batch": 1, "steps": 1}
    with pytest.warns(UserWarning, match="no MoCo"):
        job = train.full_size_job("restyle-psp", "own", override, files, 0, torch.device("cpu"))
    table = dry_run.networks(job.settings, job.source, Images(*(part[:1] for part in job.heldout))).set_index("network")
    assert table.loc["encoder", "M parameters"] == pytest.approx(21.3 + 6 * 9.7, rel=0.02)  # ResNet34 and six heads
    step = table["GMAC per image"]
    assert step["encoder"] > 17 and step["a step, forward and backward"] > 3 * step["encoder"]
    found = dry_run.probe(job.settings, job.source, "loop")
    assert found.batches == 2 and found.seconds_per_pass > 0 and found.peak_memory > 0.3


def test_passes_are_counted_as_the_schedule_makes_them():
    settings = full_scale.settings_of("restyle-psp", Domain("own", output_size=16), "G.pt")
    settings = dataclasses.replace(settings, warmup_passes=64, warmup_batch=32, long_every=3, steps=5, batch=2)
    assert [dry_run.passes_of(Schedule(settings), i) for i in range(5)] == [32, 32, 10, 10, 20]
