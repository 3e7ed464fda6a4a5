"""What the training benchmark compares: the same images, the same batches, each formulation's own speed and memory."""

import importlib.util

import pandas as pd
import per_sample
import photograph
import pytest
import torch

import restyle_lib as rl
from restyle_lib.encoders.full_size import untrained
from restyle_lib.paths import REPOSITORY


@torch.no_grad()
def test_kernels_per_image_give_the_embedded_generators_images():
    G = rl.load_generator("faces-64")
    codes = G.map(torch.randn(2, 512, generator=torch.Generator().manual_seed(0)))[:, None].repeat(1, 16, 1)
    assert torch.allclose(per_sample.synthesize(G, codes), G.synthesize(codes), atol=1e-4)


@pytest.mark.parametrize("design", ["ir_se50", "resnet34-pyramid"])
@torch.no_grad()
def test_heads_apart_give_the_official_encoders_residuals(design):
    encoder, x = untrained(design, 6, 4).eval(), torch.randn(1, 6, 256, 256)
    assert torch.allclose(per_sample.encode(encoder, x), encoder(x), atol=1e-4)


@pytest.mark.parametrize("formulation", ["plain", "ours", "ours, half a batch at a time"])
def test_training_is_measured(formulation):
    spec = importlib.util.spec_from_file_location("train_benchmark", REPOSITORY / "benchmarks" / "train.py")
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    row = benchmark.row("embedded, 64", 2, formulation, batches=2)
    assert row["images x steps / s"] > 0 and row["peak memory GiB"] > 0.3 and row["batch"] == 2


def test_what_photographs_show_is_tabled_with_intervals():
    """Of each stage, and of each edit at each stage that was edited, in the order in which they came."""
    effects = [f"{edit}: {effect}" for edit in photograph.EDITS for effect in photograph.EFFECTS]
    columns = [*photograph.SHOWN, *effects]
    rows = [{"": stage} | {name: i + j for i, name in enumerate(columns)} for j in range(3) for stage in ("b", "a")]
    rows += [{"": "c"} | dict.fromkeys(photograph.SHOWN, 1.0)]
    inverted, edits = photograph.tables(pd.DataFrame(rows))
    assert list(inverted.method) == ["b", "a", "c"] and inverted["s / image"][0].startswith("5.000 [")
    assert list(edits.edit) == ["smile +2", "smile +2", "age +2", "age +2", "pose +2", "pose +2"]
    assert edits.wanted[0].startswith("6.000 [") and edits.JUDGE[5].startswith("14.000 [")


def test_a_stronger_edit_after_tuning_stands_beside_the_edit_before():
    rows = [{"": "+ search", "smile +2: wanted": 2.0 + i} | {"smile +2.2: wanted": float("nan")} for i in range(3)] + [
        {"": "+ tuning", "smile +2: wanted": 1.5 + i} | {"smile +2.2: wanted": 2.25 + i} for i in range(3)
    ]
    table = photograph.paired(pd.DataFrame(rows)).set_index("measure")["tuning - search"]
    assert table["smile +2: wanted"].startswith("-0.500 [")
    assert table["smile +2 before, +2.2 after: wanted"].startswith("0.250 [")
    assert list(photograph.STRONGER) == ["smile +2.2", "age +2.2", "pose +2.2"]
