"""The filters SynCL's mixture is compared with (method, table 4b), over the same one-to-many candidates.

- DETA (Ouyang-Zhang et al., 2022): one fixed limit on the matching cost.
- SimOTA (Ge et al., 2021): an object keeps as many of its cheapest queries as their overlaps with it add up
  to, at least one.
- ATSS (Zhang et al., 2020): an object keeps the queries whose overlap reaches the mean plus one standard
  deviation of its candidates' overlaps, with their centres inside it.

Overlap is the intersection over union seen from above. The originals have it in the image; the paper does not
say which it takes in 3D.

Letters: L decoder layers, B streams, M objects, K candidates an object.
"""

import torch
from torch import Tensor

from syncl.geometry.boxes import decode_boxes
from syncl.geometry.overlap import bev_iou
from syncl.structures import Annotations, Predictions
from syncl.training.strategies.syncl.hybrid_matching import Candidates


def candidate_overlaps(
    candidates: Candidates, predictions: Predictions, annotations: Annotations
) -> tuple[Tensor, Tensor]:
    """Overlap [L, B, M, K] of candidates with their objects, and whether their centres lie inside; no
    gradient.
    """
    rows, objects = candidates.rows.flatten(2), annotations.boxes[None, :, :, None]
    codes = predictions.codes.detach().gather(2, rows[..., None].expand(-1, -1, -1, 10))
    boxes = decode_boxes(codes).unflatten(2, candidates.rows.shape[2:])
    objects = objects.expand_as(boxes)
    offset = boxes[..., :2] - objects[..., :2]
    cos, sin = objects[..., 6].cos(), objects[..., 6].sin()
    along = offset[..., 0] * cos + offset[..., 1] * sin
    across = offset[..., 1] * cos - offset[..., 0] * sin
    inside = (along.abs() <= objects[..., 3] / 2) & (across.abs() <= objects[..., 4] / 2)
    return bev_iou(boxes, objects), inside


def fixed_cost(candidates: Candidates, limit: float) -> Candidates:
    """DETA's: candidates whose cost does not exceed a limit."""
    return candidates.keep(candidates.costs <= limit)


def simota(candidates: Candidates, overlaps: Tensor) -> Candidates:
    """SimOTA's dynamic k: overlaps [L, B, M, K]."""
    budget = (overlaps * candidates.valid).sum(-1, keepdim=True).floor().clamp(min=1)
    costs = torch.where(candidates.valid, candidates.costs, float("inf"))
    rank = costs.argsort(dim=-1, stable=True).argsort(dim=-1, stable=True)
    return candidates.keep(rank < budget)


def atss(candidates: Candidates, overlaps: Tensor, inside: Tensor) -> Candidates:
    """ATSS's adaptive threshold: overlaps and `inside` [L, B, M, K]."""
    valid = candidates.valid
    count = valid.sum(-1, keepdim=True).clamp(min=1)
    mean = (overlaps * valid).sum(-1, keepdim=True) / count
    # Of the sample, as the original; a single candidate has no spread.
    variance = ((overlaps - mean) ** 2 * valid).sum(-1, keepdim=True) / (count - 1).clamp(min=1)
    return candidates.keep((overlaps >= mean + variance.sqrt()) & inside)
