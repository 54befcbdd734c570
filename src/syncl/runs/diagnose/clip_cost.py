"""Time and memory of training clips under several strategies, on the model and frames at hand."""

import statistics
import time
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.structures import Clip
from syncl.trackers import Tracker
from syncl.training.strategies import StrategyConfig
from syncl.training.unroll import ClipTraining, UnrollConfig


@dataclass(frozen=True)
class ClipCost:
    """What a forward and backward pass over a clip takes.

    Attributes:
        seconds: median wall time.
        mebibytes: of tensors kept for the backward pass on a CPU; of peak device memory on a GPU.
    """

    seconds: float
    mebibytes: float


def clip_cost(
    tracker: Tracker,
    strategies: Mapping[str, StrategyConfig],
    unroll: UnrollConfig,
    clip: Clip,
    steps: int,
) -> dict[str, ClipCost]:
    """The cost of a clip under each strategy; they take turns, after one clip each that does not count.

    Weights stay as they are; the tracker is left in training mode.
    """
    device = clip.frames[0].images.device
    modules = {
        name: ClipTraining(tracker, config.build(tracker.detector.dim), unroll).to(device)
        for name, config in strategies.items()
    }
    seconds: dict[str, list[float]] = {name: [] for name in strategies}
    mebibytes: dict[str, list[float]] = {name: [] for name in strategies}
    for _ in range(steps + 1):
        for name, module in modules.items():
            took, kept = _once(module, clip, device)
            seconds[name].append(took)
            mebibytes[name].append(kept)
    return {
        name: ClipCost(statistics.median(seconds[name][1:]), statistics.median(mebibytes[name][1:]))
        for name in strategies
    }


def _once(module: ClipTraining, clip: Clip, device: torch.device) -> tuple[float, float]:
    """Seconds and MiB of one pass forth and back."""
    kept: dict[int, int] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in module.parameters()}

    def keep(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    if device.type == "cuda":
        torch.cuda.synchronize(device)
        torch.cuda.reset_peak_memory_stats(device)
    started = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        losses = module(clip)
    losses["total"].backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    took = time.perf_counter() - started
    module.zero_grad()
    total = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else sum(kept.values())
    return took, total / 2**20
