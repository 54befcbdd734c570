"""Tracking by detection, the yardstick: plain detections tied together by the distance of their centres.

The tracker StreamPETR's authors score their detections with (CenterPoint's greedy one, Yin et al., CVPR
2021, section 4.3): a detection is put back by its velocity to where it was in the frame before, and takes the
nearest free track of its class there. No query lives on; every frame is detected by itself.

Letters: B streams, N tracks, D detections.
"""

from dataclasses import dataclass, fields, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from syncl.classes import TRACKING_CLASSES
from syncl.detectors.base import Detector, Features
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_rigid, rotate_planar
from syncl.structures import Frame, Objects, Predictions, Queries
from syncl.trackers.base import Tracker, TrackState
from syncl.trackers.centre_association import NextRows, Pairing, pair_greedily, pair_optimally
from syncl.trackers.forecasts import Reasoned
from syncl.trackers.single_frame import best_pairs


@dataclass(frozen=True)
class GreedyConfig:
    """Rules of the association; the defaults are those published with StreamPETR.

    Attributes:
        min_score: detections below it are not looked at.
        gate_m: a detection and a track farther apart do not belong together.
        miss_tolerance: misses after which a track ends.
        association: `greedy` in the order of scores, or `hungarian`, the least total distance.
        motion: `predicted` trusts the detector's velocities. `observed` is for detectors without useful ones:
            a track's velocity is what its centre did between sightings, tracks are put forward instead of
            detections back, and reported velocities are the observed ones.
        first_gate_m: with `observed`, the gate of tracks seen only once, whose velocity nobody knows yet;
            5 m are 36 km/h at 2 Hz.
        coasting: how far a missed track moves on: `last_interval` by its velocity times the interval before
            it was last seen, as published (so a track of a scene's first frame stays where it is); `elapsed`
            by its velocity times the time that passed, which is right for frames that come irregularly.
        classes: names of the classes that are tracked.
        max_detections: how many (query, class) pairs are looked at a frame.
        output_range_m: detections whose centre lies beyond +-this in x or y are not looked at.
        output_height_m: the same for z.
        longest_gap_s: tracks end after a longer silence within a scene; None = never.
    """

    min_score: float = 0.25
    gate_m: float = 2.5
    miss_tolerance: int = 3
    association: Literal["greedy", "hungarian"] = "greedy"
    motion: Literal["predicted", "observed"] = "predicted"
    first_gate_m: float = 5.0
    coasting: Literal["last_interval", "elapsed"] = "last_interval"
    classes: tuple[str, ...] = TRACKING_CLASSES
    max_detections: int = 300
    output_range_m: float = 61.2
    output_height_m: float = 10.0
    longest_gap_s: float | None = None

    def build(self, detector: Detector) -> "Greedy":
        """Build the module around a detector."""
        return Greedy(detector, self)


@dataclass(frozen=True, kw_only=True)
class GreedyState(TrackState):
    """What lasts between frames; `references` and `velocities` are of the tracks' centres.

    Rows are in the original's order: seen again, new, missed. Fields about queries are empty.

    Attributes:
        labels: [B, N] int64 class index.
        sightings: [B, N] int64 frames the track was seen in.
        strides: [B, N, 2] metres the track moves on in a frame it is missed in, vehicle frame.
        elapsed_s: [B] float64 time since the frame before; 0 in a scene's first frame.
    """

    labels: Tensor
    sightings: Tensor
    strides: Tensor
    elapsed_s: Tensor


