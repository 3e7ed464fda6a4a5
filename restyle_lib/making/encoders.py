"""Trains all encoders of the embedded faces on one GPU, in a given number of minutes and without a network.

    python -m restyle_lib.making.encoders prepare INPUTS --photographs celeba.zip   # here: what the GPU's machine needs
    python -m restyle_lib.making.encoders train INPUTS OUT --minutes 9              # there

All begin as one encoder that has learned residuals between pairs of renders with known codes, for which no generator is
needed. Then each goes through the loop itself with the whole generator in it, seen at 256 px; every refinement step of
every image is an example of its own (see `Loop`). What the loop learns from is in part photographs, whose codes nobody
knows. All have the same number of encoder passes; `extend` gives one of them more.
"""

import copy
import io
import json
import math
import time
import zipfile
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from restyle_lib import encoders, losses
from restyle_lib.evaluation.evaluate import now
from restyle_lib.faces.identity import shared
from restyle_lib.features.perceptual import st_lpips
from restyle_lib.generators import render_sets
from restyle_lib.generators.averaged import averaged
from restyle_lib.generators.mobile import MobileGenerator
from restyle_lib.images import to_float, to_uint8
from restyle_lib.inversion.inverter import load_inverter, save_inverter
from restyle_lib.paths import save_atomically
from restyle_lib.precision import autocast, best_device
from restyle_lib.training.adversary import R1_EVERY, R1_WEIGHT, latent_discriminator
from restyle_lib.training.sources.renders import disturb, scatter

SIZE = 256  # px that encoders and losses see
RESOLUTIONS = (256, 160, 112, 80)  # px at which a training image may be known; the last is that of the photographs
HELDOUT = 200  # photographs for validation, the last ones
STEPS = 10  # of validation, twice as many as most images make


@dataclass(frozen=True)
class Plan:
    """One encoder's training; every default with its reason."""

    design: str = "simplified-256"
    in_channels: int = 6
    progressive: bool = False
    steps: int = 5
    """N, as in the paper; every second image makes 2 N, or the loop diverges soon after the steps it was trained on."""
    batch: int = 16
    """Twice the paper's. Measured on an H200, 3.5 ms an image at this size, of which the generator takes 1.1."""
    states: int = 24
    """Batches of images on their way: an image's next turn comes after so many, so that neighbours differ."""
    lr: float = 4e-4
    """Falls to zero as a cosine."""
    photographs: float = 9 / 16
    """Their share of a batch; of the rest, most are renders that were made unlike any."""
    lambda_l2: float = 2.0
    lambda_lpips: float = 0.8
    """The paper's balance of 1 to 0.8: of the same images, ST-LPIPS is about twice LPIPS."""
    lambda_id: float = 0.3
    """Three times the paper's: this network is a small one."""
    lambda_latent: float = 0.1
    """Of images whose codes are known."""
    lambda_prior: float = 0.05
    """Of images whose codes are not."""
    lambda_delta: float = 0.0
    lambda_latent_adversarial: float = 0.0
    lambda_image_adversarial: float = 0.0

    @property
    def parts(self) -> tuple[int, int, int]:
        """Images of a batch that are photographs, disturbed renders, and renders as they are; in this order."""
        photographs = round(self.photographs * self.batch)
        plain = (self.batch - photographs) // 4 + 1
        return photographs, self.batch - photographs - plain, plain


ONE_PASS = {"in_channels": 3, "steps": 1, "states": 1}
E4E = {"progressive": True, "lambda_prior": 0.1, "lambda_delta": 2e-4, "lambda_latent_adversarial": 0.1}
PLANS = {
    "restyle-psp": Plan(),
    "psp": Plan(design="pyramid-256", **ONE_PASS),
    "restyle-e4e": Plan(**E4E),
    "e4e": Plan(design="pyramid-256", **ONE_PASS, **E4E),
    "restyle-psp-fpn": Plan(design="pyramid-256"),
    "idinvert": Plan(**ONE_PASS, lambda_id=0.0, lambda_image_adversarial=0.08),
}
PAIRS_BATCH, PAIRS_LR = 64, 8e-4
RECIPES = "recipes.json"


# ---- inputs -----------------------------------------------------------------------------------------------------


