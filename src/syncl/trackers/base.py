"""The contract of trackers and the state that lasts between frames.

    state = tracker.initial_state(streams)
    for frame in stream:
        objects, state = tracker.step(frame, state)

`step` is made of parts that training uses too: `enter` moves the state to a frame, `queries` joins object and
track queries, and a tracker's own rules turn predictions into the next state.

Letters: B streams, N track slots, D channels, S memory slots.
"""

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from syncl.detectors.base import Detector, DetectorMemory, Features
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_similarity, transform_points
from syncl.structures import Frame, Objects, Predictions, Queries
from syncl.structures.tensors import TensorStructure
from syncl.trackers.forecasts import Forecasts, Reasoned


@dataclass(frozen=True)
class TrackState(TensorStructure):
    """Everything that lasts between frames of B streams. A value: it can be saved, restored and moved.

    Attributes:
        embeddings: [B, N, D] content of the track queries.
        positions: [B, N, D] positional part.
        references: [B, N, 3] metres, vehicle frame of the last frame.
        velocities: [B, N, 2] m/s, vehicle frame of the last frame.
        identities: [B, N] int64; in training the annotation's identity, -1 = a query without an object.
        misses: [B, N] int64 frames with a low score, for the life cycle.
        alive: [B, N] bool; False = empty slot.
        memory: [B, N, S, D] past embeddings, newest last (S = 0 without a memory bank).
        memory_valid: [B, N, S] bool.
        save_countdown: [B, N] int64 frames until the memory takes the next embedding.
        next_identity: [B] int64 the identity the next birth gets.
        global_from_vehicle: [B, 4, 4] float64 pose of the last frame.
        timestamp_s: [B] float64 time of the last frame.
        scenes: B scene names of the last frame; "" before the first.
        detector_memory: what the detector remembers of the same streams; None for detectors without memory.
        log_sizes: [B, N, 3] as in `Queries`; None for detectors whose queries bring no sizes.
        forecasts: what is expected of the tracks; None from trackers that do not forecast.
    """

    embeddings: Tensor
    positions: Tensor
    references: Tensor
    velocities: Tensor
    identities: Tensor
    misses: Tensor
    alive: Tensor
    memory: Tensor
    memory_valid: Tensor
    save_countdown: Tensor
    next_identity: Tensor
    global_from_vehicle: Tensor
    timestamp_s: Tensor
    scenes: tuple[str, ...]
    detector_memory: DetectorMemory | None = None
    log_sizes: Tensor | None = None
    forecasts: Forecasts | None = None

    @property
    def count(self) -> int:
        """Number of track slots N."""
        return self.identities.shape[1]

    def as_queries(self) -> Queries:
        """The track queries."""
        return Queries(self.embeddings, self.positions, self.references, self.alive, 0, self.log_sizes)


