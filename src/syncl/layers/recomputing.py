"""Activation checkpointing: recompute a module's activations in the backward pass instead of keeping them."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

Result = TypeVar("Result")


def run_checkpointed(module: nn.Module, features: Tensor) -> Tensor:
    """Return `module(features)`, keeping only `features` for the backward pass.

    Gradients, random numbers and BatchNorm running statistics are those of a plain call, which this is
    where gradients are disabled.
    """
    if not torch.is_grad_enabled():
        output: Tensor = module(features)
        return output

    def contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
        return nullcontext(), _running_statistics_kept(module)

    run: Callable[..., Tensor] = checkpoint
    return run(module, features, use_reentrant=False, context_fn=contexts)


def recomputed(function: Callable[..., Result], *arguments: object) -> Result:
    """Return `function(*arguments)`, keeping only the arguments for the backward pass.

    Values, gradients and random numbers are those of a plain call.
    """
    run: Callable[..., Result] = checkpoint
    return run(function, *arguments, use_reentrant=False)


@contextmanager
def _running_statistics_kept(module: nn.Module) -> Iterator[None]:
    # The second forward pass would otherwise count every batch twice.
    live = [child for child in module.modules() if isinstance(child, nn.BatchNorm2d) and child.training]
    saved = [(child.momentum, child.num_batches_tracked) for child in live]
    for child, (_, counter) in zip(live, saved, strict=True):
        child.momentum = 0.0
        child.num_batches_tracked = None if counter is None else counter.clone()
    try:
        yield
    finally:
        for child, (momentum, counter) in zip(live, saved, strict=True):
            child.momentum = momentum
            child.num_batches_tracked = counter
