"""Training in any domain: its geometry, losses and images come from the settings that inference uses too."""

import dataclasses
import json
import warnings

import pytest
import torch
from PIL import Image

import restyle_lib as rl
from restyle_lib import encoders
from restyle_lib.checkpoints import backbones as pretrained
from restyle_lib.checkpoints.domains import DOMAINS
from restyle_lib.checkpoints.generators import CheckpointError
from restyle_lib.commands import dry_run
from restyle_lib.encoders.backbones import IRSE50
from restyle_lib.features import moco
from restyle_lib.features.torchvision_compat import make_torchvision_importable
from restyle_lib.making.stand_ins import generator_state
from restyle_lib.train import full_size_job, run
from restyle_lib.training import full_scale, loop
from restyle_lib.training.full_scale import Files
from restyle_lib.training.schedule import Schedule
from restyle_lib.training.sources.photographs import Photographs


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Eight noisy pictures of several sizes and modes in two folders, and a file that is none."""
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "more").mkdir()
    for i in range(8):
        size = (260 + 40 * i, 400 - 20 * i)
        image = Image.effect_noise(size, 40 + 10 * i).convert("RGB" if i % 2 else "L")
        image.save(folder / ("more" if i % 3 else ".") / f"{i}.png")
    (folder / "aa.jpg").write_text("not a picture")
    return folder


def generator(path, size: int):
    state = generator_state(size, mapping=1, rng=torch.Generator().manual_seed(0))
    torch.save({"g_ema": state, "latent_avg": torch.zeros(512)}, path)
    return path


def test_a_domain_is_trained_as_it_is_inverted(photographs, tmp_path):
    """Two batches with a generator of 16 px, to a file that inverts photographs, and the recipe beside it."""
    override = {"loop_passes": 8, "batch": 2, "steps": 2, "validation": 1}
    path = generator(tmp_path / "own.pt", 16)
    with pytest.warns(UserWarning, match="no MoCo file"):
        weights = run("restyle-psp", tmp_path, override=override, domain="own", generator=path, images=photographs)
    inverter = rl.load_inverter(weights)
    assert inverter.domain.name == "own" and inverter.input_size == (256, 256)
    assert inverter.invert(torch.zeros(1, 3, 256, 256), 2).latents.shape == (1, 3, 6, 512)
    recipe = json.loads(weights.with_suffix(".json").read_text())
    assert recipe["settings"]["design"] == "resnet34" and recipe["settings"]["lambda_moco"] == 0
    assert len(recipe["validation"]["L2"]) == 10 and recipe["validation"]["n"] == 1
    log = [json.loads(line) for line in (weights.parent / "log.jsonl").read_text().splitlines()]
    assert {"l2_1", "lpips_2", "total_2"} <= set(log[0]) | set(log[-1]) and "id_1" not in log[0]


def test_folding_does_not_change_what_was_trained(photographs, tmp_path):
    encoder = encoders.build(6, 6, "resnet34-pyramid", progressive=True)
    with torch.no_grad():
        for _ in range(2):
            encoder.train()(torch.randn(2, 6, 64, 64))
        x = torch.randn(1, 6, 64, 64)
        before = encoder.eval()(x)
        encoders.full_size.fold_batch_norms(encoder)
        assert before.abs().max() > 0 and torch.allclose(encoder(x), before, atol=1e-4)
        encoder.stage = 0
        assert (encoder(x) == encoder(x)[:, :1]).all()


def test_cars_keep_their_crop_and_proportions(photographs, tmp_path, capsys):
    G = rl.load_generator(generator(tmp_path / "cars.pt", 512))
    pool = Photographs(G, DOMAINS["cars"], photographs, validation=3)
    assert pool.average_image.shape == (3, 192, 256) and pool.validation.x.shape == (3, 3, 192, 256)
    draws = [pool.batch(torch.Generator().manual_seed(5), 12) for _ in range(2)]
    assert torch.equal(draws[0][0], draws[1][0]) and draws[0][0].shape == (12, 3, 192, 256)
    assert draws[0][1].isnan().all() and draws[0][1].shape == (12, 16, 512)
    # the generator's file knows no crop, but its images are looked at without the rows that it pads
    with torch.no_grad():
        whole = G.synthesize(G.w_avg[None])
    assert G.resolution == (512, 512) and pool.whole.resolution == (384, 512)
    seen = torch.nn.functional.adaptive_avg_pool2d(whole[:, :, 64:448], (192, 256))[0]
    assert torch.allclose(pool.average_image, seen, atol=1e-5)


@pytest.mark.parametrize("size", [16, 256])
def test_faces_are_trained_at_any_size(size, tmp_path):
    """As with the official option output_size: identity loss and IR-SE50 stay, and the encoder fits the generator."""
    for i in range(3):
        Image.effect_noise((300, 300), 50).convert("RGB").save(tmp_path / f"{i}.png")
    files = Files(generator(tmp_path / "faces.pt", size), tmp_path)
    with pytest.warns(UserWarning, match=f"at 1024 px as a rule, by this generator at {size}"):
        job = full_size_job("restyle-psp", "faces", {"batch": 1, "steps": 1}, files, 0, torch.device("cpu"))
    assert job.settings.lambda_id == 0.1 and job.settings.design == "ir_se50"
    if size == 16:
        records = []
        one = lambda record: records.append(record) is None  # noqa: E731 (True: the run ends)
        loop.train(job.settings, tmp_path / "r", job.source, watch=one, log_every=1)
        assert records[0]["id_1"] > 0


@pytest.mark.parametrize("name", [*DOMAINS, "own"])
def test_losses_and_backbone_are_the_domains(name):
    domain = full_scale.domain_named(name)
    settings = full_scale.settings_of("restyle-e4e", domain, "G.pt")
    assert bool(settings.lambda_id) == domain.faces and bool(settings.lambda_moco) != domain.faces
    assert settings.design == ("ir_se50" if domain.faces else "resnet34") and settings.progressive
    assert full_scale.settings_of("psp", domain, "G.pt").design.endswith("-pyramid")


def test_the_papers_schedule(tmp_path):
    """e4e's slots follow from batch 20,000 on, one every 2,000; the learning rate stays; cartoons are soon done."""
    settings = full_scale.settings_of("restyle-e4e", DOMAINS["faces"], "G.pt")
    schedule = Schedule(settings)
    assert schedule.total == 100_000 and settings.steps == 5 and settings.optimizer == "ranger"
    stages = {0: 0, 19_999: 0, 20_000: 1, 21_999: 1, 22_000: 2, 51_999: 16, 52_000: 17, 99_999: 17}
    assert {i: schedule.stage(i, 18) for i in stages} == stages
    assert schedule.lr(1000) == schedule.lr(99_999) == 1e-4
    toon = full_scale.settings_of("restyle-psp", DOMAINS["toonify"], "G.pt")
    assert Schedule(toon).total == 6_000 and toon.lambda_w_norm == 0.025 and toon.lambda_id == 1


