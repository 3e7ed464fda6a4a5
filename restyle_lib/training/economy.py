"""Training with less memory and time: batches in pieces, activations computed twice, compiled networks."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import TypeVar

import torch
from accelerate.utils.memory import clear_device_cache, should_reduce_batch_size
from torch import nn
from torch.utils.checkpoint import checkpoint
from tqdm.auto import tqdm

from restyle_lib.encoders.backbones import BasicBlock, IRBlock
from restyle_lib.encoders.simplified import ResidualBlock
from restyle_lib.generators import mobile
from restyle_lib.training.settings import Settings

# Not the layers of StyleGAN2: they keep nothing but their inputs and results anyway, see generators/frozen.py.
BLOCKS = (ResidualBlock, BasicBlock, IRBlock, mobile.Block, mobile.FittedHead)
Result = TypeVar("Result")


class Pieces:
    """Does batches piece by piece, as large as memory allows: an error for lack of it halves them from there on.

    largest: images of the first pieces; 0: whole batches
    """

    def __init__(self, largest: int = 0):
        self.largest = largest

    def of(self, n: int, work: Callable[[slice], Result], begin: Callable[[], None]) -> list[Result]:
        """What work(piece) returns for all pieces of n images, which together must do the same as work(slice(n)).

        Batch normalisations are the exception: they see a piece at a time.

        begin: called before the first piece, and again before the first of the smaller ones
        Raises MemoryError where even a single image is too much.
        """
        while True:
            size = min(self.largest or n, n)
            begin()
            try:
                return [work(slice(first, first + size)) for first in range(0, n, size)]
            except RuntimeError as error:
                if not should_reduce_batch_size(error):
                    raise
                if size == 1:
                    advice = "use the setting `checkpointing`, a smaller generator or a larger device"
                    raise MemoryError(f"out of memory with a single image at a time; {advice}") from error
            self.largest = -(-size // 2)  # out here the error is gone, and with it the tensors that it held
            clear_device_cache(garbage_collection=True)
            tqdm.write(f"out of memory: {self.largest} images at a time from here on, of the same batches")


def chosen(settings: Settings, encoder: nn.Module, G: nn.Module) -> AbstractContextManager:
    """The context that the settings ask for. Raises ValueError where they ask for both."""
    if settings.checkpointing and settings.compile:
        raise ValueError("checkpointing or compile, not both: the compiler decides itself what it computes again")
    if settings.checkpointing:
        return recomputed([encoder, G])
    return compiled(encoder, G) if settings.compile else nullcontext()


@contextmanager
def recomputed(networks: Iterable[nn.Module]) -> Iterator[None]:
    """Activation checkpointing (Chen et al. 2016): in this context the blocks of the networks keep their inputs only.

    Backward computes them again; gradients and the statistics of batch normalisations stay what they are without.
    """
    blocks = [block for network in networks for block in network.modules() if isinstance(block, BLOCKS)]
    for block in blocks:
        norms = [part for part in block.modules() if isinstance(part, nn.BatchNorm2d)]
        kind = {"use_reentrant": False, "preserve_rng_state": False, "context_fn": partial(_contexts, norms)}
        block.__dict__["forward"] = partial(checkpoint, block.forward, **kind)
    try:
        yield
    finally:
        for block in blocks:
            del block.forward  # the class's own shows again


def _contexts(norms: list[nn.BatchNorm2d]) -> tuple:
    return nullcontext(), _without_statistics(norms)


@contextmanager
def _without_statistics(norms: list[nn.BatchNorm2d]) -> Iterator[None]:
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum


@contextmanager
def compiled(encoder: nn.Module, G) -> Iterator[None]:
    """torch.compile of both networks of the loop; the generator is as before after this context."""
    encoder.compile()
    G.synthesize = torch.compile(G.synthesize)
    try:
        yield
    finally:
        del G.synthesize
