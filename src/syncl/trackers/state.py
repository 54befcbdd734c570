"""What lasts between frames: the state of all trackers, its tracks as decoder queries, and how streams move.

Letters: B streams, N track slots, D channels.
"""

import math
from dataclasses import dataclass, replace
from typing import Self, TypeVar

import torch
from torch import Tensor

from syncl.detectors.passed import DetectorMemory
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_similarity, transform_points
from syncl.structures import Frame
from syncl.structures.tensors import TensorStructure

# Between two frames of a scene: no camera is faster, no drive that long.
_SHORTEST_S, _LONGEST_S = 1e-3, 1e5

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

    def moved_on(self, step: Tensor, move: "Move") -> Self:
        """The state with its track queries `step` further, seen from the present vehicle frame.

        Args:
            step: [B, N, 2] metres in the ground plane of the frame before.
            move: to the present frame.
        """
        queries = self.track_queries
        references = queries.references
        moved = torch.cat([references[..., :2] + step, references[..., 2:]], dim=-1)
        return replace(self, queries=queries.moved_to(transform_points(move.now_from_before, moved)))


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

    @classmethod
    def between(cls, state: TrackState, frame: Frame, longest_gap_s: float | None) -> Self:
        """How far the streams went since their frame before, all of a step that is decided on the host.

        Raises:
            SynclError: see `look`.
        """
        longest_s = math.inf if longest_gap_s is None else longest_gap_s
        same = [old == new for old, new in zip(state.scenes, frame.scenes, strict=True)]
        # One of a step's host round trips; a device cannot raise.
        elapsed_s = (frame.timestamp_s - state.timestamp_s).tolist()
        for stream, (is_same, elapsed) in enumerate(zip(same, elapsed_s)):
            if is_same and elapsed <= 0:
                raise SynclError(
                    f"sample {frame.samples[stream]} of scene {frame.scenes[stream]} is not later than the "
                    f"frame before it ({elapsed:+.3f} s): frames must come in time order; start a new scene "
                    "otherwise"
                )
            if is_same and not _SHORTEST_S <= elapsed <= _LONGEST_S:
                raise SynclError(
                    f"sample {frame.samples[stream]} of scene {frame.scenes[stream]} is {elapsed:,.6g} s "
                    "later than the frame before it; timestamp_s is in seconds, not in milli- or microseconds"
                )
        going_on = [is_same and elapsed <= longest_s for is_same, elapsed in zip(same, elapsed_s)]
        device = frame.timestamp_s.device
        continued = torch.tensor(going_on, device=device)
        return cls(
            now_from_before=invert_similarity(frame.global_from_vehicle) @ state.global_from_vehicle,
            elapsed_s=(frame.timestamp_s - state.timestamp_s) * continued,
            same_scene=torch.tensor(same, device=device),
            continued=continued,
        )