def prepare(inputs: tyro.conf.Positional[Path], photographs: Path, train: int = 9500, quality: int = 88) -> None:
    """Writes what `train` reads: the generator's constants in fp16, and photographs of 80 x 80 px.

    photographs: a zip of CelebA's aligned images at half size (89 x 109), whose FFHQ square is cut out; of these the
                 first `train` are learned from and the next 200 kept for validation
    """
    from restyle_lib.generators import load_generator

    inputs.mkdir(parents=True, exist_ok=True)
    state = {name: value.half().contiguous() for name, value in load_generator("faces-1024").state_dict().items()}
    save_file(state, inputs / "generator.safetensors")
    with zipfile.ZipFile(photographs) as source, zipfile.ZipFile(inputs / "photographs.zip", "w") as target:
        names = sorted(name for name in source.namelist() if name.lower().endswith((".jpg", ".png")))
        for name in names[:train] + names[9500 : 9500 + HELDOUT]:
            square = Image.open(io.BytesIO(source.read(name))).convert("RGB").crop((4, 17, 84, 97))
            encoded = io.BytesIO()
            square.save(encoded, "WEBP", quality=quality, method=6)
            target.writestr(f"{Path(name).stem}.webp", encoded.getvalue())
    print({path.name: f"{path.stat().st_size / 1e6:.1f} MB" for path in inputs.iterdir()})


def load_photographs(path: Path, device: torch.device) -> Tensor:
    """All photographs, uint8 [n, 3, 80, 80], in the order of their names."""
    with zipfile.ZipFile(path) as archive:
        images = [Image.open(io.BytesIO(archive.read(name))).convert("RGB") for name in sorted(archive.namelist())]
    pixels = [torch.frombuffer(bytearray(image.tobytes()), dtype=torch.uint8).view(80, 80, 3) for image in images]
    return torch.stack(pixels).permute(0, 3, 1, 2).contiguous().to(device)


# ---- what the encoder sees --------------------------------------------------------------------------------------


class Resolutions:
    """Images of 256 px as they are at lower resolutions: area-averaged, then enlarged again.

    A small photograph keeps its own resolution: enlarged, it stands beside reconstructions that are blurred alike, and
    losses compare the two. Both are linear, so each resolution is one matrix M, and an image becomes M x M'.
    """

    def __init__(self, device: torch.device):
        whole = torch.eye(SIZE)
        self.enlarge = {r: _bicubic(r).to(device) for r in RESOLUTIONS}
        averages = {r: F.adaptive_avg_pool1d(whole, r).T for r in RESOLUTIONS}
        matrices = [whole if r == SIZE else _bicubic(r) @ averages[r] for r in RESOLUTIONS]
        self.matrices = torch.stack(matrices).to(device)

    def of(self, images: Tensor, kind: Tensor) -> Tensor:
        """Images [n, 3, 256, 256] at resolutions of the given indices [n]."""
        m = self.matrices[kind][:, None]
        with torch.autocast(images.device.type, enabled=False):
            return m @ images.float() @ m.transpose(2, 3)

    def enlarged(self, small: Tensor) -> Tensor:
        """Images [n, 3, r, r] at 256 px."""
        m = self.enlarge[small.shape[-1]]
        return m @ small @ m.T


def _bicubic(r: int) -> Tensor:
    """[256, r]: how r pixels in a row become 256."""
    rows = torch.eye(r)[None, :, None, :]  # r images of one row
    return F.interpolate(rows, (1, SIZE), mode="bicubic", align_corners=False)[0, :, 0].T.contiguous()


@dataclass
class World:
    """Everything that all trainings share, on the device."""

    G: MobileGenerator
    render: Callable[[Tensor], Tensor]
    """Codes [B, 16, 512] -> what the loop sees of the whole generator, [B, 3, 256, 256]."""
    photographs: Tensor
    heldout: Tensor
    images: Tensor
    """Renders, uint8 [n, 3, 256, 256]; the second half are near the first, one by one."""
    codes: Tensor
    resolutions: Resolutions
    distance: nn.Module
    whitening: Tensor
    scale: float
    """Standard deviation of codes around w_avg."""
    average: Tensor
    """y_0, [1, 3, 256, 256]."""
    rng: torch.Generator

    @property
    def device(self) -> torch.device:
        return self.G.w_avg.device