class Tracker(nn.Module, ABC):
    """Base of all trackers.

    Attributes:
        detector: the detector whose queries it carries.
        memory_slots: S of the state's memory.
        longest_gap_s: tracks end where a stream was silent for longer; None = never. Identities go on
            counting, so that none is used twice in a scene.
        forecast_step_s: seconds from one forecast centre of reported objects to the next; None from trackers
            that do not forecast.
    """

    detector: Detector
    memory_slots: int = 0
    longest_gap_s: float | None = None
    forecast_step_s: float | None = None

    def initial_state(self, streams: int = 1) -> TrackState:
        """The state of `streams` streams that have seen nothing, on the tracker's device."""
        parameter = next(self.parameters())
        dim = self.detector.dim

        def zeros(*shape: int, dtype: torch.dtype = parameter.dtype) -> Tensor:
            return torch.zeros(streams, *shape, dtype=dtype, device=parameter.device)

        pose = torch.eye(4, dtype=torch.float64, device=parameter.device).expand(streams, 4, 4)
        return TrackState(
            embeddings=zeros(0, dim),
            positions=zeros(0, dim),
            references=zeros(0, 3),
            velocities=zeros(0, 2),
            identities=zeros(0, dtype=torch.int64),
            misses=zeros(0, dtype=torch.int64),
            alive=zeros(0, dtype=torch.bool),
            memory=zeros(0, self.memory_slots, dim),
            memory_valid=zeros(0, self.memory_slots, dtype=torch.bool),
            save_countdown=zeros(0, dtype=torch.int64),
            next_identity=zeros(dtype=torch.int64),
            global_from_vehicle=pose,
            timestamp_s=zeros(dtype=torch.float64),
            scenes=("",) * streams,
            detector_memory=self.detector.initial_memory(streams),
            log_sizes=zeros(0, 3) if self.detector.carries_sizes else None,
        )

    def enter(self, state: TrackState, frame: Frame) -> TrackState:
        """Move the state to a frame: the tracks' own motion, then the change of the vehicle's own frame.

        Streams whose scene changed start anew: their tracks end, identities count from 0, and the detector
        forgets them. After a gap of more than `longest_gap_s` within a scene the same happens, but identities
        go on counting.

        Raises:
            SynclError: if a frame of the same scene is not later than the one before, naming both times.
        """
        same, continued = self._continued(state, frame)
        elapsed_s = (frame.timestamp_s - state.timestamp_s) * continued
        moved = state.references
        step = self.motion(state, elapsed_s.to(moved.dtype))
        moved = torch.cat([moved[..., :2] + step, moved[..., 2:]], dim=-1)
        now_from_before = invert_similarity(frame.global_from_vehicle) @ state.global_from_vehicle
        references = transform_points(now_from_before, moved)
        memory, forecasts = state.detector_memory, state.forecasts
        return replace(
            state,
            references=references,
            positions=self.detector.track_positions(state.positions, references),
            alive=state.alive & continued[:, None],
            next_identity=state.next_identity * same,
            global_from_vehicle=frame.global_from_vehicle,
            timestamp_s=frame.timestamp_s,
            scenes=frame.scenes,
            detector_memory=None if memory is None else memory.keep(continued),
            forecasts=None if forecasts is None else forecasts.seen_from(now_from_before, references),
        )

    def _continued(self, state: TrackState, frame: Frame) -> tuple[Tensor, Tensor]:
        """[B] bool twice: streams still in the scene of the frame before, and those not silent for too long.

        Raises:
            SynclError: see `enter`.
        """
        longest_s = math.inf if self.longest_gap_s is None else self.longest_gap_s
        same = [old == new for old, new in zip(state.scenes, frame.scenes, strict=True)]
        # One of a step's host round trips; a device cannot raise.
        elapsed_s = (frame.timestamp_s - state.timestamp_s).tolist()
        for stream, (is_same, elapsed) in enumerate(zip(same, elapsed_s)):
            if not math.isfinite(elapsed):
                raise SynclError(f"sample {frame.samples[stream]}: its timestamp is not a finite number")
            if is_same and elapsed <= 0:
                raise SynclError(
                    f"sample {frame.samples[stream]} of scene {frame.scenes[stream]} is not later than the "
                    f"frame before it ({elapsed:+.3f} s): frames must come in time order; start a new scene "
                    "otherwise"
                )
        continued = [is_same and elapsed <= longest_s for is_same, elapsed in zip(same, elapsed_s)]
        device = frame.timestamp_s.device
        return torch.tensor(same, device=device), torch.tensor(continued, device=device)

    def motion(self, state: TrackState, elapsed_s: Tensor) -> Tensor:
        """How far tracks move by themselves until the next frame: [B, N, 2] metres, old vehicle frame.

        Args:
            state: after the last frame.
            elapsed_s: [B] seconds since; 0 where a new scene begins.
        """
        return state.velocities * elapsed_s[:, None, None]

    def queries(self, state: TrackState, features: Features) -> Queries:
        """Object queries followed by the state's track queries."""
        return self.detector.initial_queries(features).with_tracks(state.as_queries())

    @torch.no_grad()
    def step(self, frame: Frame, state: TrackState) -> tuple[Objects, TrackState]:
        """Track one frame.

        Args:
            frame: B streams at one moment each, on the tracker's device.
            state: of the same streams, from `initial_state` or the step before.

        Returns:
            The objects reported in this frame and the state after it.
        """
        state = self.enter(state, frame)
        features = self.detector.encode(frame, state.detector_memory)
        queries = self.queries(state, features)
        predictions = self.classify(self.detector.decode(queries, features)[0])
        reasoned = self.refine(state, queries, predictions)
        state = self.remember(state, frame, features, predictions)
        return self.conclude(state, queries, predictions, reasoned)

    def classify(self, predictions: Predictions) -> Predictions:
        """Predictions with the class logits that tracking goes by.

        They are the detector's, unless a tracker has a class head of its own (`trackers.tracking_head`).
        Training calls it as well, for each decoder group.
        """
        return predictions

    def remember(
        self, state: TrackState, frame: Frame, features: Features, predictions: Predictions
    ) -> TrackState:
        """The state with the detector's memory of the frame, from the standard decoder's predictions."""
        memory = self.detector.remember(state.detector_memory, frame, features, predictions)
        return replace(state, detector_memory=memory)

    def reason(
        self,
        state: TrackState,  # noqa: ARG002
        queries: Queries,  # noqa: ARG002
        predictions: Predictions,  # noqa: ARG002
    ) -> Reasoned | None:
        """What the tracker itself makes of a frame's predictions before its life cycle looks at them.

        Training calls it as well and hands the result to the losses. None from trackers that take predictions
        as they are.

        Args:
            state: the state `queries` was made from.
            queries: of the frame.
            predictions: of the standard decoder.
        """
        return None

    def refine(self, state: TrackState, queries: Queries, predictions: Predictions) -> Reasoned | None:
        """What `conclude` needs of `reason`; the same, unless a tracker reasons about some rows only later.

        Args:
            state: as for `reason`.
            queries: the same.
            predictions: the same.
        """
        return self.reason(state, queries, predictions)

    @abstractmethod
    def conclude(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        reasoned: Reasoned | None = None,
    ) -> tuple[Objects, TrackState]:
        """Turn predictions into reported objects and the next state by the life cycle's rules.

        Args:
            state: the state `queries` was made from.
            queries: of the frame.
            predictions: of the standard decoder.
            reasoned: what `reason` or `refine` made of them.
        """

    @abstractmethod
    def carry_supervised(
        self,
        state: TrackState,
        queries: Queries,
        predictions: Predictions,
        identities: Tensor,
        present: Tensor,
        reasoned: Reasoned | None = None,
    ) -> TrackState:
        """The next state in training, where supervision knows which query holds which object.

        Args:
            state: the state `queries` was made from.
            queries: of the frame.
            predictions: of the standard decoder.
            identities: [B, Q] int64 annotation identity every query is tied to, -1 = none.
            present: [B, Q] bool; whether the query's object is annotated in this frame.
            reasoned: what `reason` made of the predictions.
        """


@runtime_checkable
class TrackerConfig(Protocol):
    """What is asked of a tracker's configuration: a frozen dataclass of plain values that has this."""

    def build(self, detector: Detector) -> Tracker:
        """The tracker around a detector, with fresh weights of its own parts."""
        ...
