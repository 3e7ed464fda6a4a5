"""An encoder together with the generator it was trained with: images in, codes and reconstructions out."""

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from restyle_lib.data import WEIGHTS, downsample, save_atomically
from restyle_lib.encoders.simplified import SimplifiedEncoder
from restyle_lib.generators import load_generator
from restyle_lib.inversion.refine import Callback, refine
from restyle_lib.inversion.result import Inversion

FORMAT = "restyle-companion inverter 1"


class Inverter(nn.Module):
    """Encoder and generator; `invert` runs the residual loop from the mean code."""

    def __init__(self, encoder: nn.Module, G: nn.Module):
        super().__init__()
        self.encoder, self.G = encoder, G
        with torch.no_grad():
            self.register_buffer("y_avg", G.synthesize(G.w_avg[None]))

    @property
    def one_pass(self) -> bool:
        """Whether the encoder sees the image alone (pSp), so that further steps would change nothing."""
        return self.encoder.in_channels == 3

    @torch.no_grad()
    def invert(self, images: Tensor, steps: int = 5, callback: Callback | None = None) -> Inversion:
        """Inverts aligned images [B, 3, h, w] in [-1, 1], square, of any size at least that of the encoder's input.

        Smaller images are enlarged. A one-pass encoder takes its one step; the other steps repeat it, so that results
        of all methods have one shape. callback(t, w_t, y_t) is called after each step, for progress.
        Raises ValueError for another shape, values outside [-1, 1] or not finite, and steps < 1.
        """
        x = self._prepare(images)
        if steps < 1:
            raise ValueError(f"steps must be at least 1, not {steps}")
        codes = self.G.w_avg.expand(len(x), self.G.n_styles, -1)
        y = self.y_avg.expand_as(x)
        trajectory = [(codes, y)]

        def keep(t: int, w: Tensor, y_t: Tensor) -> None:
            trajectory.append((w, y_t))
            if callback:
                callback(t, w, y_t)

        refine(self.encoder, self.G, x, codes, y, 1 if self.one_pass else steps, keep)
        trajectory += trajectory[-1:] * (steps + 1 - len(trajectory))
        latents, images = zip(*trajectory, strict=True)
        return Inversion(torch.stack(latents, 1).cpu(), torch.stack(images, 1).cpu())

    def _prepare(self, images: Tensor) -> Tensor:
        if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3] or not len(images):
            raise ValueError(f"images must be square, [B, 3, s, s] with B >= 1, got {list(images.shape)}")
        images = images.to(self.y_avg.device, torch.float32)
        if not torch.isfinite(images).all() or images.abs().max() > 1.01:
            raise ValueError("images must be finite and in [-1, 1]; divide 0..255 by 127.5 and subtract 1")
        size = self.G.resolution[0]
        if images.shape[-1] < size:
            return nn.functional.interpolate(images, (size, size), mode="bilinear")
        return downsample(images, size)


def save_inverter(path: Path, encoder: SimplifiedEncoder, generator: str) -> None:
    """Writes an encoder as fp16 safetensors that says in its metadata what it is and which generator it needs."""
    metadata = {"format": FORMAT, "generator": generator, "in_channels": str(encoder.in_channels)}
    metadata |= {"heads": str(encoder.heads.heads), "n_styles": str(encoder.n_styles)}
    tensors = {name: value.detach().half().contiguous() for name, value in encoder.state_dict().items()}
    save_atomically(lambda temporary: save_file(tensors, temporary, metadata), path)


def load_inverter(name: str | Path) -> Inverter:
    """A shipped inverter ("faces/psp", "faces/restyle-psp"), or one that training wrote (a .safetensors path).

    Raises ValueError, naming what there is or what the file is, for anything else.
    """
    path = WEIGHTS / f"{str(name).replace('/', '-')}.safetensors"
    if not path.is_file():
        path = Path(name)
    if not path.is_file():
        raise ValueError(f"no inverter {str(name)!r}; shipped are {', '.join(shipped_inverters())}, or give a path")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key).float() for key in file.keys()}  # noqa: SIM118 (a file, not a dict)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a safetensors file ({error})") from error
    if metadata.get("format") != FORMAT:
        raise ValueError(f"{path} is a safetensors file, but not an inverter written by this program")
    encoder = SimplifiedEncoder(*(int(metadata[key]) for key in ("in_channels", "heads", "n_styles")))
    encoder.load_state_dict(tensors)
    encoder = encoder.eval().requires_grad_(False).to(memory_format=torch.channels_last)
    return Inverter(encoder, load_generator(metadata["generator"])).eval()


def shipped_inverters() -> list[str]:
    """Names of the inverters in data/weights/."""
    recipes = (json.loads(path.read_text()) for path in sorted(WEIGHTS.glob("*.json")))
    return [recipe["inverter"] for recipe in recipes if "inverter" in recipe]