def test_resnet34_begins_as_torchvisions(tmp_path):
    make_torchvision_importable()
    from torchvision.models import resnet34

    theirs = resnet34(weights=None).eval()
    with torch.no_grad():
        for norm in [part for part in theirs.modules() if isinstance(part, torch.nn.BatchNorm2d)]:
            norm.running_mean.normal_(0, 0.1)
            norm.running_var.uniform_(0.5, 1.5)
    torch.save(theirs.state_dict(), tmp_path / "resnet34-b627a593.pth")
    backbone = pretrained.load_backbone(tmp_path / "resnet34-b627a593.pth", "resnet34")
    encoder = encoders.build(6, 8, "resnet34").eval()
    encoder.begin_as(backbone)
    weight = encoder.backbone.conv1.weight
    assert torch.equal(weight[:, :3], theirs.conv1.weight) and weight[:, 3:].std().item() == pytest.approx(1, abs=0.05)
    with torch.no_grad():
        weight[:, 3:] = 0
        encoder.backbone.relu.weight.zero_()
        x = torch.randn(1, 6, 64, 64)
        y = theirs.relu(theirs.bn1(theirs.conv1(x[:, :3])))  # the official encoders have no pooling here
        for layer in (theirs.layer1, theirs.layer2, theirs.layer3, theirs.layer4):
            y = layer(y)
        assert torch.allclose(encoder.backbone.maps(x)[-1], y, atol=1e-4)


