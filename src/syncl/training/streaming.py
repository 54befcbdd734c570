"""Streaming training: one frame a step, with what is remembered carried from step to step.

No gradient crosses a step. The state is a value that the loop holds and checkpoints; it ends for a stream
whose scene (or part of a scene) changes, as it does in tracking.
"""

import torch
from torch import Tensor, nn

from syncl.structures import Clip
from syncl.trackers.base import Tracker, TrackState
from syncl.trackers.serialisation import put_together, take_apart
from syncl.training.unroll import ClipTraining


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
        content, tensors = take_apart(self.state)
        own = {"content": content, "tensors": tensors}
        if not _distributed():
            return {"processes": [own]}
        states: list[object] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(states, own)
        return {"processes": states}

    def load_state_dict(self, saved: dict[str, object]) -> None:
        """Take over this process' state.

        Raises:
            ValueError: if the checkpoint is of another number of processes or streams, or of another version.
            SynclError: if its state is not one that this version knows.
        """
        states = saved["processes"]
        rank, count = 0, 1
        if _distributed():
            rank, count = torch.distributed.get_rank(), torch.distributed.get_world_size()
        if not isinstance(states, list) or len(states) != count:
            found = len(states) if isinstance(states, list) else 0
            raise ValueError(f"streams of {found} processes cannot go on in {count}")
        own = states[rank]
        if not isinstance(own, dict) or own.keys() != {"content", "tensors"}:
            raise ValueError("its streams were saved by another version of syncl")
        state = put_together(own["content"], own["tensors"], f"the state of process {rank}")
        if len(state.scenes) != len(self.state.scenes):
            raise ValueError(f"the checkpoint is not of {len(self.state.scenes)} streams a process")
        self.state = state.to(self.state.timestamp_s.device)


def _distributed() -> bool:
    return torch.distributed.is_available() and torch.distributed.is_initialized()
