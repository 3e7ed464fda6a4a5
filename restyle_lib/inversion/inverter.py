"""An encoder together with the generator it was trained with: images in, codes and reconstructions out."""

import dataclasses
import json
import warnings
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from restyle_lib import encoders
from restyle_lib.checkpoints import domains, state_dicts
from restyle_lib.checkpoints import generators as checkpoints
from restyle_lib.checkpoints.domains import DOMAINS, Domain, of_dataset
from restyle_lib.checkpoints.generators import CheckpointError
from restyle_lib.checkpoints.packing import pack, unpack
from restyle_lib.encoders import Encoder, full_size
from restyle_lib.encoders.compiled import CompiledEncoder
from restyle_lib.generators import load_generator
from restyle_lib.generators.averaged import averaged, can_average
from restyle_lib.generators.compiled import CompiledGenerator
from restyle_lib.generators.stylegan2 import StyleGAN2
from restyle_lib.inversion import detail
from restyle_lib.inversion.refine import Callback, is_one_pass, refine, steps_taken
from restyle_lib.inversion.result import Inversion
from restyle_lib.paths import WEIGHTS, save_atomically
from restyle_lib.precision import autocast

FORMAT = "restyle-companion inverter 1"
INPUT = 256  # px that encoders of the embedded faces see, as in the paper
STYLE = 512  # dimensions of a style that encoders find, here and in the official code
FOR_PHOTOGRAPHS = "faces/restyle-psp"  # the default, best on photographs


class Viewed(nn.Module):
    """A generator as an encoder sees it: its images area-averaged (or repeated) to the encoder's input size.

    px: with the detail that an image of so many px has, beside which they stand, see `detail`; 0: with all of it
    """

    def __init__(self, G: nn.Module, size: tuple[int, int], px: int = 0):
        super().__init__()
        self.G, self.size, self.resolution, self.px = G, size, size, px
        self.n_styles, self.slots_read = G.n_styles, G.slots_read

    @property
    def w_avg(self) -> Tensor:
        """G's own, wherever and in whatever precision that is now."""
        return self.G.w_avg

    def map(self, z: Tensor, psi: float = 1.0) -> Tensor:
        """As G maps z [n, d] to w [n, 512]."""
        return self.G.map(z, psi)

    def synthesize(self, codes: Tensor) -> Tensor:
        if can_average(self.G, self.size):
            # one by one on a CPU: at 1024 px, the maps of several images fall out of its cache, three times as slow
            parts = codes.split(1) if codes.device.type == "cpu" else [codes]
            return self.beside(torch.cat([averaged(self.G, part, self.size[0]) for part in parts]))
        return self.beside(F.adaptive_avg_pool2d(self.G.synthesize(codes), self.size))

    def beside(self, images: Tensor) -> Tensor:
        """Images of `size` with the detail of an image of `px`."""
        return detail.at(images, torch.full((len(images),), self.px)) if self.px else images


