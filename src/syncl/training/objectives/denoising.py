"""Denoising in training: objects moved at random become queries that have to find their objects again.

Several noised copies of every object are decoded beside the queries. A copy that was moved too far has to
be called background, but still regresses its object. A group holds one copy of every object; it sees itself
and all other queries, but no other group, and nobody sees it. DN-DETR (Li et al., 2022) as StreamPETR uses it
(section 3.5).

Letters: B streams, G groups, M objects, L decoder layers, K classes.
"""

import math
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from syncl.detectors import Detector
from syncl.detectors.reference_range import ReferenceRange
from syncl.geometry.boxes import CODE_SIZE, encode_boxes
from syncl.structures import Annotations, Outcome, Predictions, Queries
from syncl.structures.tensors import TensorStructure
from syncl.trackers.look import Decoded
from syncl.training.losses import LossConfig, mean_over_processes, sigmoid_focal_loss
from syncl.training.objectives.base import Objective


@dataclass(frozen=True)
class DenoisingConfig:
    """The defaults are StreamPETR's.

    Attributes:
        groups: noised copies of every object.
        noise_scale: a centre moves by up to this times half the object's size along each axis.
        background_distance: copies that moved further than this (length of the three moves, each relative to
            its largest) are background.
        weight: of these losses relative to `loss`.
        loss: weights of class and box loss.
    """

    groups: int = 10
    noise_scale: float = 1.0
    background_distance: float = 0.75
    weight: float = 1.0
    loss: LossConfig = field(
        default_factory=lambda: LossConfig(code_weights=(2.0, 2.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0))
    )

    def build(self) -> "DenoisingObjective":
        """The objective."""
        return DenoisingObjective(self)


@dataclass(frozen=True)
class DenoisingObjective(Objective):
    """Noised copies of a frame's objects as further queries, and their losses."""

    config: DenoisingConfig

    def further_queries(self, detector: Detector, annotations: Annotations, /) -> Queries | None:
        """A group of queries for each copy; none for a frame without objects."""
        if annotations.labels.shape[1] == 0:
            return None
        return noised_queries(detector, noise_objects(annotations, detector.point_range, self.config))

    def __call__(self, decoded: Decoded, _outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        """See `denoising_losses`."""
        further, predictions = decoded.further, decoded.further_predictions
        if further is None or predictions is None:
            further, predictions = nothing_noised(decoded)
        return denoising_losses(predictions, further, annotations, self.config)


@dataclass(frozen=True)
class NoisedObjects(TensorStructure):
    """Noised copies of annotated objects.

    Attributes:
        references: [B, G, M, 3] metres, vehicle frame; the range's lower corner in padding.
        identities: [B, G, M] int64 of the object that a copy still is; -1 = it went too far, or padding.
        valid: [B, G, M] bool; False = padding.
    """

    references: Tensor
    identities: Tensor
    valid: Tensor


def noised_queries(detector: Detector, noised: NoisedObjects) -> Queries:
    """[B, G M] queries at the noised places, whose groups do not see each other.

    Raises:
        SynclError: if the detector's queries cannot be put anywhere.
    """
    groups, objects = noised.valid.shape[1:]
    places = noised.references.flatten(1, 2)
    codes = torch.cat([places, places.new_zeros(*places.shape[:2], CODE_SIZE - 3)], dim=-1)
    group = torch.arange(groups * objects, device=places.device) // max(objects, 1)
    # Padding keeps a place of its own in its group, which its neighbours can see, as in the original.
    return replace(
        detector.queries_at(codes),
        identities=noised.identities.flatten(1),
        valid=noised.valid.flatten(1),
        attention=(group[:, None] == group).expand(len(places), -1, -1),
    )


def nothing_noised(decoded: Decoded) -> tuple[Queries, Predictions]:
    """No queries, and what a decoder says of none."""
    none = slice(0, 0)
    queries = replace(decoded.queries, attention=None).map(lambda rows: rows[:, none])
    return queries, decoded.standard.rows(none)


def noise_objects(
    annotations: Annotations,
    point_range: ReferenceRange,
    config: DenoisingConfig,
    uniform: Tensor | None = None,
) -> NoisedObjects:
    """Copies of the objects with centres moved at random and kept inside the range.

    The moves are along the frame's axes by fractions of (length, width, height): headings are not looked at,
    as in the original.

    Args:
        annotations: of a frame.
        point_range: the detector's.
        config: amounts.
        uniform: [B, G, M, 3] in [0, 1) to use as random numbers; drawn if None.
    """
    boxes = annotations.boxes[:, None].expand(-1, config.groups, -1, -1)
    valid = annotations.valid[:, None].expand(boxes.shape[:3])
    if uniform is None:
        uniform = torch.rand(*boxes.shape[:3], 3, dtype=boxes.dtype, device=boxes.device)
    move = uniform * 2 - 1
    moved = boxes[..., :3] + move * (boxes[..., 3:6] / 2) * config.noise_scale
    unit = point_range.normalise(moved).clamp(0, 1)
    unit = torch.where(valid[..., None], unit, 0)
    identities = annotations.identities[:, None].expand(valid.shape)
    known = valid & (move.norm(dim=-1) <= config.background_distance)
    return NoisedObjects(point_range.to_metres(unit), torch.where(known, identities, -1), valid)


def denoising_losses(
    predictions: Predictions, noised: Queries, annotations: Annotations, config: DenoisingConfig
) -> dict[str, Tensor]:
    """`noised_class` and `noised_box`, summed over layers.

    Background copies count in the box loss too. The class loss is normalised by how many copies are expected
    to keep their class: the copies times the share of a sphere of `background_distance` in the cube of moves.

    Args:
        predictions: [L, B, G M, ...] of the noised objects.
        noised: what was decoded, [B, G M, ...], group behind group.
        annotations: what it was made from.
        config: weights.
    """
    logits, valid, known = predictions.logits.float(), noised.valid, noised.identities >= 0
    # Of all processes, whether they have objects or not.
    count = mean_over_processes(valid.sum().to(logits.dtype))
    kept = (count * (math.pi / 6 * config.background_distance**3)).clamp(min=1)
    loss = config.loss
    if noised.count == 0:
        nothing = logits.sum() * 0 + predictions.codes.sum() * 0
        return {"noised_class": nothing, "noised_box": nothing}

    copies = noised.count // annotations.labels.shape[1]
    labels = annotations.labels.repeat(1, copies).clamp(min=0)
    wanted = torch.zeros_like(logits[0])
    wanted.scatter_(-1, labels[..., None], known[..., None].to(wanted.dtype))
    focal = sigmoid_focal_loss(logits, wanted.expand_as(logits), loss.alpha, loss.gamma)
    focal = (focal.sum(-1) * valid).sum()

    goal = encode_boxes(annotations.boxes).repeat(1, copies, 1)
    usable = valid & torch.isfinite(goal).all(-1)
    codes = predictions.codes
    difference = (codes - torch.where(usable[..., None], goal, codes)).abs()
    distance = (difference * difference.new_tensor(loss.code_weights)).sum()
    return {
        "noised_class": config.weight * loss.classification * focal / kept,
        "noised_box": config.weight * loss.box * distance / count.clamp(min=1),
    }