class Greedy(Tracker):
    """See the module's docstring."""

    tracked: Tensor

    def __init__(self, detector: Detector, config: GreedyConfig) -> None:
        super().__init__()
        self.detector = detector
        self.config = config
        self.longest_gap_s = config.longest_gap_s
        tracked = [name in config.classes for name in detector.classes]
        if not any(tracked):
            raise SynclError(
                f"none of the classes to track ({', '.join(config.classes)}) is one of the detector's "
                f"({', '.join(detector.classes)}); set model.tracker.classes"
            )
        self.register_buffer("tracked", torch.tensor(tracked), persistent=False)

    def initial_state(self, streams: int = 1) -> GreedyState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        return GreedyState(
            **{field.name: getattr(state, field.name) for field in fields(state)},
            labels=state.identities,
            sightings=state.identities,
            strides=state.velocities,
            elapsed_s=state.timestamp_s,
        )

    def enter(self, state: TrackState, frame: Frame) -> GreedyState:
        """Move tracks by the vehicle's motion alone; the association allows for their own."""
        known = _greedy(state)
        at_rest = replace(known, velocities=torch.zeros_like(known.velocities))
        entered = _greedy(super().enter(at_rest, frame))
        same = [old == new for old, new in zip(known.scenes, frame.scenes)]
        elapsed_s = frame.timestamp_s - known.timestamp_s
        continued = torch.tensor(same, device=elapsed_s.device)
        if self.longest_gap_s is not None:
            continued = continued & (elapsed_s <= self.longest_gap_s)
        now_from_before = invert_rigid(frame.global_from_vehicle) @ known.global_from_vehicle
        return replace(
            entered,
            positions=known.positions,
            velocities=rotate_planar(now_from_before, known.velocities),
            strides=rotate_planar(now_from_before, known.strides),
            elapsed_s=torch.where(continued, elapsed_s, 0.0),
        )

    def queries(self, state: TrackState, features: Features) -> Queries:  # noqa: ARG002
        """Object queries alone: tracks have no part in detection."""
        return self.detector.initial_queries(features)

    def conclude(
        self,
        state: TrackState,
        queries: Queries,  # noqa: ARG002
        predictions: Predictions,
        reasoned: Reasoned | None = None,  # noqa: ARG002
    ) -> tuple[Objects, GreedyState]:
        """Detect as `SingleFrame` does, then associate."""
        config = self.config
        detections = best_pairs(
            predictions,
            config.max_detections,
            config.output_range_m,
            config.output_height_m,
            self.detector.boxes(predictions.codes[-1]),
        )
        return self.associate(_greedy(state), detections)

    def associate(self, state: GreedyState, detections: Objects) -> tuple[Objects, GreedyState]:
        """Tie the detections of a frame to the tracks of a state that has entered it.

        Args:
            state: from `enter`.
            detections: [B, D]; the first ones choose first. Their identities are not looked at.

        Returns:
            The detections that are tracks now, and the state after the frame.
        """
        config = self.config
        usable = detections.valid & self.tracked[detections.labels] & (detections.scores >= config.min_score)
        seconds = state.elapsed_s.to(detections.boxes.dtype)[:, None, None]
        centres, velocities = detections.boxes[..., :2], detections.boxes[..., 7:9]
        velocities = torch.nan_to_num(velocities, 0.0, 0.0, 0.0)
        coming = state.velocities * seconds
        if config.motion == "observed":
            sought, expected = centres, state.references[..., :2] + coming
        else:
            sought, expected = centres - velocities * seconds, state.references[..., :2]
        pairings = self._pair(sought, detections.labels, usable, expected, state)
        rows = NextRows.of(pairings, usable.device)

        if config.motion == "observed":
            # The mean velocity since the track was last seen; a new track has none.
            off = (rows.take(centres) - rows.held(expected)) / seconds.clamp(min=1e-3)
            observed = rows.held(state.velocities) + off / (1 + rows.held(state.misses))[..., None]
            seen_velocities = torch.where(rows.paired[..., None], observed, 0.0)
        else:
            seen_velocities = rows.take(velocities)
        onward = state.strides if config.coasting == "last_interval" else coming
        passed = torch.cat([state.references[..., :2] + onward, state.references[..., 2:]], dim=-1)
        identities = torch.where(
            rows.born, state.next_identity[:, None] + rows.born.cumsum(1) - 1, rows.held(state.identities)
        )
        boxes = rows.take(detections.boxes)
        boxes = torch.cat([boxes[..., :7], seen_velocities], dim=-1)
        objects = Objects(
            boxes, rows.take(detections.labels), rows.take(detections.scores), identities, rows.seen
        )
        nothing = boxes.new_zeros(*identities.shape, 0)
        state = replace(
            state,
            embeddings=nothing,
            positions=nothing,
            references=rows.mixed(detections.boxes[..., :3], passed),
            velocities=torch.where(rows.seen[..., None], seen_velocities, rows.held(state.velocities)),
            identities=identities.masked_fill(~rows.valid, -1),
            misses=torch.where(rows.seen, 0, rows.held(state.misses) + 1),
            alive=rows.valid,
            memory=boxes.new_zeros(*identities.shape, 0, state.memory.shape[-1]),
            memory_valid=rows.valid.new_zeros(*identities.shape, 0),
            save_countdown=torch.zeros_like(identities),
            next_identity=state.next_identity + rows.born.sum(1),
            labels=rows.mixed(detections.labels, state.labels),
            sightings=torch.where(rows.born, 1, rows.held(state.sightings) + rows.seen.long()),
            strides=torch.where(rows.seen[..., None], seen_velocities * seconds, rows.held(state.strides)),
        )
        return objects, state

    def _pair(
        self, sought: Tensor, labels: Tensor, usable: Tensor, expected: Tensor, state: GreedyState
    ) -> list[Pairing]:
        """Each stream's pairing among all detection and track rows, in one transfer from the device."""
        config = self.config
        ends = state.misses + 1 >= config.miss_tolerance
        gates = torch.full_like(expected[..., 0], config.gate_m)
        if config.motion == "observed":
            gates = torch.where(state.sightings < 2, config.first_gate_m, gates)
        detections = torch.cat([sought, torch.stack([labels, usable, usable, usable], dim=-1)], dim=-1)
        tracks = torch.stack([state.labels, state.alive, ends, gates], dim=-1)
        table = torch.cat([detections, torch.cat([expected, tracks], dim=-1)], dim=1)
        host = table.to("cpu", torch.float64).numpy()
        count = sought.shape[1]
        pairings = []
        for stream in host:
            seen = np.flatnonzero(stream[:count, 3])
            known = count + np.flatnonzero(stream[count:, 3])
            one, other = stream[seen][:, None], stream[known][None]
            distance = np.linalg.norm(one[..., :2] - other[..., :2], axis=-1)
            allowed = (one[..., 2] == other[..., 2]) & (distance <= other[..., 5])
            pair = pair_greedily if config.association == "greedy" else pair_optimally
            local = pair(distance, allowed)
            missed = local.missed[stream[known[local.missed], 4] == 0]
            tracks_of = known - count
            pairings.append(
                Pairing(seen[local.detections], tracks_of[local.tracks], seen[local.born], tracks_of[missed])
            )
        return pairings

    def carry_supervised(
        self,
        state: TrackState,
        queries: Queries,  # noqa: ARG002
        predictions: Predictions,  # noqa: ARG002
        identities: Tensor,  # noqa: ARG002
        present: Tensor,  # noqa: ARG002
        reasoned: Reasoned | None = None,  # noqa: ARG002
    ) -> TrackState:
        """Nothing lives on: there is nothing to train here."""
        return state


def _greedy(state: TrackState) -> GreedyState:
    if not isinstance(state, GreedyState):
        raise TypeError(f"Greedy goes on from a GreedyState, got {type(state).__name__}")
    return state
