"""Several processes that train as one: each has its share of every batch, and what is summed is summed over all.

No wrapper around the encoder: the N backward passes of a batch, of which memory may make more, run without any
communication, and `sum_gradients` then meets once per optimizer step. So a batch gives the same gradient whatever the
number of processes. (Batch normalisations of the full-size encoders see the share of their process.)
"""

import torch
import torch.distributed as dist
from accelerate import Accelerator
from torch import Tensor, nn


def start(device: torch.device) -> Accelerator:
    """This process among those that `accelerate launch` started; the only one without it."""
    return Accelerator(cpu=device.type == "cpu")


def end() -> None:
    """Ends the communication between processes, the last thing that each does; else its threads may abort at exit."""
    if dist.is_initialized():
        dist.barrier()
        dist.destroy_process_group()


def share(accelerator: Accelerator, n: int) -> slice:
    """Which of n images are this process's. Raises ValueError where n cannot be divided."""
    each, rest = divmod(n, accelerator.num_processes)
    if rest:
        raise ValueError(
            f"a batch of {n} cannot be shared by {accelerator.num_processes} processes; change one of them"
        )
    return slice(each * accelerator.process_index, each * (accelerator.process_index + 1))


def sum_gradients(parameters: list[nn.Parameter]) -> None:
    """Adds up the gradients of all processes, each of which must have weighted its own as a part of the batch."""
    if dist.is_initialized():
        for p in parameters:
            if p.grad is not None:
                dist.all_reduce(p.grad)


def total(accelerator: Accelerator, record: dict[str, Tensor]) -> dict[str, Tensor]:
    """The terms of the whole batch from the summands of all processes, which have the same names but not types."""
    terms = torch.stack([term.float() for term in record.values()])
    return dict(zip(record, accelerator.reduce(terms, "sum").unbind(), strict=True))


@torch.no_grad()
def average_statistics(network: nn.Module) -> None:
    """Gives all processes the mean of their batch normalisations' running statistics: they share one network."""
    if dist.is_initialized():
        for buffer in network.buffers():
            if buffer.is_floating_point():
                dist.all_reduce(buffer.div_(dist.get_world_size()))


def finite_norm(parameters: list[nn.Parameter], where: str) -> Tensor:
    """The norm of all gradients together. Raises FloatingPointError where it is not finite: in all processes alike."""
    norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not norm.isfinite():
        raise FloatingPointError(f"{where}: the gradient's norm is {norm.item()}")
    return norm
