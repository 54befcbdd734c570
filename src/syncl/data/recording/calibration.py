"""Calibration values in rig files: intrinsics, and poses as matrices or as translation and rotation."""

import numpy as np

from syncl.data.recording.rig_contents import Array
from syncl.data.yaml_node import Node
from syncl.geometry.poses import rotation_from_quaternion

# Calibration files often hold four or five digits; more than this is a mistake, such as a transposed or
# scaled matrix or a quaternion in the wrong order of another length.
_TOLERANCE = 2e-3


def read_intrinsics(node: Node) -> Array:
    """[3, 3] intrinsics, given as the matrix or as fx, fy, cx, cy."""
    if isinstance(node.value, dict):
        fields = node.fields(("fx", "fy", "cx", "cy"))
        fx, fy, cx, cy = (fields[name].number() for name in ("fx", "fy", "cx", "cy"))
        matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1.0]])
    else:
        matrix = node.matrix(3, 3)
    if matrix[0, 0] <= 0 or matrix[1, 1] <= 0:
        node.fail(f"focal lengths {matrix[0, 0]:g} and {matrix[1, 1]:g} must be positive, in pixels")
    if matrix[2].tolist() != [0, 0, 1] or matrix[1, 0] != 0:
        node.fail(
            f"rows {matrix[1:].tolist()} are not those of intrinsics [[fx, s, cx], [0, fy, cy], [0, 0, 1]]"
        )
    return matrix


def read_pose(node: Node) -> Array:
    """A rigid transform [4, 4], given as that matrix or as `translation_m` and `rotation`.

    Raises:
        SynclError: naming the field, if the rotation is none.
    """
    if isinstance(node.value, list):
        matrix = node.matrix(4, 4)
        if matrix[3].tolist() != [0, 0, 0, 1]:
            node.fail(f"the last row is {matrix[3].tolist()}, expected [0, 0, 0, 1]")
        matrix[:3, :3] = _checked(node, matrix[:3, :3])
        return matrix
    fields = node.fields(("translation_m", "rotation"))
    matrix = np.eye(4)
    matrix[:3, :3] = _read_rotation(fields["rotation"])
    matrix[:3, 3] = fields["translation_m"].numbers(3)
    return matrix


def _read_rotation(node: Node) -> Array:
    if isinstance(node.value, list) and len(node.value) == 4:
        quaternion = node.numbers(4)
        length = float(np.linalg.norm(quaternion))
        if abs(length - 1) > _TOLERANCE:
            node.fail(
                f"the quaternion {quaternion.tolist()} has length {length:.4f}, expected 1 (w, x, y, z)"
            )
        return rotation_from_quaternion(quaternion)
    if isinstance(node.value, list) and len(node.value) == 3:
        return _checked(node, node.matrix(3, 3))
    return node.expected("a quaternion [w, x, y, z] or a 3x3 matrix")


def _checked(node: Node, rotation: Array) -> Array:
    deviation = float(np.abs(rotation @ rotation.T - np.eye(3)).max())
    determinant = float(np.linalg.det(rotation))
    if deviation > _TOLERANCE:
        node.fail(
            f"not a rotation: its rows are not perpendicular unit vectors (off by {deviation:.3g}): "
            f"{rotation.tolist()}"
        )
    if determinant < 0:
        node.fail(
            f"not a rotation but a mirroring (determinant {determinant:.3f}): {rotation.tolist()}; is one "
            "axis turned round?"
        )
    if deviation < 1e-12:
        return rotation
    # The nearest exact rotation, so that inverting by transposing is right.
    left, _, right = np.linalg.svd(rotation)
    return np.asarray(left @ right)
