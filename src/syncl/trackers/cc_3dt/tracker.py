"""CC-3DT: tracking by detection across cameras (Fischer et al., CoRL 2022, arXiv 2212.01247).

Boxes of all cameras are pooled, each gets an embedding of what it looks like in the camera that sees most of
it, and one association a frame ties them to tracks in the global frame by appearance, motion and depth order.

Letters: B streams, C cameras, D detections, N tracks, K backdrops, E channels of embeddings.
"""

from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from torch import Tensor

from syncl.classes import CLASS_RANGE_M
from syncl.detectors.base import Detector
from syncl.errors import SynclError
from syncl.geometry.transforms import invert_similarity, rotate_planar, transform_points
from syncl.structures import Annotations, Frame, Objects, Outcome
from syncl.structures.tensors import TensorStructure, on_host, padded
from syncl.trackers.by_detection import ByDetection, ByDetectionConfig
from syncl.trackers.cc_3dt.appearance import AppearanceConfig
from syncl.trackers.cc_3dt.association import AssociationConfig, Detected, image_overlap
from syncl.trackers.cc_3dt.embedded_boxes import EmbeddedBoxes, sampled
from syncl.trackers.cc_3dt.memory import (
    Backdrops,
    BoxTracks,
    Decided,
    MemoryConfig,
    decide,
    lived_on,
    nothing_remembered,
)
from syncl.trackers.cc_3dt.motion import Kalman, Motion
from syncl.trackers.cc_3dt.sightings import Sightings, largest, sighted, sightings
from syncl.trackers.cc_3dt.velo_lstm import VeloLstmMotion
from syncl.trackers.look import Decoded
from syncl.trackers.state import Move, TrackState

# Below any object's; no box is reported with less.
_SMALLEST_M = 0.01


