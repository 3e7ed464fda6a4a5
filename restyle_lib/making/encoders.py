"""Trains all encoders of the embedded faces on one GPU, in a given number of minutes and without a network.

    python -m restyle_lib.making.encoders prepare INPUTS --photographs celeba.zip   # here: what the GPU's machine needs
    python -m restyle_lib.making.encoders train INPUTS OUT --minutes 13             # there

It is `restyle train` with larger batches and with passes that are counted by the clock: all encoders have equally many.
"""

import dataclasses
import io
import shutil
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
import tyro
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm

from restyle_lib.commands.dry_run import probe
from restyle_lib.generators import embedded, render_sets
from restyle_lib.generators.averaged import averaged
from restyle_lib.generators.mobile import MobileGenerator
from restyle_lib.images import to_uint8
from restyle_lib.inversion.inverter import load_inverter
from restyle_lib.paths import WEIGHTS
from restyle_lib.precision import autocast, best_device
from restyle_lib.train import Job, carry_out, change
from restyle_lib.training.settings import SETTINGS, Settings
from restyle_lib.training.sources.faces import Faces

NAMES = ("restyle-psp", "psp", "restyle-e4e", "e4e", "restyle-psp-fpn", "idinvert")
HELDOUT = 200  # photographs for validation, the last ones
ON_ITS_WAY = 24  # batches of images on their way through the loop
SAFETY = 0.93  # of the time that is left, what training is planned to take


def prepare(inputs: tyro.conf.Positional[Path], photographs: Path, train: int = 9500, quality: int = 88) -> None:
    """Writes what `train` reads: the generator's constants in fp16, and photographs of 80 x 80 px.

    photographs: a zip of CelebA's aligned images at half size (89 x 109), whose FFHQ square is cut out; of these the
                 first `train` are learned from and the next 200 kept for validation
    """
    inputs.mkdir(parents=True, exist_ok=True)
    state = {name: value.half().contiguous() for name, value in embedded(1024).state_dict().items()}
    save_file(state, inputs / "generator.safetensors")
    with zipfile.ZipFile(photographs) as source, zipfile.ZipFile(inputs / "photographs.zip", "w") as target:
        names = sorted(name for name in source.namelist() if name.lower().endswith((".jpg", ".png")))
        for name in names[:train] + names[9500 : 9500 + HELDOUT]:
            square = Image.open(io.BytesIO(source.read(name))).convert("RGB").crop((4, 17, 84, 97))
            encoded = io.BytesIO()
            square.save(encoded, "WEBP", quality=quality, method=6)
            target.writestr(f"{Path(name).stem}.webp", encoded.getvalue())
    print({path.name: f"{path.stat().st_size / 1e6:.1f} MB" for path in inputs.iterdir()})


