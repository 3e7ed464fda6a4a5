"""What a computation costs: multiplications, peak memory, and the name of the machine."""

import ctypes
import platform
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from restyle_lib import precision


def gmacs(function: Callable) -> float:
    """Multiplications of a call in thousand millions, counted by PyTorch."""
    with FlopCounterMode(display=False) as counter:
        function()
    return counter.get_total_flops() / 2e9


def forget_peak_memory(device: torch.device) -> None:
    """Starts `peak_memory` anew; on Linux freed memory, which its C library likes to keep, goes back first."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        return
    with suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    if Path("/proc/self/clear_refs").exists():
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")


def peak_memory(device: torch.device) -> float:
    """GiB that were in use at most since `forget_peak_memory`, weights included; NaN where the system cannot tell.

    Of a GPU what PyTorch holds there, else the whole process.
    """
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated() / 2**30
    if not Path("/proc/self/status").exists():
        return float("nan")
    line = next(x for x in Path("/proc/self/status").read_text(encoding="utf-8").splitlines() if x.startswith("VmHWM"))
    return int(line.split()[1]) / 2**20


def machine(device: torch.device) -> str:
    """The GPU, or the processor and how many of its threads are used."""
    if device.type == "cuda":
        return torch.cuda.get_device_name()
    return f"{torch.get_num_threads()} threads of {cpu_name()}"


def one_by_one(device: torch.device) -> str:
    """The machine and the number format of seconds per image, where images come one by one."""
    return f"{machine(device)}, {precision.name(device)}, batch 1"


def cpu_name() -> str:
    """The processor as the system names it."""
    if Path("/proc/cpuinfo").exists():
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
