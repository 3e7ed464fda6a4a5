"""Tuning brings an image nearer and leaves the rest of the generator nearly as it was; its file is small and safe."""

import copy

import pytest
import torch
from safetensors.torch import load_file, save_file

import restyle_lib as rl
from restyle_lib.checkpoints.generators import CheckpointError
from restyle_lib.evaluation import sets
from restyle_lib.generators import tuned
from restyle_lib.generators.averaged import averaged
from restyle_lib.images import downsample
from restyle_lib.inversion import tune as tuning
from restyle_lib.inversion.tune import save_tuned, saved_codes


@pytest.fixture(scope="module")
def G():
    return rl.load_generator("faces-1024")


@pytest.fixture(scope="module")
def photo():
    return sets.aligned_photographs(512)[1][:1]


@pytest.fixture(scope="module")
def codes(photo):
    return rl.load_inverter("faces/restyle-psp").invert(photo, steps=2).latents[:, -1]


@pytest.fixture(scope="module")
def T(G, codes, photo):
    return rl.tune(G, codes, photo, steps=6)


@pytest.fixture(scope="module")
def file(T, codes, tmp_path_factory):
    path = tmp_path_factory.mktemp("tuned") / "me.safetensors"
    save_tuned(path, T, codes)
    return path


def error(G, codes, x):
    with torch.no_grad():
        return (averaged(G, codes, 512) - x).square().mean().item()


def test_the_image_comes_nearer_and_the_original_stays(G, T, codes, photo):
    assert error(T, codes, photo) < 0.9 * error(G, codes, photo)
    untouched = rl.load_generator("faces-1024").state_dict()
    assert all(torch.equal(value, untouched[name]) for name, value in G.state_dict().items())
    changed = {name for name, value in T.state_dict().items() if not torch.equal(value, untouched[name])}
    assert changed == set(tuned.learning(G))
    assert type(T) is type(G) and not any(p.requires_grad or p.grad is not None for p in T.parameters())


@pytest.mark.parametrize(("size", "compared"), [(64, 256), (300, 512)])
def test_nothing_is_asked_that_a_small_photograph_does_not_show(G, codes, photo, size, compared):
    """Tuned to its own image at fewer pixels than it is compared at, a generator has nothing to learn."""
    with torch.no_grad():
        own = downsample(averaged(G, codes, compared), size)
    T = rl.tune(G, codes, own, steps=2, lambda_locality=0)
    assert error(T, codes, averaged(G, codes, 512)) < 0.01 * error(G, codes, photo)


def test_a_saved_one_renders_the_same(G, T, file, codes):
    assert file.stat().st_size < 3e6
    again = rl.load_generator(file)
    with torch.no_grad():
        y, before = T.synthesize(codes), G.synthesize(codes)
        assert (again.synthesize(codes) - y).abs().max() < 1e-2 < (before - y).abs().max()
    assert torch.equal(saved_codes(file), codes) and not again.w_avg.requires_grad


def test_what_is_tuned_can_be_tuned_again(T, codes, photo):
    assert error(rl.tune(T, codes, photo, steps=4), codes, photo) < error(T, codes, photo)


def test_locality_holds_the_images_of_other_codes(G, codes, photo):
    rng = torch.Generator().manual_seed(9)
    others = torch.cat([tuning.near_code(G, codes[0], rng) for _ in range(2)])
    assert torch.allclose((others - codes).norm(dim=2), torch.tensor(tuning.REACH))
    moved = []
    for weight in (0.0, 5.0):
        T = rl.tune(G, codes, photo, steps=9, lambda_locality=weight)
        with torch.no_grad():
            moved.append((averaged(T, others) - averaged(G, others)).square().mean().item())
    assert moved[1] < 0.8 * moved[0]


def test_ctrl_c_leaves_the_best(G, codes, photo):
    def stop(t, codes, y):
        assert y.shape == (1, 3, 256, 256)
        if t == 3:
            raise KeyboardInterrupt

    T = rl.tune(G, codes, photo, steps=60, callback=stop, lambda_locality=0)
    assert error(T, codes, photo) < error(G, codes, photo)
    assert not any(p.requires_grad for p in T.parameters())
    with pytest.raises(KeyboardInterrupt):  # what is kept for later must be the whole of it
        rl.tune(G, codes, photo, steps=60, callback=stop, lambda_locality=0, interruptible=False)


@pytest.mark.parametrize(
    "wrong",
    [
        {"steps": 0},
        {"strength": 0.0},
        {"images": torch.zeros(2, 3, 64, 64)},
        {"images": torch.zeros(1, 3, 64, 32)},
        {"codes": torch.zeros(1, 3, 512)},
    ],
)
def test_wrong_arguments_say_so(G, codes, photo, wrong):
    with pytest.raises(ValueError):
        rl.tune(G, **({"codes": codes, "images": photo} | wrong))


def test_other_generators_say_so(codes, photo, T):
    small = rl.load_generator("faces-64")
    with pytest.raises(ValueError, match="whole embedded"):
        rl.tune(small, codes, photo)
    with pytest.raises(ValueError):
        save_tuned("never.safetensors", small)
    other = copy.deepcopy(T)
    other.stem.weight.data += 1
    with pytest.raises(ValueError, match="more than tuning"):
        save_tuned("never.safetensors", other)


def damages():
    name = "blocks.3.conv1.pointwise"
    yield "base", {"base": "cats-1024"}, lambda tensors: tensors
    yield "no base", {}, lambda tensors: tensors
    yield "missing", {"base": "faces-1024"}, lambda tensors: {k: v for k, v in tensors.items() if k != name}
    yield "unknown", {"base": "faces-1024"}, lambda tensors: tensors | {"w_avg": torch.zeros(512)}
    yield "shape", {"base": "faces-1024"}, lambda tensors: tensors | {name: tensors[name][:7].contiguous()}
    yield "nan", {"base": "faces-1024"}, lambda tensors: tensors | {"stem.bias": torch.full((512,), torch.nan)}


@pytest.mark.parametrize(("kind", "metadata", "damage"), list(damages()))
def test_damaged_files_are_refused(file, tmp_path, kind, metadata, damage):
    path = tmp_path / f"{kind}.safetensors"
    save_file(damage(load_file(file)), path, {"format": tuned.FORMAT} | metadata)
    with pytest.raises(CheckpointError, match=str(path)):
        rl.load_generator(path)


def test_a_truncated_file_and_a_foreign_one_are_refused(file, tmp_path):
    path = tmp_path / "cut.safetensors"
    path.write_bytes(file.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="damaged"):
        rl.load_generator(path)
    save_file({"a": torch.zeros(1)}, path)
    for read in (rl.load_generator, saved_codes):
        with pytest.raises(CheckpointError):
            read(path)