def make_world(
    inputs: Path,
    device: torch.device,
    renders: int,
    heldout: int,
    batch: int,
    compiled: bool,
    seed: int,
    kept: Path | None = None,
) -> World:
    """Loads the inputs and makes the renders.

    kept: file of the renders: read if it is there, else written; on a CPU each takes 0.2 s
    """
    state = {name: value.float() for name, value in load_file(inputs / "generator.safetensors").items()}
    G = MobileGenerator(1024)
    G.load_state_dict(state)
    G = G.eval().requires_grad_(False).to(device)
    photographs = load_photographs(inputs / "photographs.zip", device)
    rng = torch.Generator(device).manual_seed(seed)
    see = renderer(G, batch, device, compiled)

    on_cpu = torch.Generator().manual_seed(seed)
    codes = render_sets.training_codes(G, renders // 2, seed + 1, G.n_styles)
    codes = torch.cat([codes, scatter(codes.cpu(), G.n_styles, on_cpu).to(device)])
    started = time.perf_counter()
    if kept and kept.exists() and len(images := load_file(kept)["images"]) == len(codes):
        images = images.to(device)
    else:
        images = []
        for part in codes.split(batch):
            padded = torch.cat([part, codes[: batch - len(part)]]).detach()  # one shape: one compilation
            images.append(to_uint8(see(padded.requires_grad_()).detach())[: len(part)])
        images = torch.cat(images)
        if kept:
            save_atomically(lambda path: save_file({"images": images.cpu().contiguous()}, path), kept)
    average = see(G.w_avg.expand(batch, G.n_styles, -1).contiguous().requires_grad_()).detach()[:1]
    world = World(
        G=G,
        render=see,
        photographs=photographs[:-HELDOUT],
        heldout=photographs[-heldout:],
        images=images,
        codes=codes,
        resolutions=Resolutions(device),
        distance=st_lpips().to(device),
        whitening=losses.whitening(G),
        scale=(codes - G.w_avg).std().item(),
        average=average,
        rng=rng,
    )
    tell(f"{len(codes)} renders in {time.perf_counter() - started:.1f} s, {len(world.photographs)} photographs")
    return world


def renderer(G: MobileGenerator, batch: int, device: torch.device, compiled: bool) -> Callable[[Tensor], Tensor]:
    """The faster of two ways to see the generator's images at 256 px, measured; the plain one where one fails."""
    on_processor = device.type == "cpu"

    def plain(codes: Tensor) -> Tensor:
        with autocast(device):
            return averaged(G, codes, SIZE)

    if on_processor or not compiled:
        return plain
    function = torch.compile(averaged, dynamic=False)

    def fused(codes: Tensor) -> Tensor:
        with autocast(device):
            return function(G, codes, SIZE, True)

    codes, best = G.map(torch.randn(batch, 512, device=device), 0.7)[:, None].repeat(1, G.n_styles, 1), None
    for name, see in (("plain", plain), ("compiled", fused)):
        try:
            started = time.perf_counter()
            for i in range(8):
                if i == 3:
                    torch.cuda.synchronize()
                    first, again = time.perf_counter() - started, time.perf_counter()
                see(codes.detach().requires_grad_()).square().mean().backward()
            torch.cuda.synchronize()
            each = (time.perf_counter() - again) / 5 / batch * 1e3
            tell(f"generator, {name}: {each:.2f} ms an image forward and backward, {first:.0f} s at first")
            if best is None or each < best[0]:
                best = each, see
        except Exception as error:  # whatever a compiler may say: the plain way always works
            tell(f"generator, {name}: {type(error).__name__} {str(error)[:300]}")
    return best[1]


def photographs_of(world: World, i: Tensor) -> Tensor:
    """Photographs, mirrored by chance, as encoders see them."""
    x = to_float(world.photographs[i])
    mirrored = torch.rand(len(x), 1, 1, 1, device=x.device, generator=world.rng) < 0.5
    return world.resolutions.enlarged(torch.where(mirrored, x.flip(3), x)).clamp(-1, 1)


def mostly_sharp(n: int, rng: torch.Generator) -> Tensor:
    """Indices [n] of resolutions for renders: more than half keep their own."""
    kind = torch.randint(2 * len(RESOLUTIONS), (n,), device=rng.device, generator=rng) - len(RESOLUTIONS)
    return kind.clamp_min(0)


def fresh(world: World, plan: Plan) -> tuple[Tensor, Tensor, Tensor]:
    """A batch of images [B, 3, 256, 256], their codes (NaN where unknown), and the indices of their resolutions.

    By place: photographs first, then renders that were made unlike any, last renders as they are.
    """
    (p, strange, plain), rng, device = plan.parts, world.rng, world.device
    made = strange + plain
    i = torch.randint(len(world.codes), (made,), device=device, generator=rng)
    x, codes = to_float(world.images[i]), world.codes[i].clone()
    x[:strange] = disturb(x[:strange], x.roll(1, dims=0)[:strange], rng)
    codes[:strange] = torch.nan
    kind = mostly_sharp(made, rng)
    x = world.resolutions.of(x, kind)
    j = torch.randint(len(world.photographs), (p,), device=device, generator=rng)
    unknown = codes.new_full((p, *codes.shape[1:]), torch.nan)
    x = torch.cat([photographs_of(world, j), x])
    kinds = torch.cat([kind.new_full((p,), len(RESOLUTIONS) - 1), kind])
    return x, torch.cat([unknown, codes]), kinds


# ---- the two phases ---------------------------------------------------------------------------------------------


class Learner:
    """An encoder, its average, its optimizer and its learning rate, which rises fast and falls as a cosine."""

    def __init__(self, encoder: nn.Module, lr: float, device: torch.device):
        self.encoder = encoder.to(device, memory_format=torch.channels_last).train()
        self.ema = copy.deepcopy(encoder).requires_grad_(False).eval()
        self.parameters = list(encoder.parameters())
        fused = device.type == "cuda"
        self.optimizer = torch.optim.Adam(self.parameters, lr=lr, betas=(0.9, 0.99), fused=fused)
        self.lr, self.taken, self.images = lr, 0, torch.zeros((), dtype=torch.long, device=device)

    def step(self, loss: Tensor, share: float, average: float = 0.998) -> Tensor:
        """One step of the optimizer; share: of the training that is done. Returns the gradient's norm."""
        for group in self.optimizer.param_groups:
            group["lr"] = self.lr * min(1.0, (self.taken + 1) / 100) * (1 + math.cos(math.pi * min(share, 1.0))) / 2
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.taken += 1
        decay = min(average, self.taken / (self.taken + 10))
        torch._foreach_lerp_(list(self.ema.parameters()), [p.detach() for p in self.parameters], 1 - decay)
        return norm

    def save(self, path: Path) -> None:
        """Writes everything that going on needs."""
        state = {name: getattr(self, name).state_dict() for name in ("encoder", "ema", "optimizer")}
        state |= {"taken": self.taken, "images": self.images}
        save_atomically(lambda temporary: torch.save(state, temporary), path)

    def load(self, path: Path) -> None:
        state = torch.load(path, map_location=self.parameters[0].device, weights_only=True)
        for part in ("encoder", "ema", "optimizer"):
            getattr(self, part).load_state_dict(state[part])
        self.taken, self.images = state["taken"], state["images"]


def learn_pairs(world: World, encoder: nn.Module, seconds: float) -> nn.Module:
    """Residuals between renders: y is w_avg's image, a render near x, or any other. Returns the averaged encoder."""
    learner, n = Learner(encoder, PAIRS_LR, world.device), PAIRS_BATCH
    started, elapsed, told, rng = time.perf_counter(), 0.0, 0.0, world.rng
    half = len(world.codes) // 2
    while not learner.taken or (elapsed := time.perf_counter() - started) < seconds:
        i = torch.randint(len(world.codes), (n,), device=world.device, generator=rng)
        j = torch.where(torch.arange(n, device=world.device) < n // 2, (i + half) % (2 * half), i.roll(1))
        x, y, y_codes = to_float(world.images[i]), to_float(world.images[j]), world.codes[j]
        first = torch.arange(n, device=world.device) % 3 == 0
        y = torch.where(first[:, None, None, None], world.average, y)
        y_codes = torch.where(first[:, None, None], world.G.w_avg, y_codes)
        kind = mostly_sharp(n, rng)
        x, y = world.resolutions.of(x, kind), world.resolutions.of(y, kind)
        with autocast(world.device):
            found = learner.encoder(torch.cat([x, y], dim=1))
        loss = losses.latent(found, world.codes[i] - y_codes, world.scale, world.G.n_styles)
        norm = learner.step(loss, elapsed / max(seconds, 1e-9), 0.999)
        if elapsed - told > 15:
            told = elapsed
            tell(f"pairs {learner.taken * n}: latent {loss.item():.4f}, gradient {norm.item():.3f}, {elapsed:.0f} s")
    tell(f"pairs: {learner.taken * n} passes in {elapsed:.0f} s")
    return learner.ema


class Loop:
    """Images on their way through the residual loop, visited in turn; one that has arrived makes room for another."""

    def __init__(self, world: World, plan: Plan):
        self.world, self.plan, self.turn = world, plan, 0
        batches = [fresh(world, plan) for _ in range(plan.states)]
        self.x, self.codes, self.kind = (torch.cat(parts) for parts in zip(*batches, strict=True))
        n = len(self.x)
        self.w = world.G.w_avg.repeat(n, world.G.n_styles, 1)
        self.y = world.average.repeat(n, 1, 1, 1)
        self.left = torch.randint(1, plan.steps + 1, (n,), device=world.device, generator=world.rng)

    def take(self) -> slice:
        """Whose turn it is."""
        start = self.turn % self.plan.states * self.plan.batch
        self.turn += 1
        return slice(start, start + self.plan.batch)

    def put(self, i: slice, w: Tensor, y: Tensor) -> Tensor:
        """New states; images that have made all their steps are replaced. Returns how many these are."""
        world, plan = self.world, self.plan
        self.left[i] -= 1
        done = self.left[i] == 0
        x, codes, kind = fresh(world, plan)
        longer = torch.rand(plan.batch, device=world.device, generator=world.rng) < 1 / 2
        long = plan.steps * (1 + longer.long()) if plan.steps > 1 else torch.ones_like(done, dtype=torch.long)
        wide, image = done[:, None, None], done[:, None, None, None]
        self.x[i] = torch.where(image, x, self.x[i])
        self.codes[i] = torch.where(wide, codes, self.codes[i])
        self.kind[i] = torch.where(done, kind, self.kind[i])
        self.left[i] = torch.where(done, long, self.left[i])
        self.w[i] = torch.where(wide, world.G.w_avg, w)
        self.y[i] = torch.where(image, world.average, y)
        return done.sum()


def learn_loop(
    world: World,
    plan: Plan,
    encoder: nn.Module,
    passes: int,
    deadline: float = math.inf,
    log: Callable[[dict], None] = lambda record: None,
    kept: Path | None = None,
) -> tuple[nn.Module, dict]:
    """The loop of the paper, each step an example of its own. Returns the averaged encoder and a record of its passes.

    deadline: of time.perf_counter, at which it ends although passes are left
    kept:     file from which an interrupted training goes on, written every ten minutes and at the deadline; images on
              their way and discriminators begin anew
    """
    learner, loop, identity = Learner(encoder, plan.lr, world.device), Loop(world, plan), shared(world.device)
    total = passes // plan.batch
    latent_critic = Critic(latent_discriminator().to(world.device)) if plan.lambda_latent_adversarial else None
    image_critic = Critic(image_discriminator().to(world.device)) if plan.lambda_image_adversarial else None
    if kept and kept.exists():
        learner.load(kept)
    started = told = saved = time.perf_counter()
    iteration, known = learner.taken, slice(plan.batch - plan.parts[2], plan.batch)
    for iteration in range(learner.taken, total):
        share = iteration / total
        if plan.progressive:  # slot 1 is set free after 15 % of the passes, the last after half
            stage = int((share - 0.15) / 0.35 * (world.G.n_styles - 1)) + 1 if share >= 0.15 else 0
            learner.encoder.stage = learner.ema.stage = min(stage, world.G.n_styles - 1)
        i = loop.take()
        x, w, y, kind = loop.x[i], loop.w[i], loop.y[i], loop.kind[i]
        with autocast(world.device):
            residual = learner.encoder(x if plan.in_channels == 3 else torch.cat([x, y], dim=1))
            codes = w + residual
            y = world.resolutions.of(world.render(codes), kind)
            with torch.no_grad():
                features, person = world.distance.features(x), identity(x)
            terms = {
                "l2": losses.l2(y, x),
                "lpips": losses.perceptual(world.distance, y, features),
                "id": losses.identity(identity, y, person),
            }
            if image_critic:
                terms["realism"] = losses.adversarial(image_critic.network, y)
        rest = slice(0, known.start)
        terms["latent"] = losses.latent(codes[known], loop.codes[i][known], world.scale, world.G.n_styles)
        terms["prior"] = losses.prior(codes[rest], world.G.w_avg, world.whitening, world.G.n_styles)
        if plan.lambda_delta:
            terms["delta"] = losses.delta(codes)
        if latent_critic:
            terms["adversarial"] = losses.adversarial(latent_critic.network, codes.flatten(0, 1))
        weights = {
            "l2": plan.lambda_l2,
            "lpips": plan.lambda_lpips,
            "id": plan.lambda_id,
            "latent": plan.lambda_latent,
            "prior": plan.lambda_prior,
            "delta": plan.lambda_delta,
            "adversarial": plan.lambda_latent_adversarial,
            "realism": plan.lambda_image_adversarial,
        }
        norm = learner.step(sum(weights[name] * term for name, term in terms.items()), share)
        codes, y = codes.detach(), y.detach()
        if latent_critic:
            z = torch.randn(codes[:, 0].shape, device=world.device, generator=world.rng)
            slot = torch.randint(codes.shape[1], (len(codes), 1, 1), device=world.device, generator=world.rng)
            latent_critic.learn(world.G.map(z), codes.gather(1, slot.expand(-1, 1, codes.shape[2]))[:, 0])
        if image_critic:
            image_critic.learn(x, y)
        learner.images = learner.images + loop.put(i, codes, y)  # no number yet: a GPU would be waited for
        if (moment := time.perf_counter()) - told > 15 or iteration in (0, 40):
            told = moment
            record = {"passes": (iteration + 1) * plan.batch, "seconds": round(moment - started, 1)}
            record |= {name: round(value.item(), 4) for name, value in (terms | {"gradient": norm}).items()}
            log(record)
        if kept and (moment - saved > 600 or moment > deadline or iteration + 1 == total):
            saved = moment
            learner.save(kept)
        if moment > deadline:
            break
    taken = learner.taken * plan.batch
    record = {"passes": taken, "of": passes, "images": int(learner.images)}
    return learner.ema, record | {"seconds": round(time.perf_counter() - started, 1)}


def image_discriminator() -> nn.Module:
    """Images [B, 3, s, s], seen at 64 px -> scores [B]."""
    layers: list[nn.Module] = [nn.AdaptiveAvgPool2d(64)]
    for a, b in ((3, 32), (32, 64), (64, 128), (128, 128)):
        layers += [nn.Conv2d(a, b, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 16, 1), nn.Flatten(0))


class Critic:
    """A discriminator that learns beside the encoder (e4e, section 4.3; IDInvert, section 3.1), with lazy R1."""

    def __init__(self, network: nn.Module):
        self.network = network.requires_grad_(False)
        self.optimizer = torch.optim.Adam(network.parameters(), lr=1e-4, betas=(0.0, 0.99))
        self.taken = 0

    def learn(self, real: Tensor, fake: Tensor) -> None:
        """One step; every 16th also bounds the gradient at real examples."""
        self.network.requires_grad_(True)
        self.optimizer.zero_grad()
        loss = losses.discrimination(self.network, real.float(), fake.float())
        if self.taken % R1_EVERY == 0:
            loss = loss + R1_WEIGHT / 2 * R1_EVERY * losses.r1(self.network, real.float())
        loss.backward()
        self.optimizer.step()
        self.network.requires_grad_(False)
        self.taken += 1


@torch.no_grad()
def validate(world: World, encoder: nn.Module, batch: int) -> dict[str, list[float]]:
    """Held-out photographs at their own resolution: L2, ST-LPIPS and ID after each step."""
    identity, found = shared(world.device), []
    steps = STEPS if encoder.in_channels == 6 else 1
    n = len(world.heldout) // batch * batch
    for part in world.heldout[:n].split(batch):
        x = world.resolutions.enlarged(to_float(part)).clamp(-1, 1)
        kind = torch.full((len(x),), len(RESOLUTIONS) - 1, device=world.device)
        w, y = world.G.w_avg.expand(len(x), world.G.n_styles, -1), world.average.expand_as(x)
        trail = []
        with autocast(world.device):
            features, person = world.distance.features(x), identity(x)
            for _ in range(steps):
                w = w + encoder(x if encoder.in_channels == 3 else torch.cat([x, y], dim=1))
                with torch.enable_grad():  # the one compiled function
                    y = world.render(w.detach().requires_grad_()).detach()
                y = world.resolutions.of(y, kind)
                each = (losses.l2(y, x), world.distance(y, features).mean(), (identity(y) * person).sum(1).mean())
                trail.append(torch.stack([term.float() for term in each]))
        found.append(torch.stack(trail))
    l2, lpips, similarity = torch.stack(found).mean(0).T.tolist()
    return {
        name: [round(v, 4) for v in values] for name, values in (("L2", l2), ("ST-LPIPS", lpips), ("ID", similarity))
    }


# ---- the whole run ----------------------------------------------------------------------------------------------


def tell(line: str) -> None:
    """Prints and keeps a line with the time since the start."""
    LINES.append(f"[{time.perf_counter() - STARTED:5.0f}] {line}")
    print(LINES[-1], flush=True)


STARTED, LINES = time.perf_counter(), []


def train(
    inputs: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    minutes: float = 9.0,
    pairs_share: float = 0.2,
    renders: int = 24_000,
    heldout: int = 96,
    names: tuple[str, ...] = tuple(PLANS),
    passes: int = 0,
    states: Path = Path("/tmp/restyle-states"),
    trial: int = 60,
    batch: int = 16,
    compiled: bool = True,
    start: Path | None = None,
    lr: float = Plan.lr,
    seed: int = 0,
) -> None:
    """Trains the named encoders with equal passes; writes out/NAME.safetensors, packed, and a recipe beside each.

    minutes:     of all, compilation and renders included
    pairs_share: of the minutes, for what all begin as
    heldout:     photographs for validation
    passes:      of each; 0: as many as fit
    compiled:    try torch.compile for the generator
    states:      folder for whole weights, from which `extend` goes on
    trial:       batches whose speed is measured
    batch:       images of a batch of the loop, at least 3
    start:       an encoder that all begin as, packed as shipped ones are, instead of learning from pairs
    lr:          of the loop's training, at first

    Called again with the same arguments and `passes`, an interrupted run goes on.
    """
    end, device = begin(out, states, minutes, seed), best_device()
    # a GPU makes them faster than a disk takes them
    rendered = states / f"renders-{renders}-{seed}.safetensors" if device.type == "cpu" else None
    world = make_world(inputs, device, renders, heldout, batch, compiled, seed, rendered)
    if start:
        first = load_inverter(start).encoder.requires_grad_(True)
    else:
        first = learn_pairs(world, encoders.build(6, 16, 16, "simplified-256"), pairs_share * 60 * minutes)
        keep(world, out, states, "start", first, None, {"passes": 0}, validate(world, first, batch))
    for i, name in enumerate(names):
        if passes and recipes_in(out).get(name, {}).get("passes", 0) >= passes // batch * batch:
            tell(f"{name} is there")
            continue
        plan = replace(PLANS[name], batch=batch, lr=lr)
        encoder = encoders.build(plan.in_channels, 16, 16, plan.design, plan.progressive)
        encoder.begin_as(first.cpu())
        since = time.perf_counter()
        if since > end - 5:
            tell(f"no time is left for {name}")
            continue
        if not passes:  # the first one's speed says how many passes all can have
            rate = speed(world, plan, encoder, trial)
            passes = int(0.93 * rate * (end - time.perf_counter() - 2 * len(names)) / len(names))
            tell(f"{passes} passes for each")
        trained, record = learn_loop(
            world, plan, encoder, passes, end, lambda r, name=name: tell(f"{name} {r}"), states / f"{name}.pt"
        )
        keep(world, out, states, name, trained, plan, record, validate(world, trained, batch))
        tell(f"{name}: {time.perf_counter() - since:.1f} s, {len(names) - i - 1} left")


def extend(
    inputs: tyro.conf.Positional[Path],
    out: tyro.conf.Positional[Path],
    name: str = "restyle-psp",
    minutes: float = 2.0,
    lr: float = 3e-4,
    renders: int = 24_000,
    heldout: int = 96,
    states: Path = Path("/tmp/restyle-states"),
    trial: int = 60,
    passes: int = 0,
    batch: int = 16,
    compiled: bool = True,
    seed: int = 1,
) -> None:
    """Trains one encoder on, for as long as there is time; writes out/NAME-long.safetensors."""
    end = begin(out, states, minutes, seed)
    plan = replace(PLANS[name], lr=lr, batch=batch)
    world = make_world(inputs, best_device(), renders, heldout, plan.batch, compiled, seed)
    encoder = encoders.build(plan.in_channels, 16, 16, plan.design, plan.progressive)
    encoder.load_state_dict(load_file(states / f"{name}.safetensors"))
    passes = passes or int(0.97 * speed(world, plan, encoder, trial) * (end - time.perf_counter() - 4))
    trained, record = learn_loop(world, plan, encoder, passes, end, lambda r: tell(f"{name} {r}"))
    keep(world, out, states, f"{name}-long", trained, plan, record, validate(world, trained, plan.batch))


def recipes_in(out: Path) -> dict:
    """What earlier calls wrote, by encoder; empty where there were none."""
    return json.loads((out / RECIPES).read_text()) if (out / RECIPES).exists() else {}


def parts_of_a_pass(world: World, plan: Plan, encoder: nn.Module, repeats: int = 10) -> dict[str, float]:
    """Milliseconds an image, forward and backward, of each part of a pass; the rest is the optimizer's and Python's."""
    x, _, kind = fresh(world, plan)
    encoder, identity = copy.deepcopy(encoder).to(world.device), shared(world.device)
    codes = world.G.w_avg.repeat(plan.batch, world.G.n_styles, 1)
    features, person = world.distance.features(x), identity(x)
    parts = {
        "fresh images": (lambda: fresh(world, plan), None),
        "encoder": (lambda seen: encoder(seen).square().mean(), torch.cat([x, x], 1)[:, : plan.in_channels]),
        "generator": (lambda w: world.render(w).square().mean(), codes),
        "resolution": (lambda y: world.resolutions.of(y, kind).square().mean(), x),
        "ST-LPIPS": (lambda y: world.distance(y, features).mean(), x),
        "identity": (lambda y: losses.identity(identity, y, person), x),
    }
    found = {}
    for name, (work, given) in parts.items():
        for i in range(repeats + 2):
            if i == 2:
                started = now(world.device)
            with autocast(world.device):
                loss = work() if given is None else work(given.detach().requires_grad_())
            if given is not None:
                loss.backward()
        found[name] = round((now(world.device) - started) / repeats / plan.batch * 1e3, 3)
    return found


def begin(out: Path, states: Path, minutes: float, seed: int) -> float:
    """Prepares a run: its folders, its seed, a GPU's fastest arithmetic; returns the time at which it must end."""
    for folder in (out, states):
        folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(seed)
    torch.backends.cudnn.benchmark = True
    torch.set_float32_matmul_precision("high")
    return STARTED + 60 * minutes


def speed(world: World, plan: Plan, encoder: nn.Module, trial: int) -> float:
    """Passes a second, of `trial` batches after as many that warm up; what they learn is forgotten."""
    for _ in range(2):
        _, record = learn_loop(world, plan, copy.deepcopy(encoder), trial * plan.batch)
    rate = record["passes"] / record["seconds"]
    tell(f"{rate:.0f} passes a second; ms an image: {parts_of_a_pass(world, plan, encoder)}")
    return rate


def keep(
    world: World,
    out: Path,
    states: Path,
    name: str,
    encoder: nn.Module,
    plan: Plan | None,
    record: dict,
    validation: dict,
) -> None:
    """Writes an encoder packed, with its recipe, and whole for going on."""
    encoder = copy.deepcopy(encoder).cpu()
    save_file({k: v.contiguous() for k, v in encoder.state_dict().items()}, states / f"{name}.safetensors")
    save_inverter(out / f"{name}.safetensors", encoder, "faces-1024")
    machine = torch.cuda.get_device_name() if world.device.type == "cuda" else "CPU"
    recipe = {"plan": asdict(plan) if plan else {}, **record, "validation": validation, "machine": machine}
    (out / RECIPES).write_text(json.dumps(recipes_in(out) | {name: recipe, "log": LINES}, indent=1) + "\n")
    tell(f"{name}: {record} {validation}")


if __name__ == "__main__":
    tyro.extras.subcommand_cli_from_dict({"prepare": prepare, "train": train, "extend": extend})
