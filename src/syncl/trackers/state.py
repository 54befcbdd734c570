"""What lasts between frames: the state of all trackers, its tracks as decoder queries, and how streams move.

Letters: B streams, N track slots, D channels.
"""

from dataclasses import dataclass, replace
from typing import Self, TypeVar

import torch
from torch import Tensor

from syncl.detectors.base import DetectorMemory
from syncl.errors import SynclError
from syncl.structures.tensors import TensorStructure

Own = TypeVar("Own", bound=TensorStructure)


@dataclass(frozen=True)
class TrackQueries(TensorStructure):
    """The track queries of B streams, a row a slot.

    Attributes:
        embeddings: [B, N, D] content.
        positions: [B, N, D] positional part.
        codes: [B, N, 10] box codes of the last frame. The centre is the reference point, in metres of the
            vehicle frame of the frame the state has entered; heading and velocity keep the axes they were
            predicted in.
    """

    embeddings: Tensor
    positions: Tensor
    codes: Tensor

    @property
    def references(self) -> Tensor:
        """[B, N, 3] reference points, metres."""
        return self.codes[..., :3]

    @property
    def velocities(self) -> Tensor:
        """[B, N, 2] m/s."""
        return self.codes[..., 8:10]

    def moved_to(self, references: Tensor) -> Self:
        """The same at other reference points [B, N, 3]."""
        return replace(self, codes=torch.cat([references, self.codes[..., 3:]], dim=-1))


@dataclass(frozen=True)
class TrackState(TensorStructure):
    """Everything that lasts between frames of B streams. A value: it can be saved, restored and moved.

    Attributes:
        identities: [B, N] int64; in training the annotation's identity, -1 = a query without an object.
        misses: [B, N] int64 frames with a low score, for the life cycle.
        alive: [B, N] bool; False = empty slot.
        next_identity: [B] int64 the identity the next birth gets.
        global_from_vehicle: [B, 4, 4] float64 pose of the last frame.
        timestamp_s: [B] float64 time of the last frame.
        scenes: B scene names of the last frame; "" before the first.
        detector_memory: what the detector remembers of the same streams; None for detectors without memory.
        queries: the tracks as decoder queries; None from trackers whose tracks are no rows of the decoder.
        own: what one tracker's method needs besides, a structure of its own.
    """

    identities: Tensor
    misses: Tensor
    alive: Tensor
    next_identity: Tensor
    global_from_vehicle: Tensor
    timestamp_s: Tensor
    scenes: tuple[str, ...]
    detector_memory: DetectorMemory | None = None
    queries: TrackQueries | None = None
    own: TensorStructure | None = None

    @property
    def count(self) -> int:
        """Number of track slots N."""
        return self.identities.shape[1]

    @property
    def track_queries(self) -> TrackQueries:
        """The tracks as decoder queries.

        Raises:
            SynclError: if the state is of a tracker whose tracks are none.
        """
        if self.queries is None:
            raise SynclError(
                "this state has no track queries, so it is another tracker's; start from this tracker's "
                "initial_state"
            )
        return self.queries

    def owned(self, kind: type[Own]) -> Own:
        """The tracker's own part of the state.

        Raises:
            SynclError: if the state is another tracker's.
        """
        if not isinstance(self.own, kind):
            raise SynclError(
                f"this state has {type(self.own).__name__} where {kind.__name__} is needed, so it is another "
                "tracker's; start from this tracker's initial_state"
            )
        return self.own


@dataclass(frozen=True)
class Move(TensorStructure):
    """From the frame before to the present one.

    Attributes:
        now_from_before: [B, 4, 4] float64 vehicle frame to vehicle frame.
        elapsed_s: [B] float64 seconds since; 0 where a stream starts anew.
        same_scene: [B] bool.
        continued: [B] bool; False where a stream starts anew, by a new scene or after too long a silence.
    """

    now_from_before: Tensor
    elapsed_s: Tensor
    same_scene: Tensor
    continued: Tensor
