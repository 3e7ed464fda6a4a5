"""Where to compute, and mixed precision where it pays: bf16 on hardware that computes in it, fp32 elsewhere."""

import torch


def best_device() -> torch.device:
    """The first GPU, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def device_named(name: str | None) -> torch.device:
    """The device of that name, such as "cpu", "cuda" or "cuda:1"; without one, `best_device`.

    Raises ValueError in one line where there is no such device here.
    """
    if name is None:
        return best_device()
    try:
        device = torch.device(name)
        torch.zeros(1, device=device).item()
    # What PyTorch raises, in this order: for a backend that it was built without (CUDA, XPU), for one that comes with a
    # package of its own (HPU), for one that it has no operations of (MPS elsewhere than on a Mac), and for a word that
    # names none, or a GPU that is not there.
    except (AssertionError, ImportError, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"device {name!r} cannot be used here; leave --device out for the best there is") from error
    return device


def has_fast_bf16(device: torch.device) -> bool:
    """Whether bf16 is faster than fp32: GPUs since Ampere, CPUs with AVX-512 BF16 or AMX.

    Elsewhere a CPU only emulates it: measured ten times slower than fp32 for a render, on AVX2.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    features = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return bool(features.get("avx512_bf16") or features.get("amx_bf16"))


def autocast(device: torch.device) -> torch.autocast:
    """Autocast to bf16 where that is fast, else a context that changes nothing."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_fast_bf16(device))


def name(device: torch.device) -> str:
    """What `autocast` computes in, for recipes: "bf16" or "fp32"."""
    return "bf16" if has_fast_bf16(device) else "fp32"