class Inverter(nn.Module):
    """Encoder and generator; `invert` runs the residual loop from the mean code.

    input_size: (height, width) that the encoder sees
    domain:     what it inverts, and so how a photograph is prepared
    decay:      of the residuals, see `refine`
    from_mean:  False for a one-pass encoder that finds the whole code, to which the mean is not to be added
    Raises ValueError where the encoder's styles are not the generator's.
    """

    def __init__(
        self,
        encoder: nn.Module,
        G: nn.Module,
        input_size: tuple[int, int],
        domain: Domain,
        decay: float = 0.0,
        from_mean: bool = True,
    ):
        super().__init__()
        check_styles(G)
        self.encoder, self.G, self.input_size, self.domain, self.decay = encoder, G, input_size, domain, decay
        self.from_mean = from_mean
        with torch.no_grad():
            y_avg = Viewed(G, self.input_size).synthesize(G.w_avg[None])
        # not saved: it follows from G, and threads round it differently, which must not make another inverter of it
        self.register_buffer("y_avg", y_avg, persistent=False)

    @property
    def one_pass(self) -> bool:
        """Whether the encoder sees the image alone, see `refine.is_one_pass`."""
        return is_one_pass(self.encoder)

    def steps_taken(self, steps: int) -> int:
        """How many of so many steps `invert` takes; see `refine.steps_taken`."""
        return steps_taken(self.encoder, steps)

    def start(self, n: int) -> Tensor:
        """The codes [n, k, 512] that the first residuals are added to: w_avg, or zeros where the encoder finds all."""
        mean = self.G.w_avg if self.from_mean else torch.zeros_like(self.G.w_avg)
        return mean.expand(n, self.G.n_styles, -1)

    def precision(self) -> AbstractContextManager:
        """The arithmetic of its loop: for encoders of the embedded faces bf16 where it is fast, as in training."""
        return autocast(self.y_avg.device) if isinstance(self.encoder, Encoder) else nullcontext()

    @torch.no_grad()
    def invert(
        self, images: Tensor, steps: int = 5, callback: Callback | None = None, tolerance: float = 0.0
    ) -> Inversion:
        """Inverts aligned images [B, 3, h, w] in [-1, 1], of any size in the proportions of the encoder's input.

        Larger images are area-averaged. Smaller ones are enlarged, and reconstructions y_1, y_2, … beside them, also
        those that are returned, have no more detail than they. Values a little outside, as renders have them, are
        clamped. A one-pass encoder takes its one step; the other steps repeat it, so that results of all methods have
        one shape.
        callback(t, w_t, y_t) is called after each step that is taken.
        tolerance: an image whose reconstruction a step changes by less than this (root mean square) takes no further
                   ones, which then repeat its last; 0: all steps, as in the paper
        Raises ValueError for another shape, values far outside [-1, 1] or not finite, and steps < 1.
        """
        x = self.prepare(images)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        view, moving = self.view(images), torch.arange(len(x))
        # y_0 keeps all its detail: encoders were trained with that one mean image, and with another find people less
        codes, y = self.start(len(x)), self.y_avg.expand_as(x)
        trajectory = [(self.G.w_avg.expand_as(codes), y)]
        for t in range(1, self.steps_taken(steps) + 1):
            with self.precision():
                w, found = refine(self.encoder, view, x[moving], codes[moving], y[moving], 1, None, self.decay, t)
            changed = (found - y[moving]).square().mean((1, 2, 3)).sqrt().cpu()
            codes, y = codes.clone(), y.clone()
            codes[moving], y[moving] = w, found
            trajectory.append((codes, y))
            if callback:
                callback(t, codes, y)
            moving = moving[changed >= tolerance]
            if not len(moving):
                break
        trajectory += trajectory[-1:] * (steps + 1 - len(trajectory))
        latents, images = zip(*trajectory, strict=True)
        return Inversion(torch.stack(latents, 1).cpu(), torch.stack(images, 1).cpu())

    def prepare(self, images: Tensor) -> Tensor:
        """Images as the encoder sees them, checked and resized; see `invert`."""
        images = detail.checked(images, self.input_size).to(self.y_avg.device, torch.float32)
        return detail.fitted(images.clamp(-1, 1), self.input_size)

    def view(self, images: Tensor) -> Viewed:
        """The generator as its images stand beside these; see `invert`."""
        return Viewed(self.G, self.input_size, detail.own_px(images, self.input_size))


def check_styles(G) -> None:
    """Raises ValueError for a generator that no encoder can be used or trained with."""
    if len(G.w_avg) != STYLE:
        raise ValueError(
            f"the generator's styles have {len(G.w_avg)} dimensions, those of all encoders {STYLE}; "
            "rl.load_generator and rl.optimize can use it"
        )


def save_inverter(path: Path, encoder: Encoder, generator: str, decay: float = 0.0, size: int = INPUT) -> None:
    """Writes an encoder as packed safetensors that say in their metadata what it is and how it is used.

    generator: the name of the one in its loop; size: px of the images that it was trained on
    """
    metadata = {"format": FORMAT, "generator": generator, "decay": json.dumps(decay), "size": json.dumps(size)}
    metadata |= {name: json.dumps(value) for name, value in encoders.geometry(encoder).items()}
    tensors = pack(encoder.state_dict())
    save_atomically(lambda temporary: save_file(tensors, temporary, metadata), path)


