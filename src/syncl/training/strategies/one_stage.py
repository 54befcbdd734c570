"""Detecting and tracking learned at once, with a class head for each (method, table 8; OneTrack).

It follows the model: where a tracker has a class head of its own (`trackers.tracking_head`), both strategies
match and supervise this way.

- Detection head, object queries alone: Hungarian-matched to all objects, tracked ones too.
- Tracking head, all queries: a track query to its own object; an object query to what it detects, if no track
  query holds that. Detecting a tracked object is thus right for the one head and background for the other.
- Boxes: every query towards what either head is told; they never differ where both are told an object.

A track query without identity (a false positive that MUTR3D carries on) is background: whatever it might
take over would be missing among the detection head's objects.

OneTrack's own way with two heads, where tracks detect as well, is `one_track`.

Letters: L decoder layers, B streams, Q queries, O object queries (the first of Q), N track queries (the
last), M objects.
"""

import torch
from torch import Tensor

from syncl.structures import Annotations, Predictions
from syncl.training.assignment import Assignment, CostConfig, held_objects, hungarian, matching_cost


def one_stage_assignment(
    predictions: Predictions,
    ties: Tensor,
    track_identities: Tensor,
    annotations: Annotations,
    config: CostConfig,
) -> Assignment:
    """The standard decoder's assignment for both heads.

    Args:
        predictions: of the standard decoder, with the logits of both.
        ties: [B, N] object of each track query, -1 = none.
        track_identities: [B, N] annotation identity of each track query, -1 = none.
        annotations: of the frame.
        config: weights of the matching cost.
    """
    layers, count = predictions.logits.shape[0], predictions.object_count
    valid = predictions.valid
    cost = matching_cost(predictions.as_detected, annotations, config)[:, :, :count]
    detected = hungarian(cost, valid[:, :count], annotations.valid)
    born = detected
    if cost.shape[3]:
        held = held_objects(ties, cost.shape[3]).expand(layers, -1, -1)
        born = detected.masked_fill(held.gather(2, detected.clamp(min=0)) & (detected >= 0), -1)
    tied = ties.expand(layers, -1, -1)
    return Assignment(
        torch.cat([born, tied], dim=2),
        valid.expand(layers, -1, -1),
        vanished=(track_identities >= 0) & (ties < 0) & valid[:, count:],
        detection=Assignment(detected, valid[:, :count].expand(layers, -1, -1)),
        boxes=torch.cat([detected, tied], dim=2),
    )
