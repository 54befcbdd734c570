"""What CC-3DT remembers of a stream, and a frame of it (CC-3DT, section 3; the published order of steps).

One stream at a time, rows without padding; the tracker pads them for the state. Who is who is decided on the
host (`decide`); what the tracks become of it needs only the numbers of rows (`lived_on`).

Letters: N tracks in the order of their birth, D detections, E channels of embeddings.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from syncl.structures.tensors import TensorStructure, joined
from syncl.trackers.cc_3dt.association import (
    NOBODY,
    AssociationConfig,
    Detected,
    Known,
    affinity,
    assign,
    image_overlap,
    suppressed,
)
from syncl.trackers.cc_3dt.motion import BOX, Motion, MotionState

# Detections that no track explains are remembered for a frame, unless they overlap an earlier one so much.
_BACKDROP_OVERLAP = 0.3


@dataclass(frozen=True)
class MemoryConfig:
    """How tracks are kept; the defaults are those published for BEVFormer's detections.

    Attributes:
        frames: a track that was not seen for so many frames ends.
        momentum: how much of a new embedding a track takes over.
        backdrops: remember detections that became no track for one frame, so that what looks like them does
            not join a track.
        score_product: scores of detector and depth are multiplied, where there are two.
        frames_per_second: of the stream; velocities are steps a frame times this.
    """

    frames: int = 10
    momentum: float = 0.8
    backdrops: bool = False
    score_product: bool = False
    frames_per_second: float = 2.0


@dataclass(frozen=True)
class BoxTracks(TensorStructure):
    """The tracks.

    Attributes:
        identities: [N] int64, rising.
        boxes: [N, 7] float64 x y z l w h yaw, global; of tracks that are not seen, where they coasted to.
        velocities: [N, 3] float64 m/s as last reported.
        steps: [N, 3] float64 metres a frame, mean over all sightings but the first.
        labels: [N] int64.
        embeddings: [N, E].
        last_seen: [N] int64 frame.
        updates: [N] int64 sightings behind the first.
        motion: the motion model's own.
    """

    identities: Tensor
    boxes: Tensor
    velocities: Tensor
    steps: Tensor
    labels: Tensor
    embeddings: Tensor
    last_seen: Tensor
    updates: Tensor
    motion: MotionState

    @classmethod
    def born(cls, detected: Detected, identities: Tensor, frame: int, motion: Motion) -> "BoxTracks":
        """Tracks that begin with these detections."""
        return cls(
            identities,
            detected.boxes,
            detected.velocities,
            torch.zeros_like(detected.velocities),
            detected.labels,
            detected.embeddings,
            torch.full_like(detected.labels, frame),
            torch.zeros_like(detected.labels),
            motion.start(detected.boxes),
        )


@dataclass(frozen=True)
class Backdrops(TensorStructure):
    """Detections of the frame before that became no track.

    Attributes:
        boxes: [K, 7] float64.
        labels: [K] int64.
        embeddings: [K, E].
    """

    boxes: Tensor
    labels: Tensor
    embeddings: Tensor


@dataclass(frozen=True)
class Decided(TensorStructure):
    """What is decided on the host in a frame.

    Attributes:
        kept: [K] int64 rows of the detections that were looked at, best first.
        identities: [K] int64 what each is: a track, `NOBODY` or `SWALLOWED`.
        affinities: [K, M] with the remembered tracks and backdrops.
        known: [M] int64 who these are, `NOBODY` = a backdrop.
        sightings: [U] int64 of the K, those of known tracks.
        sighted: [U] int64 rows of these tracks.
        missed: [V] int64 rows of the tracks that nobody saw.
        births: [W] int64 of the K, those that begin a track.
        living: [N] int64 of sighted, missed and born tracks in this order, those that live on by birth.
        backdrops: after the frame.
        next_identity: of the next birth.
        rows: [R] int64 of the tracks after the frame: those seen in it.
        scores: [R] of their detections.
    """

    kept: Tensor
    identities: Tensor
    affinities: Tensor
    known: Tensor
    sightings: Tensor
    sighted: Tensor
    missed: Tensor
    births: Tensor
    living: Tensor
    backdrops: Backdrops
    next_identity: int
    rows: Tensor
    scores: Tensor


@dataclass(frozen=True)
class Followed(Decided):
    """What came of a frame.

    Attributes:
        tracks: after it.
    """

    tracks: BoxTracks


def follow(
    tracks: BoxTracks,
    backdrops: Backdrops,
    frame: int,
    next_identity: int,
    detected: Detected,
    motion: Motion,
    rules: AssociationConfig,
    config: MemoryConfig,
) -> Followed:
    """One frame: predict, remove doubles, associate, update, give birth, coast, forget.

    Args:
        tracks: before the frame.
        backdrops: of the frame before.
        frame: its number in the scene.
        next_identity: of the next birth.
        detected: what the detector saw.
        motion: the motion model.
        rules: of the association.
        config: of the memory.
    """
    moving, step = motion.predict(tracks.motion)
    tracks = replace(tracks, motion=moving)
    decided = decide(tracks, step, backdrops, frame, next_identity, detected, rules, config)
    lived = lived_on(tracks, detected, decided, frame, motion, config)
    return Followed(**vars(decided), tracks=lived)


def decide(
    tracks: BoxTracks,
    step: Tensor,
    backdrops: Backdrops,
    frame: int,
    next_identity: int,
    detected: Detected,
    rules: AssociationConfig,
    config: MemoryConfig,
) -> Decided:
    """Who is who in a frame, by the tracks as they are expected; the motion model's own is not looked at.

    Args:
        tracks: before the frame.
        step: [N, 3] by which they are expected farther, metres.
        backdrops: see `follow`, as all else.
        frame: of the scene.
        next_identity: of the next birth.
        detected: in the frame.
        rules: of the association.
        config: of the memory.
    """
    if not len(tracks.identities):
        # Backdrops alone are not compared with.
        backdrops = backdrops.map(lambda values: values[:0])
    known = _known(tracks, backdrops, step)
    names = torch.cat([tracks.identities, torch.full_like(backdrops.labels, NOBODY)])
    kept = suppressed(detected, rules)
    seen = detected.rows(kept)
    affinities = affinity(seen, known, rules)
    certain = seen.scores * seen.depth_scores if config.score_product else seen.scores
    who = torch.from_numpy(assign(affinities, names, certain, rules))
    born = (who == NOBODY) & (seen.scores > rules.birth_score)
    identities = torch.where(born, next_identity + born.cumsum(0) - 1, who)
    births, sightings = born.nonzero()[:, 0], (who >= 0).nonzero()[:, 0]
    sighted = torch.searchsorted(tracks.identities, who[sightings])
    others = torch.ones_like(tracks.identities, dtype=torch.bool)
    others[sighted] = False
    missed = others.nonzero()[:, 0]

    present = torch.full_like(identities, frame)
    last_seen = torch.cat([present[sightings], tracks.last_seen[missed], present[births]])
    by_birth = torch.cat([who[sightings], tracks.identities[missed], identities[births]]).argsort()
    living = by_birth[frame - last_seen[by_birth] < config.frames]
    named = identities >= 0
    certain = seen.scores * seen.depth_scores if config.score_product else seen.depth_scores
    return Decided(
        kept=kept,
        identities=identities,
        affinities=affinities,
        known=names,
        sightings=sightings,
        sighted=sighted,
        missed=missed,
        births=births,
        living=living,
        backdrops=_backdrops(seen, identities == NOBODY)
        if config.backdrops
        else backdrops.map(lambda values: values[:0]),
        next_identity=next_identity + len(births),
        rows=(last_seen[living] == frame).nonzero()[:, 0],
        scores=certain[named][identities[named].argsort()],
    )


def lived_on(
    tracks: BoxTracks,
    detected: Detected,
    decided: Decided,
    frame: int,
    motion: Motion,
    config: MemoryConfig,
) -> BoxTracks:
    """The tracks behind a frame, wherever the motion model is: nobody is waited for. See `follow`."""
    seen, identities = detected.rows(decided.kept), decided.identities
    births = decided.births
    updated = _updated(
        tracks.map(lambda values: values[decided.sighted]),
        seen.rows(decided.sightings),
        frame,
        motion,
        config,
    )
    coasted = _coasted(tracks.map(lambda values: values[decided.missed]), motion)
    born = BoxTracks.born(seen.rows(births), identities[births], frame, motion)
    return joined(updated, coasted, born).map(lambda values: values[decided.living])


def _known(tracks: BoxTracks, backdrops: Backdrops, step: Tensor) -> Known:
    nothing = backdrops.boxes.new_zeros(len(backdrops.boxes), 3)
    predicted = torch.cat([tracks.boxes[:, :3] + step, tracks.boxes[:, 3:]], 1)
    # What was seen once has no velocity yet, whatever the detector said.
    velocities = torch.where(tracks.updates[:, None] > 0, tracks.velocities, 0.0)
    return Known(
        boxes=torch.cat([tracks.boxes, backdrops.boxes]),
        predicted=torch.cat([predicted, backdrops.boxes]),
        steps=torch.cat([tracks.steps, nothing]),
        velocities=torch.cat([velocities, nothing]),
        labels=torch.cat([tracks.labels, backdrops.labels]),
        embeddings=torch.cat([tracks.embeddings, backdrops.embeddings]),
    )


def _updated(
    tracks: BoxTracks,
    seen: Detected,
    frame: int,
    motion: Motion,
    config: MemoryConfig,
) -> BoxTracks:
    """Tracks after a sighting each; a track that coasted steps from where it had coasted to."""
    state = motion.update(tracks.motion, seen.boxes, seen.depth_scores)
    step = (state.boxes - tracks.boxes)[:, :3] / (frame - tracks.last_seen)[:, None]
    count = tracks.updates[:, None]
    return BoxTracks(
        identities=tracks.identities,
        boxes=state.boxes,
        velocities=motion.steps(state) * config.frames_per_second,
        steps=(tracks.steps * count + step) / (count + 1),
        labels=seen.labels,
        embeddings=(1 - config.momentum) * tracks.embeddings + config.momentum * seen.embeddings,
        last_seen=torch.full_like(tracks.last_seen, frame),
        updates=tracks.updates + 1,
        motion=state,
    )


def _coasted(tracks: BoxTracks, motion: Motion) -> BoxTracks:
    """Tracks that were not seen, a second step on: published trackers predict them twice a frame."""
    state, _ = motion.predict(tracks.motion)
    return replace(tracks, boxes=state.boxes, motion=state)


def _backdrops(seen: Detected, nobody: Tensor) -> Backdrops:
    """Detections that are nobody, but for those that an earlier detection overlaps."""
    covered = (image_overlap(seen.image_boxes, seen.cameras) > _BACKDROP_OVERLAP).tril(-1).any(1)
    left = nobody & ~covered
    return Backdrops(seen.boxes[left], seen.labels[left], seen.embeddings[left])


def nothing_remembered(motion: Motion, channels: int, like: Tensor) -> tuple[BoxTracks, Backdrops]:
    """No tracks and no backdrops, on the device and with the dtype of `like`."""
    boxes = torch.zeros(0, BOX, dtype=torch.float64, device=like.device)
    labels = torch.zeros(0, dtype=torch.int64, device=like.device)
    embeddings = like.new_zeros(0, channels)
    places = boxes[:, :3]
    tracks = BoxTracks(labels, boxes, places, places, labels, embeddings, labels, labels, motion.start(boxes))
    return tracks, Backdrops(boxes, labels, embeddings)