def load_inverter(name: str | Path, domain: str | None = None, input_size: tuple[int, int] | None = None) -> Inverter:
    """A shipped inverter ("faces/psp", "faces/restyle-psp"), or a checkpoint; on the CPU.

    A path may be an official pSp, e4e or ReStyle checkpoint, or safetensors that training wrote; the file itself shows
    which.
    domain:     of the images, "own" or one of checkpoints.domains, for a checkpoint that does not say it or says it
                wrongly: the official `dataset_type` is ffhq_encode unless one sets it
    input_size: (height, width) that the encoder sees, where those of the domain are not right
    Raises ValueError for an unknown name or domain, and `CheckpointError` for a file that cannot be used.
    """
    told = domains.named(domain) if domain else None
    path = _shipped(name) or Path(name)
    if not path.is_file():
        if not (shipped := shipped_inverters()):
            raise ValueError(
                f"no inverter {str(name)!r}: the shipped weights are not in {WEIGHTS}; "
                "install from a checkout with `pip install --editable .`, or give a checkpoint's path"
            )
        raise ValueError(f"no inverter {str(name)!r}; shipped are {', '.join(shipped)}, or give a path")
    return _opened(path, *checkpoints.read(path), told, input_size)


def compiled(inverter: Inverter, bf16: bool = False) -> Inverter:
    """An official checkpoint's inverter on the CPU, its encoder and its StyleGAN2 compiled by OpenVINO.

    It pays where many images are inverted: compiling takes as long as some dozens of steps. See `compilation.Compiled`;
    a StyleGAN3 stays as it is.
    bf16: for processors that have it (`precision.has_fast_bf16`); else all is computed in fp32
    Raises ImportError without the package openvino, and ValueError for one that is on a GPU, or has another encoder:
    those of the embedded faces take a fifth of a step.
    """
    encoder, G, size = inverter.encoder, inverter.G, inverter.input_size
    if not isinstance(encoder, full_size.FullSizeEncoder):
        raise ValueError(f"{type(encoder).__name__} is not compiled: only the encoders of official checkpoints are")
    if inverter.y_avg.device.type != "cpu":
        raise ValueError("only what computes on the CPU is compiled: leave the inverter where load_inverter put it")
    fast_encoder = CompiledEncoder(encoder, size, bf16)
    fast_generator = CompiledGenerator(G, bf16) if isinstance(G, StyleGAN2) else G
    return Inverter(fast_encoder, fast_generator, size, inverter.domain, inverter.decay, inverter.from_mean).eval()


def _shipped(name: str | Path) -> Path | None:
    """The file of a shipped inverter, or None where there is none of that name."""
    file = f"{str(name).replace('/', '-')}.safetensors"
    return WEIGHTS / file if len(file) < 100 and (WEIGHTS / file).is_file() else None


def _opened(
    path: Path, kind: str, content, told: Domain | None = None, input_size: tuple[int, int] | None = None
) -> Inverter:
    """The inverter in what `checkpoints.read` found; told, input_size: see `load_inverter`."""
    with checkpoints.fitting(path):
        if kind == "safetensors":
            return _from_safetensors(path, content["metadata"], content["tensors"], told, input_size)
        if network := encoder_in(kind, content):
            return _from_official(path, network, told, input_size)
    found = state_dicts.called(content if kind == "torch" else content["tensors"])
    raise CheckpointError(f"{path}: not an inverter; it holds {found}")


def encoder_in(kind: str, content) -> dict | None:
    """The official encoder with its generator in what `checkpoints.read` found, as `state_dicts.official` has it."""
    network = state_dicts.official(content) if kind == "torch" else None
    parts = {name.partition(".")[0] for name in network["state_dict"]} if network else set()
    return network if "encoder" in parts and "hypernet" not in parts else None


def convert(checkpoint: Path, out: Path, domain: str | None = None, input_size: tuple[int, int] | None = None) -> str:
    """Writes what a checkpoint holds as safetensors with its settings; returns "inverter" or "generator".

    An official pSp, e4e or ReStyle checkpoint stays an encoder and generator in one file, in fp32, batch
    normalisations and equalised learning rates folded. domain, input_size: of an inverter, see `load_inverter`; they
    are written too. Raises CheckpointError, and ValueError where they are given and there is no encoder.
    """
    told = domains.named(domain) if domain else None
    kind, content = checkpoints.read(checkpoint)
    if not encoder_in(kind, content):
        if domain or input_size:
            raise ValueError(f"{checkpoint} holds a generator alone, of which no domain and no input size are kept")
        checkpoints.save_generator(out, checkpoints.generator_in(checkpoint, kind, content))
        return "generator"
    save_full_size(out, _opened(checkpoint, kind, content, told, input_size))
    return "inverter"