@dataclass(frozen=True)
class Cc3dtConfig(ByDetectionConfig):
    """CC-3DT's settings; the defaults are those published for BEVFormer's detections, without appearance.

    Attributes:
        association: who belongs to whom.
        memory: how tracks are kept.
        motion: `kf3d`, a Kalman filter of constant velocity, or `velo_lstm`, which is trained.
        appearance: what boxes look like, by an image network of its own; None = place and motion alone.
        min_score: detections not above it are not looked at.
    """

    association: AssociationConfig = field(default_factory=AssociationConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    motion: Literal["kf3d", "velo_lstm"] = "kf3d"
    appearance: AppearanceConfig | None = None
    min_score: float = 0.05

    def build(self, detector: Detector) -> "Cc3dt":
        """Build the module around a detector."""
        return Cc3dt(detector, self)


def cc_3dt_plus_plus() -> Cc3dtConfig:
    """The settings of CC-3DT++ (Baumann et al. 2024), which trusts the detector's velocities."""
    return Cc3dtConfig(
        AssociationConfig(match_affinity=0.3, overlap=0.3, box_weight=0.75, match_velocities=True)
    )


@dataclass(frozen=True)
class Cc3dtMemory(TensorStructure):
    """What CC-3DT keeps of B streams, padded.

    Attributes:
        tracks: [B, N, ...].
        backdrops: [B, K, ...].
        backdrop_valid: [B, K] bool.
        frame: [B] int64 number of the frame in its scene; -1 before the first.
        looks: in training, what the objects of the frame before look like.
    """

    tracks: BoxTracks
    backdrops: Backdrops
    backdrop_valid: Tensor
    frame: Tensor
    looks: EmbeddedBoxes


class Cc3dt(ByDetection):
    """See the module's docstring."""

    config: Cc3dtConfig
    keeps = Cc3dtMemory
    ranges_m: Tensor

    def __init__(self, detector: Detector, config: Cc3dtConfig) -> None:
        super().__init__(detector, config)
        self.motion: Motion = Kalman() if config.motion == "kf3d" else VeloLstmMotion()
        self.appearance = None if config.appearance is None else config.appearance.build()
        self.looks = self.appearance is not None
        # Classes of one's own are evaluated nowhere; they count as far as cars.
        ranges = [float(CLASS_RANGE_M.get(name, CLASS_RANGE_M["car"])) for name in detector.classes]
        self.register_buffer("ranges_m", torch.tensor(ranges), persistent=False)

    @property
    def channels(self) -> int:
        """Channels E of embeddings; 0 without appearance."""
        return 0 if self.appearance is None else self.appearance.dim

    def close_eyes(self) -> None:
        """See `ByDetection.close_eyes`."""
        super().close_eyes()
        self.appearance = None

    def initial_state(self, streams: int = 1) -> TrackState:
        """See `Tracker.initial_state`."""
        state = super().initial_state(streams)
        tracks, backdrops = nothing_remembered(self.motion, self.channels, next(self.parameters()))
        memory = Cc3dtMemory(
            padded([tracks] * streams),
            padded([backdrops] * streams),
            state.alive,
            torch.full_like(state.next_identity, -1),
            EmbeddedBoxes.none(streams, self.channels, next(self.parameters())),
        )
        return replace(state, queries=None, own=memory)

    def propagate(self, state: TrackState, move: Move) -> TrackState:
        """Count the frame; places are those of the global frame, which nothing moves."""
        memory = state.owned(Cc3dtMemory)
        frame = torch.where(move.continued, memory.frame + 1, 0)
        valid = memory.backdrop_valid & move.continued[:, None]
        return replace(state, own=replace(memory, frame=frame, backdrop_valid=valid))

    def associate(self, frame: Frame, state: TrackState, detections: Objects) -> tuple[Objects, TrackState]:
        """See `ByDetection.associate`. Decided is on the host.

        There the objects stay, and what becomes of the tracks is computed, unless their motion is learned:
        then both are where its weights are.
        """
        memory, device = state.owned(Cc3dtMemory), state.alive.device
        streams = range(frame.batch_size)
        predicted = [
            self.motion.predict(memory.tracks.motion.map(lambda rows, s=stream: rows[s]))  # type: ignore[misc]
            for stream in streams
        ]
        moving, steps = padded([state for state, _ in predicted]), tuple(step for _, step in predicted)
        looks = tuple(self._looks_anywhere(frame, detections, stream) for stream in streams)
        tracks = replace(memory.tracks, motion=moving)
        learned = next(self.motion.parameters(), None) is not None
        told = replace(tracks, motion=moving.map(_emptied)) if learned else tracks
        known, found, at, ranges_m, steps, looks = on_host(
            replace(state, detector_memory=None, own=replace(memory, tracks=told)),
            detections,
            _calibration(frame),
            self.ranges_m,
            steps,
            looks,
        )
        here = known.owned(Cc3dtMemory)
        lived, decided, seen = [], [], []
        for stream in streams:
            slots, backdrops = known.alive[stream].nonzero()[:, 0], here.backdrop_valid[stream]
            number = int(here.frame[stream])
            detected = self.detected(frame, at, found, ranges_m, looks[stream], stream)
            choice = decide(
                here.tracks.map(lambda rows, s=stream, r=slots: rows[s][r]),  # type: ignore[misc]
                steps[stream][slots],
                here.backdrops.map(lambda rows, s=stream, r=backdrops: rows[s][r]),  # type: ignore[misc]
                number,
                int(known.next_identity[stream]),
                detected,
                self.config.association,
                self.config.memory,
            )
            decided.append(choice)
            # Of all slots, and without what no device needs to know.
            choice = replace(
                choice,
                sighted=slots[choice.sighted],
                missed=slots[choice.missed],
                affinities=choice.affinities[:0],
            )
            held = tracks if learned else here.tracks
            place = held.identities.device
            detected, choice = detected.to(place, True), choice.to(place, True)
            held = held.map(lambda rows, s=stream: rows[s])  # type: ignore[misc]
            lived.append(lived_on(held, detected, choice, number, self.motion, self.config.memory))
            seen.append((choice.rows, choice.scores))
        objects = self._reported(frame if learned else at, lived, seen)
        after = self._after(known, lived, decided).to(device, non_blocking=True)
        return objects, replace(after, detector_memory=state.detector_memory)

    def detected(
        self,
        frame: Frame,
        at: Frame,
        detections: Objects,
        ranges_m: Tensor,
        looks: Tensor | None,
        stream: int,
    ) -> Detected:
        """The detections of one stream that a camera sees, in the global frame, on the host.

        Args:
            frame: with images.
            at: the same on the host, without.
            detections: on the host.
            ranges_m: of classes, on the host.
            looks: [D, E] what all detections look like; None = to be looked at.
            stream: which.
        """
        usable = detections.valid[stream] & (detections.scores[stream] > self.config.min_score)
        given, labels = detections.boxes[stream][usable], detections.labels[stream][usable]
        scores = detections.scores[stream][usable]
        boxes, velocities = moved(at.global_from_vehicle[stream], given.double())
        seen = self._seen(at, stream, boxes, ranges_m[labels])
        seen = seen.pick(largest(seen, given[:, :3]))
        rows = seen.rows
        return Detected(
            boxes=boxes[rows],
            velocities=velocities[rows],
            scores=scores[rows],
            depth_scores=scores[rows],
            labels=labels[rows],
            cameras=seen.cameras,
            image_boxes=seen.image_boxes,
            embeddings=self._embedded(frame, stream, seen) if looks is None else looks[usable][rows],
        )

    def _looks_anywhere(self, frame: Frame, detections: Objects, stream: int) -> Tensor | None:
        """[D, E] what each detection looks like in the camera that sees the most of it, whether it counts or
        not: who does, the device would have to be waited for. None on the host, where nobody waits, and
        without appearance.
        """
        if self.appearance is None or frame.images.device.type == "cpu":
            return None
        boxes, _ = moved(frame.global_from_vehicle[stream], detections.boxes[stream].double())
        seen, image_boxes = sighted(
            boxes, *self._of_stream(frame, stream, self.ranges_m[detections.labels[stream]])
        )
        area = (image_boxes[..., 2:] - image_boxes[..., :2]).prod(-1)
        valid = seen & frame.camera_valid[stream][:, None]
        cameras = torch.where(valid, area, -1.0).argmax(0)
        best = image_boxes.take_along_dim(cameras[None, :, None], dim=0)[0]
        # Where nobody sees it, numbers may be anything.
        best = torch.where(valid.any(0)[:, None], best, 0.0)
        levels = self._levels(frame, stream)
        return self.appearance.anywhere(levels, cameras, best)

    def _embedded(self, frame: Frame, stream: int, seen: Sightings) -> Tensor:
        if self.appearance is None:
            return seen.image_boxes.new_zeros(len(seen.rows), 0)
        embeddings: Tensor = self.appearance(self._levels(frame, stream), seen.cameras, seen.image_boxes)
        return embeddings

    def _levels(self, frame: Frame, stream: int) -> tuple[Tensor, ...]:
        assert self.appearance is not None
        if frame.levels is not None:
            raise SynclError("CC-3DT's appearance looks at images itself; leave out --cache-features")
        return self.appearance.levels(frame.images[stream])

    def _reported(self, frame: Frame, lived: list[BoxTracks], seen: list[tuple[Tensor, Tensor]]) -> Objects:
        """The tracks seen in a frame (rows, and scores of their detections), in the order of their birth."""
        reports = []
        for stream, (after, (shown, scores)) in enumerate(zip(lived, seen, strict=True)):
            tracks = after.map(lambda values, rows=shown: values[rows])  # type: ignore[misc]
            velocities = tracks.velocities[:, :2]
            boxes = torch.cat([tracks.boxes, velocities], 1)
            boxes, velocity = moved(invert_similarity(frame.global_from_vehicle[stream]), boxes)
            # VeloLSTM adds up steps of sizes as of places, and may pass nothing with small objects.
            sizes = boxes[:, 3:6].clamp(min=_SMALLEST_M)
            boxes = torch.cat([boxes[:, :3], sizes, boxes[:, 6:], velocity[:, :2]], 1).float()
            valid = torch.ones_like(tracks.labels, dtype=torch.bool)
            reports.append(Objects(boxes, tracks.labels, scores, tracks.identities, valid))
        return padded(reports)

    def _after(self, state: TrackState, lived: list[BoxTracks], decided: list[Decided]) -> TrackState:
        tracks = padded(lived)
        device = tracks.identities.device
        alive = _filled([len(after.labels) for after in lived], device)
        memory = replace(
            state.owned(Cc3dtMemory).to(device, non_blocking=True),
            tracks=tracks,
            backdrops=padded([choice.backdrops for choice in decided]),
            backdrop_valid=_filled([len(choice.backdrops.labels) for choice in decided], device),
        )
        return replace(
            state,
            identities=tracks.identities.masked_fill(~alive, -1),
            misses=(memory.frame[:, None] - tracks.last_seen).masked_fill(~alive, 0),
            alive=alive,
            next_identity=torch.tensor([choice.next_identity for choice in decided]),
            own=memory,
        )

    def _of_stream(
        self, frame: Frame, stream: int, ranges_m: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """What `sighted` asks of a stream beside boxes."""
        rig, pose = frame.rig, frame.global_from_vehicle[stream]
        return (
            ranges_m,
            rig.camera_from_vehicle[stream] @ invert_similarity(pose),
            rig.image_from_camera[stream],
            frame.content_size[stream],
        )

    def _seen(self, frame: Frame, stream: int, boxes: Tensor, ranges_m: Tensor) -> Sightings:
        """Which cameras of a stream see boxes [D, 7] of the global frame."""
        seen = sightings(boxes, *self._of_stream(frame, stream, ranges_m))
        return seen.pick(frame.camera_valid[stream][seen.cameras])

    def supervised(
        self, decoded: Decoded, _outcome: Outcome, annotations: Annotations, /
    ) -> TensorStructure | None:
        """What the boxes of a frame look like: the detector's and the annotated, and whom they show."""
        if self.appearance is None:
            return None
        streams = [self._looks(decoded, annotations, stream) for stream in range(len(annotations.valid))]
        return padded(streams)

    def _looks(self, decoded: Decoded, annotations: Annotations, stream: int) -> EmbeddedBoxes:
        """The boxes of one stream's images to learn from, without padding."""
        assert self.appearance is not None
        frame = decoded.frame
        known = annotations.valid[stream]
        boxes = torch.cat([annotations.boxes[stream][known], self.detections(decoded).boxes[stream]])
        labels = annotations.labels[stream][known]
        ranges = torch.cat([self.ranges_m[labels], self.ranges_m.amax().expand(len(boxes) - len(labels))])
        placed, _ = moved(frame.global_from_vehicle[stream], boxes.detach().double())
        seen = self._seen(frame, stream, placed, ranges)
        own = seen.rows < len(labels)
        identities = annotations.identities[stream][known]
        rows, names = [], []
        for camera in range(frame.images.shape[1]):
            here = (seen.cameras == camera).nonzero()[:, 0]
            objects = here[own[here]]
            overlaps = image_overlap(seen.image_boxes[here], seen.cameras[here])[:, own[here]]
            picked, who = sampled(overlaps, identities[seen.rows[objects]])
            rows.append(here[picked])
            names.append(who)
        chosen = seen.pick(torch.cat(rows))
        embeddings = self._embedded(frame, stream, chosen)
        valid = torch.ones_like(chosen.cameras, dtype=torch.bool)
        return EmbeddedBoxes(embeddings, torch.cat(names), chosen.cameras, valid)

    def carry(self, decoded: Decoded, _outcome: Outcome, /) -> TrackState:
        """Only what the objects look like lives on in training."""
        if not isinstance(decoded.reasoned, EmbeddedBoxes):
            return decoded.state
        memory = replace(decoded.state.owned(Cc3dtMemory), looks=decoded.reasoned)
        return replace(decoded.state, own=memory)


def moved(destination_from_source: Tensor, boxes: Tensor) -> tuple[Tensor, Tensor]:
    """Boxes [D, 9] of one frame in another: x y z l w h yaw [D, 7], and velocities [D, 3], float64."""
    rotation = destination_from_source[:3, :3]
    heading = torch.stack([boxes[:, 6].cos(), boxes[:, 6].sin()], 1) @ rotation[:2, :2].T
    centres = transform_points(destination_from_source, boxes[:, :3])
    yaw = torch.atan2(heading[:, 1:], heading[:, :1])
    velocities = rotate_planar(destination_from_source, torch.nan_to_num(boxes[:, 7:9], 0.0, 0.0, 0.0))
    flat = torch.cat([velocities, torch.zeros_like(velocities[:, :1])], 1)
    return torch.cat([centres, boxes[:, 3:6], yaw], 1), flat


def _filled(counts: list[int], device: torch.device) -> Tensor:
    """[B, N] bool, True in the first rows of each stream."""
    filled = torch.arange(max(counts), device="cpu") < torch.tensor(counts, device="cpu")[:, None]
    return filled.to(device, non_blocking=True)


def _emptied(values: Tensor) -> Tensor:
    """Rows [B, N, ...] without what is in them, but for single numbers."""
    return values if values.dim() < 3 else values[..., :0]


def _calibration(frame: Frame) -> Frame:
    """The frame without what it shows."""
    images = frame.images[..., :0, :0]
    return replace(frame, images=images, levels=None, past=None, odometry=None)
