"""Which query is responsible for which annotated object.

Letters: L decoder layers, B streams, Q queries, N track queries (the last N of Q), M annotated objects, K
classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from syncl.geometry.boxes import encode_boxes
from syncl.structures import Annotations, Predictions

# Costs that are not finite would make the assignment fail; the originals replace them like this.
_INFINITE_COST = 100.0
# Velocity does not enter the matching cost.
_MATCHED_CODES = 8


@dataclass(frozen=True)
class CostConfig:
    """Weights of the matching cost: focal classification cost and L1 cost over centre, log size, heading.

    Attributes:
        classification: weight of the focal cost.
        box: weight of the L1 cost.
        alpha: focal balance.
        gamma: focal focus.
        code_weights: weight of each matched number of the box code; StreamPETR doubles x and y.
    """

    classification: float = 2.0
    box: float = 0.25
    alpha: float = 0.25
    gamma: float = 2.0
    code_weights: tuple[float, ...] = (1.0,) * _MATCHED_CODES


def matching_cost(predictions: Predictions, annotations: Annotations, config: CostConfig) -> Tensor:
    """Cost [L, B, Q, M] of every query for every object, without gradient; padding columns are
    meaningless.
    """
    with torch.no_grad():
        probability = predictions.logits.float().sigmoid()
        eps = 1e-12
        negative = -(1 - probability + eps).log() * (1 - config.alpha) * probability**config.gamma
        positive = -(probability + eps).log() * config.alpha * (1 - probability) ** config.gamma
        labels = annotations.labels.clamp(min=0)[None, :, None, :].expand(*probability.shape[:3], -1)
        classification = (positive - negative).gather(-1, labels)
        weights = predictions.codes.new_tensor(config.code_weights)
        target = encode_boxes(annotations.boxes)[..., :_MATCHED_CODES] * weights
        target = target.expand(probability.shape[0], *target.shape)
        codes = predictions.codes[..., :_MATCHED_CODES] * weights
        box = torch.cdist(codes.float(), target.float(), p=1)
        cost = config.classification * classification + config.box * box
        return torch.nan_to_num(cost, _INFINITE_COST, _INFINITE_COST, -_INFINITE_COST)


def hungarian(cost: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Minimum-cost one-to-one assignment for each layer and stream.

    Args:
        cost: [L, B, Q, M].
        rows: [B, Q] bool, queries that take part.
        columns: [B, M] bool, objects that take part.

    Returns:
        [L, B, Q] int64: the object assigned to each query, -1 = none. One host round trip for all.
    """
    # Here, because it takes longer to import than many a command to run.
    from scipy.optimize import linear_sum_assignment

    layers, streams, queries, _ = cost.shape
    host_cost = cost.detach().cpu().numpy()
    row_indices = [np.flatnonzero(row) for row in rows.cpu().numpy()]
    column_indices = [np.flatnonzero(column) for column in columns.cpu().numpy()]
    target: NDArray[np.int64] = np.full((layers, streams, queries), -1, np.int64)
    for stream in range(streams):
        row, column = row_indices[stream], column_indices[stream]
        if not len(row) or not len(column):
            continue
        for layer in range(layers):
            chosen, assigned = linear_sum_assignment(host_cost[layer, stream][np.ix_(row, column)])
            target[layer, stream, row[chosen]] = column[assigned]
    return torch.from_numpy(target).to(cost.device)


def tie_by_identity(track_identities: Tensor, track_valid: Tensor, annotations: Annotations) -> Tensor:
    """The object [B, N] each track query holds by identity, -1 = it holds none or its object is gone."""
    if annotations.identities.shape[1] == 0:
        return torch.full_like(track_identities, -1)
    same = track_identities[:, :, None] == annotations.identities[:, None, :]
    same = same & annotations.valid[:, None, :] & (track_valid & (track_identities >= 0))[:, :, None]
    return torch.where(same.any(-1), same.int().argmax(-1), -1)


def held_objects(ties: Tensor, objects: int) -> Tensor:
    """[B, M] bool: objects that some track query holds (the persistent ones)."""
    held = torch.zeros(ties.shape[0], objects + 1, dtype=torch.bool, device=ties.device)
    held.scatter_(1, torch.where(ties >= 0, ties, objects), True)
    return held[:, :objects]


@dataclass(frozen=True)
class Assignment:
    """Targets of one decoder group.

    Attributes:
        targets: [L, B, Q] int64 index of the object, -1 = background.
        supervised: [L, B, Q] bool rows with a classification loss.
        vanished: [B, N] bool track queries that hold the identity of an object which is not in the frame.
        detection: for the detection head where there are two class heads, of all queries or of the object
            queries alone [L, B, O]; `targets` and `supervised` are then the tracking head's.
        boxes: [L, B, Q] int64 object that boxes are learned from, -1 = none; None = `targets`.
    """

    targets: Tensor
    supervised: Tensor
    vanished: Tensor | None = None
    detection: "Assignment | None" = None
    boxes: Tensor | None = None


def standard_assignment(
    cost: Tensor, ties: Tensor, track_identities: Tensor, valid: Tensor, annotations: Annotations
) -> Assignment:
    """Tracking by attention's own matching (method, section 2).

    Track queries keep their objects; objects that no track holds (the new-born) are Hungarian-matched,
    layer by layer, to the object queries and to track queries that hold no identity.

    Args:
        cost: [L, B, Q, M].
        ties: [B, N] from `tie_by_identity`.
        track_identities: [B, N].
        valid: [B, Q] bool.
        annotations: of the frame.
    """
    layers, streams, queries, objects = cost.shape
    object_queries = queries - ties.shape[1]
    new_born = annotations.valid & ~held_objects(ties, objects)
    free = valid.clone()
    free[:, object_queries:] &= track_identities < 0
    targets = hungarian(cost, free, new_born)
    if ties.shape[1]:
        tied = ties.expand(layers, -1, -1)
        kept = targets[:, :, object_queries:]
        targets = torch.cat([targets[:, :, :object_queries], torch.where(tied >= 0, tied, kept)], dim=2)
    vanished = (track_identities >= 0) & (ties < 0) & valid[:, object_queries:]
    return Assignment(targets, valid.expand(layers, streams, queries), vanished)


def identities_after(assignment: Assignment, track_identities: Tensor, annotations: Annotations) -> Tensor:
    """Identity [B, Q] every query is tied to after the frame, by the last layer; vanished tracks keep
    theirs, and tracks that are not matched to their object although it is there lose it.
    """
    target = assignment.targets[-1]
    object_queries = target.shape[1] - track_identities.shape[1]
    if annotations.identities.shape[1]:
        matched = annotations.identities.gather(1, target.clamp(min=0))
        matched = torch.where(target >= 0, matched, -1)
    else:
        matched = torch.full_like(target, -1)
    tracks = matched[:, object_queries:]
    kept = track_identities
    if assignment.vanished is not None:
        kept = kept.masked_fill(~assignment.vanished, -1)
    tracks = torch.where(tracks >= 0, tracks, kept)
    return torch.cat([matched[:, :object_queries], tracks], dim=1)