def save_full_size(path: Path, inverter: Inverter) -> None:
    """Writes a full-size encoder, its batch normalisations folded, and its generator as one file, in fp32."""
    metadata = {
        "format": checkpoints.INVERTER_FORMAT,
        "domain": inverter.domain.name,
        "input_size": json.dumps(inverter.input_size),
        "from_mean": json.dumps(inverter.from_mean),
        "encoder": json.dumps(full_size.geometry(inverter.encoder)),
        "generator": json.dumps(checkpoints.geometry(inverter.G)),
    }
    parts = {"encoder": inverter.encoder, "generator": inverter.G}
    tensors = {f"{part}.{key}": x.contiguous() for part, net in parts.items() for key, x in net.state_dict().items()}
    save_atomically(lambda temporary: save_file(tensors, temporary, metadata), path)


def _from_safetensors(
    path: Path,
    metadata: dict[str, str],
    tensors: dict[str, Tensor],
    told: Domain | None = None,
    input_size: tuple[int, int] | None = None,
) -> Inverter:
    if metadata.get("format") == checkpoints.INVERTER_FORMAT:
        encoder = json.loads(metadata["encoder"])
        encoder = full_size.from_geometry(**encoder, tensors=checkpoints.part(tensors, "encoder"))
        G = checkpoints.from_geometry(json.loads(metadata["generator"]), checkpoints.part(tensors, "generator"))
        size = input_size or tuple(json.loads(metadata.get("input_size", "null")) or ()) or None
        domain = _seeing(told or of_dataset(metadata["domain"]), size if told is None or input_size else None)
        from_mean = json.loads(metadata.get("from_mean", "true"))
        return Inverter(encoder, G, domain.input_size, domain, from_mean=from_mean).eval()
    if metadata.get("format") != FORMAT:
        raise CheckpointError(f"{path}: a safetensors file, but not an inverter written by this program")
    encoder = encoders.build(**{name: json.loads(metadata[name]) for name in encoders.SHAPE if name in metadata})
    encoder.load_state_dict(unpack(tensors))
    encoder = encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    in_loop = load_generator(metadata["generator"])
    size = (json.loads(metadata.get("size", str(INPUT))),) * 2
    if input_size not in (None, size):
        raise CheckpointError(f"{path}: its encoder sees {size[0]} x {size[1]} px, and no other size")
    return Inverter(encoder, in_loop, size, told or DOMAINS["faces"], json.loads(metadata.get("decay", "0"))).eval()


def _seeing(domain: Domain, input_size: tuple[int, int] | None) -> Domain:
    """The domain with another size of the encoder's input, where one is given."""
    return dataclasses.replace(domain, input_size=input_size) if input_size else domain


def _from_official(
    path: Path, content: dict, told: Domain | None = None, input_size: tuple[int, int] | None = None
) -> Inverter:
    opts = checkpoints.options(content)
    if not opts:
        warnings.warn(
            f"{path} has no opts that say what its encoder is; it is taken for pSp's, not e4e's", stacklevel=4
        )
    progressive = "Progressive" in str(opts.get("encoder_type", "")) or "4Editing" in str(opts.get("encoder_type", ""))
    tensors = checkpoints.part(content["state_dict"], "encoder")
    if "output_layer_2.0.weight" in tensors:
        raise CheckpointError(
            f"{path}: an encoder from the last layer into W+ ({opts.get('encoder_type', 'of pSp')}), not supported; "
            "the pyramids and W encoders of pSp and e4e open, and ReStyle's"
        )
    domain = _seeing(told or of_dataset(str(opts.get("dataset_type", ""))), input_size)
    G = checkpoints.decoder(content, path, domain)
    try:
        check_styles(G)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    encoder = full_size.from_official(tensors, progressive, G.n_styles)
    if encoder.n_styles != G.n_styles:
        raise CheckpointError(f"{path}: its encoder has {encoder.n_styles} styles, its generator {G.n_styles}")
    return Inverter(encoder, G, domain.input_size, domain, from_mean=checkpoints.adds_mean(content)).eval()


def shipped_inverters() -> list[str]:
    """Names of the inverters in data/weights/."""
    recipes = (json.loads(path.read_text(encoding="utf-8")) for path in sorted(WEIGHTS.glob("*.json")))
    return [recipe["inverter"] for recipe in recipes if "inverter" in recipe]
