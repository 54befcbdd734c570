"""Denoising in training: objects moved at random become queries that have to find their objects again.

Several noised copies of every object are decoded beside the queries (`Detector.decode_noised`). A copy that
was moved too far has to be called background, but still regresses its object. DN-DETR (Li et al., 2022) as
StreamPETR uses it.

Letters: B streams, G groups, M objects, L decoder layers, K classes.
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from syncl.detectors.base import ReferenceRange
from syncl.geometry.boxes import encode_boxes
from syncl.structures import Annotations, Predictions
from syncl.structures.tensors import TensorStructure
from syncl.training.losses import LossConfig, mean_over_processes, sigmoid_focal_loss


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


@dataclass(frozen=True)
class NoisedObjects(TensorStructure):
    """Noised copies of annotated objects.

    Attributes:
        references: [B, G, M, 3] metres, vehicle frame; the range's lower corner in padding.
        labels: [B, G, M] int64 class index, -1 = background.
        valid: [B, G, M] bool; False = padding.
    """

    references: Tensor
    labels: Tensor
    valid: Tensor


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
    # Padding keeps a place of its own in the group, which its neighbours can see, as in the original.
    unit = torch.where(valid[..., None], unit, 0)
    labels = annotations.labels[:, None].expand(valid.shape)
    known = valid & (move.norm(dim=-1) <= config.background_distance)
    return NoisedObjects(point_range.to_metres(unit), torch.where(known, labels, -1), valid)


def denoising_losses(
    predictions: Predictions, noised: NoisedObjects, annotations: Annotations, config: DenoisingConfig
) -> dict[str, Tensor]:
    """`noised_class` and `noised_box`, summed over layers.

    Background copies count in the box loss too. The class loss is normalised by how many copies are expected
    to keep their class: the copies times the share of a sphere of `background_distance` in the cube of moves.

    Args:
        predictions: [L, B, G M, ...] of the noised objects.
        noised: what was decoded.
        annotations: what it was made from.
        config: weights.
    """
    logits = predictions.logits.float()
    valid = noised.valid.flatten(1)
    labels = noised.labels.flatten(1)
    count = mean_over_processes(valid.sum().to(logits.dtype))
    kept = (count * (math.pi / 6 * config.background_distance**3)).clamp(min=1)
    loss = config.loss

    wanted = torch.zeros_like(logits[0])
    wanted.scatter_(-1, labels.clamp(min=0)[..., None], (labels >= 0)[..., None].to(wanted.dtype))
    focal = sigmoid_focal_loss(logits, wanted.expand_as(logits), loss.alpha, loss.gamma)
    focal = (focal.sum(-1) * valid).sum()

    goal = encode_boxes(annotations.boxes).repeat(1, noised.valid.shape[1], 1)
    usable = valid & torch.isfinite(goal).all(-1)
    codes = predictions.codes
    difference = (codes - torch.where(usable[..., None], goal, codes)).abs()
    distance = (difference * difference.new_tensor(loss.code_weights)).sum()
    return {
        "noised_class": config.weight * loss.classification * focal / kept,
        "noised_box": config.weight * loss.box * distance / count.clamp(min=1),
    }
