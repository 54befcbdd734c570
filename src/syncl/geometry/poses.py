"""Poses and quaternions as numpy arrays, the form in which tables and result files hold them.

Quaternions are (w, x, y, z). Leading dimensions are free everywhere.
"""

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def rotation_from_quaternion(quaternion: Array) -> Array:
    """Rotation matrices [..., 3, 3] of quaternions [..., 4], which need not be normalised.

    A zero quaternion gives nan entries.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        unit = np.asarray(quaternion, np.float64)
        unit = unit / np.linalg.norm(unit, axis=-1, keepdims=True)
    w, x, y, z = np.moveaxis(unit, -1, 0)
    rows = [
        [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
        [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
        [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
    ]
    return np.stack([np.stack(row, axis=-1) for row in rows], axis=-2)


def quaternion_from_rotation(rotation: Array) -> Array:
    """Unit quaternions [..., 4] with w >= 0 of rotation matrices [..., 3, 3]."""
    matrix = np.asarray(rotation, np.float64)
    m = {(i, j): matrix[..., i, j] for i in range(3) for j in range(3)}
    # Four equivalent forms; the one with the largest leading term is well conditioned.
    leading = np.stack(
        [
            1 + m[0, 0] + m[1, 1] + m[2, 2],
            1 + m[0, 0] - m[1, 1] - m[2, 2],
            1 - m[0, 0] + m[1, 1] - m[2, 2],
            1 - m[0, 0] - m[1, 1] + m[2, 2],
        ],
        axis=-1,
    )
    wx, wy, wz = m[2, 1] - m[1, 2], m[0, 2] - m[2, 0], m[1, 0] - m[0, 1]
    xy, xz, yz = m[0, 1] + m[1, 0], m[0, 2] + m[2, 0], m[1, 2] + m[2, 1]
    forms = np.stack(
        [
            np.stack([leading[..., 0], wx, wy, wz], axis=-1),
            np.stack([wx, leading[..., 1], xy, xz], axis=-1),
            np.stack([wy, xy, leading[..., 2], yz], axis=-1),
            np.stack([wz, xz, yz, leading[..., 3]], axis=-1),
        ],
        axis=-2,
    )
    best = np.argmax(leading, axis=-1)[..., None, None]
    chosen = np.take_along_axis(forms, np.broadcast_to(best, (*best.shape[:-1], 4)), axis=-2)[..., 0, :]
    chosen = chosen / np.linalg.norm(chosen, axis=-1, keepdims=True)
    canonical: Array = np.where(chosen[..., :1] < 0, -chosen, chosen)
    return canonical


def quaternion_from_yaw(yaw_rad: Array | float) -> Array:
    """Unit quaternions [..., 4] of rotations about the vertical axis, counter-clockwise, radians."""
    half = np.asarray(yaw_rad, np.float64) / 2
    zero = np.zeros_like(half)
    return np.stack([np.cos(half), zero, zero, np.sin(half)], axis=-1)


def yaw_from_rotation(rotation: Array) -> Array:
    """Heading [...] in (-pi, pi]: the angle of the rotated x axis in the xy plane."""
    heading: Array = np.arctan2(rotation[..., 1, 0], rotation[..., 0, 0])
    return heading


def yaw_from_quaternion(quaternion: Array) -> Array:
    """Heading [...] of quaternions [..., 4]: the angle of the rotated x axis in the xy plane."""
    return yaw_from_rotation(rotation_from_quaternion(quaternion))


def rigid_from_pose(translation: Array, quaternion: Array) -> Array:
    """Homogeneous matrices [..., 4, 4] of a pose given by translation [..., 3] (m) and quaternion [...,
    4].
    """
    rotation = rotation_from_quaternion(quaternion)
    matrix = np.zeros((*rotation.shape[:-2], 4, 4))
    matrix[..., :3, :3] = rotation
    matrix[..., :3, 3] = translation
    matrix[..., 3, 3] = 1
    return matrix


def invert_pose(matrix: Array) -> Array:
    """Inverse [..., 4, 4] of rigid transforms [..., 4, 4] (rotation transposed, not a general inverse)."""
    rotation = np.swapaxes(matrix[..., :3, :3], -1, -2)
    inverse = np.zeros_like(matrix)
    inverse[..., :3, :3] = rotation
    inverse[..., :3, 3] = -(rotation @ matrix[..., :3, 3, None])[..., 0]
    inverse[..., 3, 3] = 1
    return inverse


def move_points(destination_from_source: Array, points: Array) -> Array:
    """Points [..., 3] of the source frame in the destination frame, by a rigid transform [4, 4]."""
    moved: Array = points @ destination_from_source[:3, :3].T + destination_from_source[:3, 3]
    return moved


def move_places(destination_from_source: Array, places: Array, heights: Array) -> Array:
    """Places in the ground plane [N, F, 2] of the source frame in the destination frame.

    Args:
        destination_from_source: [4, 4] rigid.
        places: [N, F, 2] metres.
        heights: [N] metres at which they are, source frame; a tilted frame needs them.
    """
    lifted = np.broadcast_to(heights[:, None, None], (*places.shape[:2], 1))
    points = np.concatenate([places, lifted], axis=2)
    moved: Array = points @ destination_from_source[:2, :3].T + destination_from_source[:2, 3]
    return moved


def move_boxes(destination_from_source: Array, boxes: Array, rotations: Array | None = None) -> Array:
    """Boxes of the source frame in the destination frame: centres, headings and velocities.

    Args:
        destination_from_source: [4, 4] rigid.
        boxes: [N, 9] box layout (`geometry.boxes`).
        rotations: [N, 3, 3] of the boxes in the source frame, if more is known than the heading; tilt counts
            then, and the headings in `boxes` do not.
    """
    rotation = destination_from_source[:3, :3]
    centres = move_points(destination_from_source, boxes[:, :3])
    if rotations is None:
        heading = np.stack([np.cos(boxes[:, 6]), np.sin(boxes[:, 6])], axis=1) @ rotation[:2, :2].T
        yaw = np.arctan2(heading[:, 1], heading[:, 0])
    else:
        yaw = yaw_from_rotation(rotation @ rotations)
    velocities = boxes[:, 7:9] @ rotation[:2, :2].T
    return np.concatenate([centres, boxes[:, 3:6], yaw[:, None], velocities], axis=1)
