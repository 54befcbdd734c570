"""Streaming training: one frame a step, with what is remembered carried from step to step.

No gradient crosses a step. The state is a value that the loop holds and checkpoints; it ends for a stream
whose scene (or part of a scene) changes, as it does in tracking.
"""

from dataclasses import fields

import torch
from torch import Tensor, nn

from syncl.detectors.object_memory import ObjectMemory
from syncl.detectors.past_frames import FrameView, PastFrames
from syncl.structures import Clip
from syncl.structures.tensors import TensorStructure
from syncl.trackers.base import Tracker, TrackState
from syncl.trackers.forecasts import Forecasts
from syncl.training.unroll import ClipTraining

_STRUCTURES: dict[str, type[TensorStructure]] = {
    structure.__name__: structure
    for structure in (TrackState, ObjectMemory, PastFrames, FrameView, Forecasts)
}
_KIND = "structure"


class StreamTraining(nn.Module):
    """The module the trainer optimises in streaming mode."""

    def __init__(self, clips: ClipTraining) -> None:
        super().__init__()
        self.clips = clips

    def forward(self, clip: Clip, state: TrackState) -> tuple[dict[str, Tensor], TrackState]:
        """Losses of the next frames of the streams in `state`, and the detached state behind them."""
        losses, after = self.clips.unroll(clip, state, carry_on=True)
        return losses, after.detach()


class CarriedState:
    """The state of a run's streams between steps, with those of all processes in a checkpoint.

    Attributes:
        state: of this process' streams.
    """

    def __init__(self, tracker: Tracker, streams: int) -> None:
        self.state = tracker.initial_state(streams)

    def to(self, device: torch.device) -> None:
        """Move the state to a device."""
        self.state = self.state.to(device)

    def state_dict(self) -> dict[str, object]:
        """The states of all processes. Called by all of them at the same time."""
        own = to_plain(self.state.to("cpu"))
        if not _distributed():
            return {"processes": [own]}
        states: list[object] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(states, own)
        return {"processes": states}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        """Take over this process' state.

        Raises:
            ValueError: if the checkpoint is of another number of processes.
        """
        states = saved["processes"]
        rank, count = 0, 1
        if _distributed():
            rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if not isinstance(states, list) or len(states) != count:
            found = len(states) if isinstance(states, list) else 0
            raise ValueError(f"streams of {found} processes cannot go on in {count}")
        state = from_plain(states[rank])
        if not isinstance(state, TrackState) or len(state.scenes) != len(self.state.scenes):
            raise ValueError(f"the checkpoint is not of {len(self.state.scenes)} streams a process")
        self.state = state.to(self.state.timestamp_s.device)


def to_plain(value: object) -> object:
    """A structure of tensors as nested plain values, which pickle without any class of ours."""
    if isinstance(value, TensorStructure):
        named = {field.name: to_plain(getattr(value, field.name)) for field in fields(value)}  # type: ignore[arg-type]
        return {_KIND: type(value).__name__, **named}
    return value


def from_plain(value: object) -> object:
    """The structure `to_plain` took apart."""
    if isinstance(value, dict):
        parts = {name: from_plain(part) for name, part in value.items() if name != _KIND}
        return _STRUCTURES[value[_KIND]](**parts)
    return value


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