def train(
    inputs: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    minutes: float = 13.0,
    names: tuple[str, ...] = NAMES,
    passes: int = 0,
    start: Path = WEIGHTS / "faces-restyle-psp.safetensors",
    renders: int = 10_000,
    batch: int = 16,
    size: int = 256,
    compiled: bool = True,
    seed: int = 0,
) -> None:
    """Trains the named encoders with equal passes; writes out/NAME.safetensors, packed, and a recipe beside each.

    minutes:  of all, compilation and renders included; an encoder whose time ends early is kept as it is
    passes:   of each; 0: as many as fit
    start:    the encoder that all begin as
    renders:  images with known codes, beside the photographs
    batch:    images of a batch
    size:     px that the encoders see; less than 256 to try this script
    compiled: try torch.compile for the generator
    """
    end, device = time.perf_counter() + 60 * minutes, best_device()
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    out.mkdir(parents=True, exist_ok=True)
    G = MobileGenerator(1024)
    G.load_state_dict({name: value.float() for name, value in load_file(inputs / "generator.safetensors").items()})
    view = fastest_view(G.eval().requires_grad_(False).to(device), batch, size, compiled)
    drawn = render(view, render_sets.training_codes(view, renders, seed + 1), batch)
    begun = load_inverter(start).encoder
    with TemporaryDirectory() as states:
        for i, name in enumerate(names):
            settings = planned(name, batch, size, renders, seed)
            source = Faces(view, settings, drawn, photographs=inputs / "photographs.zip", start=begun)
            if not passes:  # the first one's speed says how many passes all can have
                phase = "replayed states" if settings.replay_passes else "loop"
                each = probe(settings, source, phase, batches=20).seconds_per_pass
                passes = int(SAFETY * (end - time.perf_counter()) / len(names) / each)
                print(f"{each * 1e3:.2f} ms a pass, {passes} passes for each", flush=True)
            kind = "replay_passes" if settings.replay_passes else "loop_passes"
            settings = change(settings, {kind: passes // batch * batch})
            assert source.crops and source.heldout, "photographs were given"
            job = Job(name, settings, source, source.heldout, {"photographs learned from": len(source.crops)})
            weights = carry_out(job, Path(states) / name, watch=until(end - 10 * (len(names) - i)))
            for path in (weights, weights.with_suffix(".json")):
                shutil.copy(path, out)
            print(f"{name}: {end - time.perf_counter():.0f} s left", flush=True)


def planned(name: str, batch: int, size: int, renders: int, seed: int) -> Settings:
    """The settings of a named encoder, with batches for a GPU. Images have their turn after `ON_ITS_WAY` batches."""
    return dataclasses.replace(
        SETTINGS[name],
        size=size,
        batch=batch,
        replay_batch=batch,
        replay_states=ON_ITS_WAY * batch,
        renders=renders,
        validation=HELDOUT,
        validate_every=10**9,
        checkpoint_every=10**9,
        seed=seed,
    )


def until(end: float) -> Callable[[dict], bool]:
    """What `loop.train` asks at each record: whether the time, of time.perf_counter, is over."""
    return lambda record: time.perf_counter() > end


class View:
    """A generator as encoders see it, by a function that wants batches of one size: one compilation."""

    def __init__(self, G: MobileGenerator, size: int, batch: int, see: Callable[..., Tensor], *more: bool):
        self.G, self.size, self.batch, self.see, self.more = G, size, batch, see, more
        self.w_avg, self.n_styles, self.slots_read, self.map = G.w_avg, G.n_styles, G.slots_read, G.map

    def synthesize(self, codes: Tensor) -> Tensor:
        """Codes [n, 16, 512] -> images [n, 3, size, size]."""
        if not torch.is_grad_enabled():  # what has a gradient is compiled already
            with torch.enable_grad():
                return self.synthesize(codes.detach().requires_grad_()).detach()
        parts = []
        for part in codes.split(self.batch):
            padded = torch.cat([part, part[-1:].expand(self.batch - len(part), -1, -1)])
            with autocast(codes.device):
                parts.append(self.see(self.G, padded, self.size, *self.more)[: len(part)])
        return torch.cat(parts)


def fastest_view(G: MobileGenerator, batch: int, size: int, compiled: bool) -> View:
    """The faster of two ways to see the generator's images, measured; the plain one where the other fails."""
    device = G.w_avg.device
    plain = View(G, size, 1 if device.type == "cpu" else batch, averaged)
    if device.type == "cpu" or not compiled:
        return plain
    codes = G.map(torch.randn(batch, 512, device=device), 0.7)[:, None].repeat(1, G.n_styles, 1)
    best = plain, float("inf")
    for view in (plain, View(G, size, batch, torch.compile(averaged, dynamic=False), True)):
        try:
            for i in range(8):
                if i == 3:  # the first ones compile
                    torch.cuda.synchronize()
                    began = time.perf_counter()
                view.synthesize(codes.detach().requires_grad_()).square().mean().backward()
            torch.cuda.synchronize()
        except Exception as error:  # whatever a compiler may say: the plain way always works
            print(f"the generator cannot be compiled: {type(error).__name__} {str(error)[:300]}", flush=True)
            continue
        seconds = (time.perf_counter() - began) / 5 / batch
        print(f"generator: {seconds * 1e3:.2f} ms an image forward and backward", flush=True)
        best = min(best, (view, seconds), key=lambda pair: pair[1])
    return best[0]


def render(view: View, codes: Tensor, batch: int) -> render_sets.Renders:
    """What the view shows of codes [n, 16, 512], on the CPU."""
    with torch.no_grad():
        parts = tqdm(codes.split(batch), desc="rendering", unit_scale=batch, unit="image")
        images = [to_uint8(view.synthesize(part)).cpu() for part in parts]
    return render_sets.Renders(torch.cat(images), codes.cpu())


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"prepare": prepare, "train": train})
