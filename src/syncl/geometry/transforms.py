"""Rigid transforms on torch tensors. Matrices are [..., 4, 4], points [..., N, 3] in metres.

Under autocast, too, all products keep the precision of their factors.
"""

import torch
from torch import Tensor

from syncl.geometry.precision import full_precision


def invert_rigid(matrix: Tensor) -> Tensor:
    """Inverse of rigid transforms [..., 4, 4] by transposing the rotation."""
    rotation = matrix[..., :3, :3].transpose(-1, -2)
    with full_precision(matrix):
        translation = -(rotation @ matrix[..., :3, 3:])
    upper = torch.cat([rotation, translation], dim=-1)
    return torch.cat([upper, matrix[..., 3:, :]], dim=-2)


def invert_similarity(matrix: Tensor) -> Tensor:
    """Inverse of transforms [..., 4, 4] that are rigid but for one factor of all lengths.

    Poses of frames that training has scaled are such transforms.
    """
    linear = matrix[..., :3, :3]
    rotation = linear.transpose(-1, -2) / linear[..., :1, :].square().sum(-1, keepdim=True)
    with full_precision(matrix):
        translation = -(rotation @ matrix[..., :3, 3:])
    upper = torch.cat([rotation, translation], dim=-1)
    return torch.cat([upper, matrix[..., 3:, :]], dim=-2)


def transform_points(destination_from_source: Tensor, points: Tensor) -> Tensor:
    """Move points [..., N, 3] by transforms [..., 4, 4]; the points' dtype is kept.

    The matrix is applied in its own precision, so float64 poses far from the origin lose nothing before the
    result is rounded.
    """
    moved = points.to(destination_from_source.dtype)
    rotation = destination_from_source[..., :3, :3]
    with full_precision(moved):
        moved = moved @ rotation.transpose(-1, -2) + destination_from_source[..., None, :3, 3]
    return moved.to(points.dtype)


def rotate_planar(destination_from_source: Tensor, vectors: Tensor) -> Tensor:
    """Rotate free vectors in the ground plane, such as velocities [..., N, 2], by transforms [..., 4, 4]."""
    rotation = destination_from_source[..., :2, :2].to(vectors.dtype)
    with full_precision(vectors):
        return vectors @ rotation.transpose(-1, -2)
