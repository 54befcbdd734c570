"""Overlap of boxes seen from above.

Letters: ... any leading dimensions, P candidate points of an intersection.
"""

import torch
from torch import Tensor

# Below this (square metres, or metres of a direction) two edges count as parallel.
_PARALLEL = 1e-9


def bev_corners(boxes: Tensor) -> Tensor:
    """Corners [..., 4, 2] of boxes [..., 9] in the ground plane, counter-clockwise."""
    half = boxes[..., None, 3:5] / 2 * boxes.new_tensor([[1.0, 1], [-1, 1], [-1, -1], [1, -1]])
    cos, sin = boxes[..., 6:7].cos(), boxes[..., 6:7].sin()
    x = half[..., 0] * cos - half[..., 1] * sin
    y = half[..., 0] * sin + half[..., 1] * cos
    return torch.stack([x, y], dim=-1) + boxes[..., None, :2]


def bev_intersection(first: Tensor, second: Tensor) -> Tensor:
    """Area [...], square metres, that pairs of boxes [..., 9] share in the ground plane.

    The shared polygon's corners are the corners of each box inside the other and the crossings of their
    edges. Sorted by direction from their mean they go around it.
    """
    corners_a, corners_b = bev_corners(first), bev_corners(second)
    crossings, crossed = _crossings(corners_a, corners_b)
    points = torch.cat([corners_a, corners_b, crossings], dim=-2)
    valid = torch.cat([_inside(corners_a, second), _inside(corners_b, first), crossed], dim=-1)
    count = valid.sum(-1, keepdim=True).clamp(min=1)
    centre = (points * valid[..., None]).sum(-2) / count
    offset = points - centre[..., None, :]
    # Points that do not count fold onto one that does, where they add no area.
    some = valid.int().argmax(-1, keepdim=True)[..., None].expand(*valid.shape[:-1], 1, 2)
    offset = torch.where(valid[..., None], offset, offset.gather(-2, some))
    order = torch.atan2(offset[..., 1], offset[..., 0]).argsort(dim=-1)
    polygon = offset.gather(-2, order[..., None].expand_as(offset))
    following = polygon.roll(-1, dims=-2)
    cross = polygon[..., 0] * following[..., 1] - polygon[..., 1] * following[..., 0]
    return torch.where(valid.any(-1), cross.sum(-1).abs() / 2, 0.0)


def bev_iou(first: Tensor, second: Tensor) -> Tensor:
    """Intersection over union [...] of pairs of boxes [..., 9] (box layout) in the ground plane."""
    shared = bev_intersection(first, second)
    union = first[..., 3] * first[..., 4] + second[..., 3] * second[..., 4] - shared
    return (shared / union.clamp(min=_PARALLEL)).clamp(0, 1)


def _inside(points: Tensor, boxes: Tensor) -> Tensor:
    """Whether points [..., P, 2] lie in boxes [..., 9], borders included (up to rounding)."""
    offset = points - boxes[..., None, :2]
    cos, sin = boxes[..., 6:7].cos(), boxes[..., 6:7].sin()
    along = offset[..., 0] * cos + offset[..., 1] * sin
    across = offset[..., 1] * cos - offset[..., 0] * sin
    limit = boxes[..., None, 3:5] / 2 * (1 + 1e-5) + 1e-6
    return (along.abs() <= limit[..., 0]) & (across.abs() <= limit[..., 1])


def _crossings(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """Points [..., 16, 2] where edges of two quadrilaterals [..., 4, 2] cross, and whether they do."""
    start_a, start_b = first[..., :, None, :], second[..., None, :, :]
    along_a = first.roll(-1, dims=-2)[..., :, None, :] - start_a
    along_b = second.roll(-1, dims=-2)[..., None, :, :] - start_b
    between = start_b - start_a
    denominator = _cross(along_a, along_b)
    usable = denominator.abs() > _PARALLEL
    safe = torch.where(usable, denominator, 1.0)
    at_a, at_b = _cross(between, along_b) / safe, _cross(between, along_a) / safe
    hit = usable & (at_a >= 0) & (at_a <= 1) & (at_b >= 0) & (at_b <= 1)
    points = start_a + at_a[..., None] * along_a
    return points.flatten(-3, -2), hit.flatten(-2)


def _cross(a: Tensor, b: Tensor) -> Tensor:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]
