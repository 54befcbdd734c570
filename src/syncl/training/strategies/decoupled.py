"""Detecting and tracking as two tasks of two kinds of queries (ADA-Track, Ding et al., CVPR 2024).

It follows the model: where a tracker's association ties detections to tracks, both strategies match and
supervise this way.

- Object queries detect: Hungarian-matched to all objects, tracked ones too.
- Track queries track: their own object, or background where it is gone or they never had one.

Each kind's losses are divided by its own numbers. A frame without objects says nothing to object queries.

Letters: L decoder layers, B streams, Q queries, O object queries (the first of Q), N track queries (the
last), M objects.
"""

from dataclasses import replace

import torch
from torch import Tensor

from syncl.structures import Annotations, Predictions
from syncl.training.assignment import Assignment, CostConfig, hungarian, matching_cost, tie_by_identity
from syncl.training.losses import LossConfig, set_losses


def decoupled_assignment(
    predictions: Predictions, track_identities: Tensor, annotations: Annotations, config: CostConfig
) -> tuple[Assignment, Tensor]:
    """The standard decoder's assignment, and the object [B, N] each track query holds (-1 = none).

    Args:
        predictions: of the standard decoder.
        track_identities: [B, N] annotation identity of each track query, -1 = none.
        annotations: of the frame.
        config: weights of the matching cost.
    """
    layers, count, valid = len(predictions.logits), predictions.object_count, predictions.valid
    ties = tie_by_identity(track_identities, valid[:, count:], annotations)
    cost = matching_cost(predictions, annotations, config)[:, :, :count]
    detected = hungarian(cost, valid[:, :count], annotations.valid)
    searching = valid[:, :count] & annotations.valid.any(1, keepdim=True)
    supervised = torch.cat([searching, valid[:, count:]], dim=1)
    assignment = Assignment(
        torch.cat([detected, ties.expand(layers, -1, -1)], dim=2),
        supervised.expand(layers, -1, -1),
        vanished=(ties < 0) & valid[:, count:],
    )
    return assignment, ties


def decoupled_losses(
    predictions: Predictions, assignment: Assignment, annotations: Annotations, config: LossConfig
) -> dict[str, Tensor]:
    """`class` and `box` of object queries, `track_class` and `track_box` of track queries.

    The class loss of tracks is divided by how many there are, with or without an object.
    """
    count = predictions.object_count
    losses: dict[str, Tensor] = {}
    for name, rows, vanished in (
        ("", slice(None, count), None),
        ("track_", slice(count, None), assignment.vanished),
    ):
        part = Assignment(assignment.targets[:, :, rows], assignment.supervised[:, :, rows], vanished)
        own = replace(config, count_vanished=vanished is not None)
        found = set_losses(predictions.rows(rows), part, annotations, own)
        losses |= {f"{name}{kind}": value for kind, value in found.items()}
    return losses
