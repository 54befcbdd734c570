"""Streaming training: each stream's next frames, with what is remembered carried from step to step.

No gradient crosses a step. The state is a value that the loop holds and checkpoints; it ends for a stream
whose scene (or part of a scene) changes, as it does in tracking.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from syncl.structures import Clip
from syncl.trackers.base import Tracker
from syncl.trackers.serialisation import Plain, put_together, take_apart
from syncl.trackers.state import TrackState
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
    """The state of a run's streams between steps.

    Attributes:
        state: of this process' streams.
    """

    def __init__(self, tracker: Tracker, streams: int) -> None:
        self.state = tracker.initial_state(streams)

    def to(self, device: torch.device) -> None:
        """Move the state to a device."""
        self.state = self.state.to(device)

    def take_apart(self) -> tuple[Plain, dict[str, Tensor]]:
        """The state as JSON values and named tensors."""
        return take_apart(self.state)

    def put_together(self, content: object, tensors: Mapping[str, Tensor], source: str) -> None:
        """Go on from what `take_apart` gave.

        Raises:
            ValueError: if it is of another number of streams.
            SynclError: if it is not a state that this version knows.
        """
        state = put_together(content, tensors, source)
        if len(state.scenes) != len(self.state.scenes):
            raise ValueError(f"the checkpoint is not of {len(self.state.scenes)} streams a process")
        self.state = state.to(self.state.timestamp_s.device)
