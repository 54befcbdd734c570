"""Rotations that are numbers, but cannot be what they should: vehicles, sensors and boxes on their side.

Quaternions are w, x, y, z. Written as x, y, z, w most of what is level lies on its side. What heads east
stays upright and is only turned round; there, a table is refused if the other order fits and this one does
not, by a second sign: where vehicles drive, what else hangs upside down.
"""

import warnings
from pathlib import Path

import numpy as np

from syncl.data.driving import STEEPEST, how_driven, swapped, tilts
from syncl.data.nuscenes.tables.index_columns import CameraColumns, Numbers, SceneColumns
from syncl.data.nuscenes.tables.table_files import table_path
from syncl.errors import SynclError
from syncl.geometry.poses import rotation_from_quaternion

UPSIDE_DOWN = 0.2
"""How far up the lower edge of an image points at least, where a camera counts as upside down."""

_ORDER = "it is a quaternion w, x, y, z"
_SWAPPED = f"field 'rotation' holds x, y, z, w, by which all of it fits; {_ORDER}"


def check_rotations(folder: Path, scenes: SceneColumns, cameras: CameraColumns) -> None:
    """Make sure that vehicles and objects stand upright, and that quaternions are w, x, y, z.

    Warns of vehicles that always drive backwards, of cameras that hang upside down and of boxes on their
    side, where that may be so.

    Raises:
        SynclError: naming the table and what is far off.
    """
    up = tilts(cameras.sample_poses)
    tilted = up < STEEPEST
    if tilted.any():
        row = int(tilted.argmax())
        axis = np.round(rotation_from_quaternion(cameras.sample_poses[row, 3:])[:, 2], 2).tolist()
        raise SynclError(
            f"{table_path(folder, 'ego_pose')}: at sample '{scenes.sample_tokens[row].decode()}' the "
            f"vehicle's up axis does not point up but along {axis} ({int(tilted.sum())} such samples); field "
            "'rotation' is a quaternion w, x, y, z to a frame with z up"
        )
    _check_objects(folder, scenes)
    used = cameras.calibration_poses[np.unique(cameras.image_calibrations)]
    turned, turned_if_swapped = (_upside_down(poses) for poses in (used, swapped(used)))
    _check_driving(folder, scenes, cameras, more=turned > 0 and not turned_if_swapped)
    if not turned:
        return
    said = (
        f"{table_path(folder, 'calibrated_sensor')}: by field 'rotation' {turned} of {len(used)} "
        "cameras hang upside down"
    )
    lidars = cameras.calibration_poses[np.unique(cameras.sample_lidars[cameras.sample_lidars >= 0])]
    on_side, on_side_if_swapped = ((tilts(poses) < STEEPEST).any() for poses in (lidars, swapped(lidars)))
    if on_side and not on_side_if_swapped and not turned_if_swapped:
        raise SynclError(f"{said}, and LIDAR_TOP lies on its side: {_SWAPPED} from the sensor to the vehicle")
    warnings.warn(f"{said}; {_ORDER} from the camera (z ahead) to the vehicle", stacklevel=3)


def check_lidar(folder: Path, cameras: CameraColumns) -> None:
    """Make sure that the lidar, whose frame is to be the vehicle's, stands upright.

    Raises:
        SynclError: its calibration is no pose; or naming its up axis.
    """
    poses = cameras.calibration_poses[np.unique(cameras.sample_lidars)]
    if not np.isfinite(poses).all():
        raise SynclError(
            f"{table_path(folder, 'calibrated_sensor')}: LIDAR_TOP's fields 'translation' and 'rotation' are "
            "no pose, so the vehicle frame cannot be 'lidar'; mend them or use 'ego'"
        )
    up = rotation_from_quaternion(poses[:, 3:])[:, :, 2]
    if (up[:, 2] < STEEPEST).any():
        axis = np.round(up[int(up[:, 2].argmin())], 2).tolist()
        raise SynclError(
            f"{table_path(folder, 'calibrated_sensor')}: LIDAR_TOP's up axis does not point up but along "
            f"{axis}; field 'rotation' is a quaternion w, x, y, z from the sensor to the vehicle"
        )


def _check_objects(folder: Path, scenes: SceneColumns) -> None:
    """Refuse boxes on their side that would all stand in the other order, and warn of many that would not."""
    known = scenes.annotation_labels >= 0
    boxes = scenes.annotation_boxes[known][:, 3:]
    lying = tilts(boxes) < STEEPEST
    if not lying.any():
        return
    token = scenes.annotation_tokens[known][int(lying.argmax())].decode()
    said = (
        f"{table_path(folder, 'sample_annotation')}: {int(lying.sum())} of {len(boxes)} boxes lie on "
        f"their side, record '{token}' the first"
    )
    if not (tilts(swapped(boxes)) < STEEPEST).any():
        raise SynclError(f"{said}: {_SWAPPED} from the box to the global frame")
    warnings.warn(f"{said}; only headings are used; field 'rotation': {_ORDER}", stacklevel=4)


def _check_driving(folder: Path, scenes: SceneColumns, cameras: CameraColumns, more: bool) -> None:
    """Refuse poses by which vehicles drive backwards if the other order fits; `more`: of cameras it does."""
    goes_on = np.ones(max(len(cameras.sample_poses) - 1, 0), bool)
    goes_on[scenes.scene_start[1:-1] - 1] = False
    found = how_driven(cameras.sample_poses, goes_on)
    if not found.always_backwards:
        return
    said = (
        f"{table_path(folder, 'ego_pose')}: by field 'rotation' (w, x, y, z, from the vehicle, x ahead) "
        f"it drives backwards in {found.backwards} of the {found.steps} steps in which it moves"
    )
    if found.swapped or (more and found.forwards_if_swapped):
        raise SynclError(f"{said}: {_SWAPPED}")
    warnings.warn(said, stacklevel=4)


def _upside_down(poses: Numbers) -> int:
    """How many cameras hang upside down."""
    down = rotation_from_quaternion(poses[:, 3:])[:, 2, 1]
    return int((down > UPSIDE_DOWN).sum())
