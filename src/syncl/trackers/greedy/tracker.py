"""Tracking by detection, the yardstick: plain detections tied together by the distance of their centres.

The tracker StreamPETR's authors score their detections with (CenterPoint's greedy one, Yin et al., CVPR
2021, section 4.3): a detection is put back by its velocity to where it was in the frame before, and takes the
nearest free track of its class there. No query lives on; every frame is detected by itself.

Letters: B streams, N tracks, D detections.
"""

from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from syncl.classes import TRACKING_CLASSES
from syncl.detectors.base import Detector
from syncl.errors import SynclError
from syncl.geometry.transforms import rotate_planar, transform_points
from syncl.structures import Frame, Objects, Outcome
from syncl.structures.tensors import TensorStructure, on_host
from syncl.trackers.by_detection import ByDetection, ByDetectionConfig
from syncl.trackers.greedy.pairing import Pairing, next_rows, pair_greedily, pair_optimally
from syncl.trackers.look import Decoded
from syncl.trackers.state import Move, TrackState


@dataclass(frozen=True)
class GreedyConfig(ByDetectionConfig):
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
    """

    min_score: float = 0.25
    gate_m: float = 2.5
    miss_tolerance: int = 3
    association: Literal["greedy", "hungarian"] = "greedy"
    motion: Literal["predicted", "observed"] = "predicted"
    first_gate_m: float = 5.0
    coasting: Literal["last_interval", "elapsed"] = "last_interval"
    classes: tuple[str, ...] = TRACKING_CLASSES

    def build(self, detector: Detector) -> "Greedy":
        """Build the module around a detector."""
        return Greedy(detector, self)


@dataclass(frozen=True)
class CentreTracks(TensorStructure):
    """The tracks, in the original's order: seen again, new, missed. All in the present vehicle frame.

    Attributes:
        centres: [B, N, 3] metres, when last seen or where they coasted to.
        velocities: [B, N, 2] m/s.
        labels: [B, N] int64 class index.
        sightings: [B, N] int64 frames the track was seen in.
        strides: [B, N, 2] metres the track moves on in a frame it is missed in.
        elapsed_s: [B] float64 time since the frame before; 0 in a scene's first frame.
    """

    centres: Tensor
    velocities: Tensor
    labels: Tensor
    sightings: Tensor
    strides: Tensor
    elapsed_s: Tensor


class Greedy(ByDetection):
    """See the module's docstring."""

    config: GreedyConfig
    keeps = CentreTracks

    def __init__(self, detector: Detector, config: GreedyConfig) -> None:
        super().__init__(detector, config)
        tracked = [name in config.classes for name in detector.classes]
        if not any(tracked):
            raise SynclError(
                f"none of the classes to track ({', '.join(config.classes)}) is one of the detector's "
                f"({', '.join(detector.classes)}); set model.tracker.classes"
            )
        # On the host, as all of the association.
        self.tracked = torch.tensor(tracked, device="cpu")

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        nobody, nowhere = state.identities, next(self.parameters()).new_zeros(streams, 0, 2)
        tracks = CentreTracks(
            centres=nowhere.new_zeros(streams, 0, 3),
            velocities=nowhere,
            labels=nobody,
            sightings=nobody,
            strides=nowhere,
            elapsed_s=state.timestamp_s,
        )
        return replace(state, queries=None, own=tracks)

    def propagate(self, state: TrackState, move: Move) -> TrackState:
        """Move tracks by the vehicle's motion alone; the association allows for their own."""
        tracks = state.owned(CentreTracks)
        moved = replace(
            tracks,
            centres=transform_points(move.now_from_before, tracks.centres),
            velocities=rotate_planar(move.now_from_before, tracks.velocities),
            strides=rotate_planar(move.now_from_before, tracks.strides),
            elapsed_s=move.elapsed_s,
        )
        return replace(state, own=moved)

    def associate(self, _frame: Frame, state: TrackState, detections: Objects) -> tuple[Objects, TrackState]:
        """See `ByDetection.associate`; objects are on the host."""
        memory, device = state.detector_memory, state.alive.device
        objects, state = self._tied(*on_host(replace(state, detector_memory=None), detections))
        return objects, replace(state.to(device, non_blocking=True), detector_memory=memory)

    def _tied(self, state: TrackState, detections: Objects) -> tuple[Objects, TrackState]:
        """The same on the host."""
        config, tracks = self.config, state.owned(CentreTracks)
        usable = detections.valid & self.tracked[detections.labels] & (detections.scores >= config.min_score)
        seconds = tracks.elapsed_s.to(detections.boxes.dtype)[:, None, None]
        centres, velocities = detections.boxes[..., :2], detections.boxes[..., 7:9]
        velocities = torch.nan_to_num(velocities, 0.0, 0.0, 0.0)
        coming = tracks.velocities * seconds
        if config.motion == "observed":
            sought, expected = centres, tracks.centres[..., :2] + coming
        else:
            sought, expected = centres - velocities * seconds, tracks.centres[..., :2]
        pairings = self._pair(sought, detections.labels, usable, expected, state)
        rows = next_rows(pairings)

        if config.motion == "observed":
            # The mean velocity since the track was last seen; a new track has none.
            off = (rows.take(centres) - rows.held(expected)) / seconds.clamp(min=1e-3)
            observed = rows.held(tracks.velocities) + off / (1 + rows.held(state.misses))[..., None]
            seen_velocities = torch.where(rows.paired[..., None], observed, 0.0)
        else:
            seen_velocities = rows.take(velocities)
        onward = tracks.strides if config.coasting == "last_interval" else coming
        passed = torch.cat([tracks.centres[..., :2] + onward, tracks.centres[..., 2:]], dim=-1)
        identities = torch.where(
            rows.born, state.next_identity[:, None] + rows.born.cumsum(1) - 1, rows.held(state.identities)
        )
        boxes = rows.take(detections.boxes)
        boxes = torch.cat([boxes[..., :7], seen_velocities], dim=-1)
        objects = Objects(
            boxes, rows.take(detections.labels), rows.take(detections.scores), identities, rows.seen
        )
        tracks = CentreTracks(
            centres=rows.mixed(detections.boxes[..., :3], passed),
            velocities=torch.where(rows.seen[..., None], seen_velocities, rows.held(tracks.velocities)),
            labels=rows.mixed(detections.labels, tracks.labels),
            sightings=torch.where(rows.born, 1, rows.held(tracks.sightings) + rows.seen.long()),
            strides=torch.where(rows.seen[..., None], seen_velocities * seconds, rows.held(tracks.strides)),
            elapsed_s=tracks.elapsed_s,
        )
        state = replace(
            state,
            identities=identities.masked_fill(~rows.valid, -1),
            misses=torch.where(rows.seen, 0, rows.held(state.misses) + 1),
            alive=rows.valid,
            next_identity=state.next_identity + rows.born.sum(1),
            own=tracks,
        )
        return objects, state

    def _pair(
        self, sought: Tensor, labels: Tensor, usable: Tensor, expected: Tensor, state: TrackState
    ) -> list[Pairing]:
        """Each stream's pairing among all detection and track rows."""
        config, known_tracks = self.config, state.owned(CentreTracks)
        ends = state.misses + 1 >= config.miss_tolerance
        gates = torch.full_like(expected[..., 0], config.gate_m)
        if config.motion == "observed":
            gates = torch.where(known_tracks.sightings < 2, config.first_gate_m, gates)
        detections = torch.cat([sought, torch.stack([labels, usable, usable, usable], dim=-1)], dim=-1)
        tracks = torch.stack([known_tracks.labels, state.alive, ends, gates], dim=-1)
        table = torch.cat([detections, torch.cat([expected, tracks], dim=-1)], dim=1)
        host = table.double().numpy()
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

    def carry(self, decoded: Decoded, _outcome: Outcome, /) -> TrackState:
        """Nothing lives on: there is nothing to train here."""
        return decoded.state
