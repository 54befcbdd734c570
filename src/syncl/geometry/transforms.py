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


def invert_affine(matrix: Tensor) -> Tensor:
    """Inverse of [..., 4, 4] whose last row is (0, 0, 0, 1), such as pixel projections, in closed form.

    A general inverse waits for the device to say that there is one, and has no form in ONNX.
    """
    rows = matrix[..., :3, :3].unbind(-2)
    cofactors = torch.stack([_cross(rows[n - 2], rows[n - 1]) for n in range(3)], dim=-1)
    linear = cofactors / (rows[0] * cofactors[..., 0]).sum(-1)[..., None, None]
    with full_precision(matrix):
        translation = -(linear @ matrix[..., :3, 3:])
    upper = torch.cat([linear, translation], dim=-1)
    return torch.cat([upper, matrix[..., 3:, :]], dim=-2)


def _cross(one: Tensor, other: Tensor) -> Tensor:
    (a, b, c), (x, y, z) = one.unbind(-1), other.unbind(-1)
    return torch.stack([b * z - c * y, c * x - a * z, a * y - b * x], dim=-1)


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


def quaternion_from_rotation(rotation: Tensor) -> Tensor:
    """Unit quaternions [..., 4] (w, x, y, z) with w >= 0 of rotation matrices [..., 3, 3]."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = (row.unbind(-1) for row in rotation.unbind(-2))
    # Four times the quaternion's products with itself; the row with the largest square is well conditioned.
    products = torch.stack(
        [
            torch.stack([1 + xx + yy + zz, zy - yz, xz - zx, yx - xy], dim=-1),
            torch.stack([zy - yz, 1 + xx - yy - zz, xy + yx, xz + zx], dim=-1),
            torch.stack([xz - zx, xy + yx, 1 - xx + yy - zz, yz + zy], dim=-1),
            torch.stack([yx - xy, xz + zx, yz + zy, 1 - xx - yy + zz], dim=-1),
        ],
        dim=-2,
    )
    largest = products.diagonal(dim1=-2, dim2=-1).argmax(-1)[..., None, None]
    row = products.take_along_dim(largest, dim=-2).squeeze(-2)
    unit = row / row.norm(dim=-1, keepdim=True)
    return torch.where(unit[..., :1] < 0, -unit, unit)