def test_ir_se50_begins_as_arcface_and_other_files_are_refused(tmp_path):
    theirs = IRSE50(3)
    public = theirs.state_dict() | {"output_layer.3.weight": torch.zeros(512, 25088)}
    torch.save(public, tmp_path / "model_ir_se50.pth")
    backbone = pretrained.load_backbone(tmp_path / "model_ir_se50.pth", "ir_se50")
    encoder = encoders.build(3, 18, "ir_se50-pyramid", progressive=True)
    encoder.begin_as(backbone)
    assert all(torch.equal(x, theirs.state_dict()[name]) for name, x in encoder.backbone.state_dict().items())
    with pytest.raises(CheckpointError, match=r"not the public resnet34.*resnet34-\*\.pth is meant"):
        pretrained.load_backbone(tmp_path / "model_ir_se50.pth", "resnet34")
    torch.save({name: x for name, x in public.items() if "body.7" not in name}, tmp_path / "cut.pth")
    with pytest.raises(CheckpointError, match="body.7"):
        pretrained.load_backbone(tmp_path / "cut.pth", "ir_se50")
    (tmp_path / "page.pth").write_text("<!DOCTYPE html>")
    with pytest.raises(CheckpointError, match="web page"):
        pretrained.load_backbone(tmp_path / "page.pth", "ir_se50")


@pytest.mark.parametrize("name", [*DOMAINS, "own"])
def test_every_domain_trains_at_its_true_size(name, tmp_path):
    """One batch, with an eighth of the generator's channels; benchmarks/every_domain.py makes twenty with all."""
    files = dry_run.with_stand_ins(Files(), full_scale.domain_named(name), tmp_path, width=0.25)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="no MoCo file")
        job = full_size_job("restyle-psp", name, {"batch": 1, "steps": 1}, files, 0, torch.device("cpu"))
    records = []
    one = lambda record: records.append(record) is None  # noqa: E731 (True: the run ends)
    loop.train(job.settings, tmp_path / "run", job.source, watch=one, log_every=1)
    assert len(records) == 1
    assert records[0]["l2_1"] > 0 and ("id_1" in records[0]) == job.source.domain.faces


def test_every_term_of_the_loss_can_be_had_on_photographs(tmp_path):
    """A setting asks a source for nothing that photographs have not; a warm start, which needs codes, says so."""
    files = dry_run.with_stand_ins(Files(), full_scale.domain_named("horse"), tmp_path, width=0.125)
    every = {"lambda_prior": 0.1, "lambda_latent": 0.1, "lambda_delta": 0.1, "lambda_w_norm": 0.1}
    every |= {"lambda_latent_adversarial": 0.1, "lambda_image_adversarial": 0.1}
    override = {"batch": 2, "steps": 1} | every
    with pytest.warns(UserWarning, match="no MoCo file"):
        job = full_size_job("restyle-psp", "horse", override, files, 0, torch.device("cpu"))
    records = []
    one = lambda record: records.append(record) is None  # noqa: E731 (True: the run ends)
    loop.train(job.settings, tmp_path / "run", job.source, watch=one, log_every=1)
    assert {"prior_1", "delta_1", "w_norm_1", "adversarial_1", "realism_1", "d_codes", "d_images"} <= records[0].keys()
    warm = dataclasses.replace(job.settings, warmup_passes=64)
    with pytest.raises(ValueError, match="warmup_passes"):
        loop.train(warm, tmp_path / "warm", job.source)


def test_wrong_names_are_refused(tmp_path):
    with pytest.raises(ValueError, match="church"):
        full_scale.domain_named("boats")
    with pytest.raises(ValueError, match="restyle-e4e"):
        full_scale.settings_of("idinvert", DOMAINS["cars"], "G.pt")
    with pytest.raises(ValueError, match="needs --generator and --images"):
        run("restyle-psp", tmp_path, domain="cars")


def test_moco_compares_by_unit_features_of_its_public_file(tmp_path):
    make_torchvision_importable()
    from torchvision.models import resnet50

    torch.manual_seed(0)
    state = {f"module.encoder_q.{name}": x for name, x in resnet50(weights=None, num_classes=128).state_dict().items()}
    torch.save({"epoch": 800, "state_dict": state}, tmp_path / "moco.pth.tar")
    network, weight = moco.moco_where_given(tmp_path / "moco.pth.tar", 0.5)
    x = torch.rand(1, 3, 192, 256) * 2 - 1
    features = network(torch.cat([x, x, -x]))
    assert weight == 0.5 and features.shape == (3, 2048)
    similarity = features @ features[0]
    assert similarity[:2] == pytest.approx(1, abs=1e-5) and similarity[2] < 0.9999
    torch.save({"state_dict": {"a": torch.zeros(1)}}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="MoCo-v2"):
        moco.load_moco(tmp_path / "other.pt")
