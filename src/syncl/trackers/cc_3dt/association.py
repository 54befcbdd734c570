"""Who belongs to whom in a frame: appearance, motion and depth order (CC-3DT, section 3).

One stream at a time; boxes are x y z l w h yaw in the global frame.

Letters: D detections, M remembered tracks and backdrops, E channels of embeddings.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from syncl.structures.tensors import TensorStructure

NOBODY, SWALLOWED = -1, -2
# Metres by which the similarity of places falls to 1 / e; of steps it is half as many.
_PLACE_M, _STEP_M = 10.0, 5.0


@dataclass(frozen=True)
class AssociationConfig:
    """Rules of the association; the defaults are those published for BEVFormer's detections.

    Attributes:
        birth_score: detections above it that nothing fits begin a track.
        object_score: detections above it may continue a track, and only overlap much with others where they
            are removed for it; those below it may not.
        overlap: overlap in the image with a better detection of the same camera that removes a detection.
        unsure_overlap: the same of detections below `object_score`.
        match_affinity: affinity above which a detection may belong to a track.
        swallow_affinity: affinity above which a detection too unsure for its track is nothing else either.
        box_weight: how much place and motion count; appearance has the rest. Without appearance they count
            alone.
        match_velocities: how much a track's velocity is trusted follows from its agreement with the detected
            one (CC-3DT++) instead of the direction in which the object has moved.
        swapped_depth_ordering: remembered and predicted boxes change places in the depth ordering, as in the
            first release (AMOTA 42.9); the second has them right (43.4).
    """

    birth_score: float = 0.2
    object_score: float = 0.1
    overlap: float = 0.7
    unsure_overlap: float = 0.3
    match_affinity: float = 0.5
    swallow_affinity: float = 0.5
    box_weight: float = 0.5
    match_velocities: bool = False
    swapped_depth_ordering: bool = False


@dataclass(frozen=True)
class Detected(TensorStructure):
    """The detections of a frame that some camera sees.

    Attributes:
        boxes: [D, 7] float64.
        velocities: [D, 3] float64 m/s.
        scores: [D] of the detector in the image.
        depth_scores: [D] of its distance; detectors of 3D boxes have one score for both.
        labels: [D] int64.
        cameras: [D] int64 camera that sees the most of it.
        image_boxes: [D, 4] x1 y1 x2 y2 pixels there.
        embeddings: [D, E] what it looks like; E = 0 without appearance.
    """

    boxes: Tensor
    velocities: Tensor
    scores: Tensor
    depth_scores: Tensor
    labels: Tensor
    cameras: Tensor
    image_boxes: Tensor
    embeddings: Tensor

    def rows(self, index: Tensor) -> "Detected":
        """Those of some rows."""
        return self.map(lambda values: values[index])


@dataclass(frozen=True)
class Known(TensorStructure):
    """What detections are compared with: tracks, then backdrops.

    Attributes:
        boxes: [M, 7] float64 as remembered.
        predicted: [M, 7] float64 as expected in the frame.
        steps: [M, 3] float64 metres a frame, the mean over the track's life.
        velocities: [M, 3] float64 m/s as last reported; 0 of tracks that were seen once.
        labels: [M] int64.
        embeddings: [M, E].
    """

    boxes: Tensor
    predicted: Tensor
    steps: Tensor
    velocities: Tensor
    labels: Tensor
    embeddings: Tensor


def suppressed(detected: Detected, config: AssociationConfig) -> Tensor:
    """Rows of the detections that stay, best first, without those another of the same image covers.

    Classes play no role, and those that are removed themselves count as well.
    """
    order = detected.scores.argsort(descending=True, stable=True)
    sorted_ = detected.rows(order)
    unsure = sorted_.scores < config.object_score
    limits = torch.where(unsure, config.unsure_overlap, config.overlap)
    covered = image_overlap(sorted_.image_boxes, sorted_.cameras) > limits[:, None]
    return order[~covered.tril(-1).any(1)]


def image_overlap(boxes: Tensor, cameras: Tensor) -> Tensor:
    """[D, D] intersection over union of image boxes [D, 4]; 0 between cameras [D] and of empty boxes."""
    left, top, right, bottom = boxes.unbind(1)
    widths = torch.minimum(right[:, None], right) - torch.maximum(left[:, None], left)
    heights = torch.minimum(bottom[:, None], bottom) - torch.maximum(top[:, None], top)
    shared = widths.clamp_(min=0).mul_(heights.clamp_(min=0))
    area = (boxes[:, 2:] - boxes[:, :2]).prod(-1)
    union = area[:, None] + area[None] - shared
    overlap = shared.div_(union.clamp_(min=1e-12))
    overlap *= cameras[:, None] == cameras[None]
    return overlap


def affinity(detected: Detected, known: Known, config: AssociationConfig) -> Tensor:
    """[D, M] float64 how well detections and tracks belong together; 0 between classes."""
    both = _nearness(detected.boxes, known.predicted, _PLACE_M)
    both *= depth_similarity(detected, known, config)
    if known.embeddings.shape[1]:
        looks = appearance_similarity(detected.embeddings, known.embeddings)
        both.mul_(config.box_weight).add_(looks.mul_(1 - config.box_weight))
    both *= detected.labels[:, None] == known.labels[None]
    return both


def depth_similarity(detected: Detected, known: Known, config: AssociationConfig) -> Tensor:
    """[D, M] similarity by depth order: of places where objects move as expected, else of steps."""
    remembered, predicted = known.boxes[:, :3], known.predicted[:, :3]
    if config.swapped_depth_ordering:
        remembered, predicted = predicted, remembered
    centres = detected.boxes[:, :3]
    place = _nearness(centres, predicted, _PLACE_M)
    # The distance of the step made to the mean one is that of the detection to where that leads.
    step = _nearness(centres, remembered + known.steps, _STEP_M)
    if config.match_velocities:
        trust = _nearness(detected.velocities, known.velocities, _STEP_M)
    else:
        trust = _cosines(centres[:, :2], remembered[:, :2], known.steps[:, :2]).add_(1).div_(2)
    place *= trust
    return place.add_(step.mul_(1 - trust))


def _cosines(places: Tensor, origins: Tensor, steps: Tensor) -> Tensor:
    """[D, M] of ways from origins [M, 2] to places [D, 2] with steps [M, 2]; 0 where one has no length."""
    middle = origins.mean(0)
    along = ((places - middle) @ steps.T).sub_(((origins - middle) * steps).sum(1))
    lengths = distances(places, origins).clamp_(min=1e-8).mul_(steps.norm(dim=1).clamp(min=1e-8))
    cosines: Tensor = along.div_(lengths)
    return cosines


def appearance_similarity(detected: Tensor, known: Tensor) -> Tensor:
    """[D, M] similarity of embeddings [D, E] and [M, E]: softmax over either side, in the mean."""
    products = (detected @ known.T).double()
    return products.softmax(1).add_(products.softmax(0)).div_(2)


def _nearness(first: Tensor, second: Tensor, scale: float) -> Tensor:
    """[D, M] 1 where points [D, K] and [M, K] agree, 1 / e where they are a scale apart."""
    return distances(first, second).div_(-scale).exp_()


def distances(first: Tensor, second: Tensor) -> Tensor:
    """[D, M] Euclidean distances of points [D, K] and [M, K], by differences, not by products."""
    return torch.cdist(first, second, compute_mode="donot_use_mm_for_euclid_dist")


def assign(
    affinities: Tensor, identities: Tensor, scores: Tensor, config: AssociationConfig
) -> NDArray[np.int64]:
    """The identity [D] each detection continues; `NOBODY`, or `SWALLOWED` by a track it is too unsure for.

    Detections choose in their order, each the best track that is free.

    Args:
        affinities: [D, M], rows in the order of who chooses first.
        identities: [M] int64, `NOBODY` for backdrops.
        scores: [D] by which a detection may continue a track.
        config: thresholds.
    """
    result = np.full(affinities.shape[0], NOBODY, np.int64)
    if not affinities.numel():
        return result
    table, names = affinities.cpu().numpy(), identities.cpu().numpy()
    sure = (scores > config.object_score).cpu().numpy()
    free = np.ones(table.shape[1])
    # Sequential by definition: what is left depends on every choice before.
    for row in np.flatnonzero(table.max(1) > config.match_affinity).tolist():
        left = table[row] * free
        best = int(left.argmax())
        if left[best] <= config.match_affinity or names[best] < 0:
            continue
        if sure[row]:
            result[row] = names[best]
            free[best] = 0
        elif left[best] > config.swallow_affinity:
            result[row] = SWALLOWED
    return result
