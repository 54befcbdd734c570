"""Tables whose values are numbers, but cannot be what they should: other units, other orders.

Metrics are computed all the same, as the official ones are; whoever sees through cameras or learns refuses.
"""

import warnings
from pathlib import Path

import numpy as np

from syncl.data.nuscenes.tables.index_columns import CameraColumns, Numbers, SceneColumns
from syncl.data.nuscenes.tables.table_files import table_path
from syncl.errors import SynclError
from syncl.geometry.poses import rotation_from_quaternion

# Median of the time between key frames; 0.5 s in nuScenes, 0.1 s in others.
_SHORTEST_S, _LONGEST_S = 0.01, 60.0
# An image and its key frame; the farthest exposure of nuScenes is 0.06 s away.
_APART_S = 60.0
_STEEPEST = 0.85
"""Cosine of the steepest tilt, 32 degrees."""
# Between key frames, of a vehicle that drives; how many such steps, and the share of them that go backwards.
_DRIVES_M, _FEWEST, _MOST_BACKWARDS = 0.5, 3, 0.9

UPSIDE_DOWN = 0.2
"""How far up the lower edge of an image points at least, where a camera counts as upside down."""


def time_problem(folder: Path, scenes: SceneColumns) -> str | None:
    """Why timestamps cannot be microseconds, None where they can: one is not finite, or a scene's key frames
    lie less than 10 ms or more than a minute apart.
    """
    times_us = scenes.sample_timestamps_us
    lost = ~np.isfinite(times_us)
    if lost.any():
        row = int(lost.argmax())
        token = scenes.sample_tokens[row].decode()
        return (
            f"{table_path(folder, 'sample')}: record '{token}': field 'timestamp' is {times_us[row]}, which "
            f"is no time ({int(lost.sum())} such records)"
        )
    for scene, name in enumerate(scenes.scene_names.tolist()):
        rows = slice(scenes.scene_start[scene], scenes.scene_start[scene + 1])
        gaps_s = 1e-6 * np.diff(scenes.sample_timestamps_us[rows])
        if gaps_s.size and not _SHORTEST_S <= (median_s := float(np.median(gaps_s))) <= _LONGEST_S:
            return (
                f"{table_path(folder, 'sample')}: key frames of scene '{name.decode()}' lie {median_s:,.6g} "
                "s apart (median of field 'timestamp'); timestamps are in microseconds"
            )
    return None


def check_cameras(folder: Path, scenes: SceneColumns, cameras: CameraColumns) -> None:
    """Make sure that timestamps are microseconds in all tables, and vehicles stand on their wheels.

    Warns of vehicles that always drive backwards, and of cameras that hang upside down.

    Raises:
        SynclError: naming what is far off.
    """
    if (problem := time_problem(folder, scenes)) is not None:
        raise SynclError(problem)
    owners = np.repeat(np.arange(len(scenes.sample_tokens)), np.diff(cameras.image_start))
    apart_s = 1e-6 * (cameras.image_timestamps_us - scenes.sample_timestamps_us[owners])
    if apart_s.size and abs(median_s := float(np.median(apart_s))) > _APART_S:
        raise SynclError(
            f"{table_path(folder, 'sample_data')}: field 'timestamp' of images is {median_s:,.6g} s off "
            "their samples' (median); both are in microseconds"
        )
    up = _up_axes(cameras.sample_poses)
    tilted = up[:, 2] < _STEEPEST
    if tilted.any():
        row = int(tilted.argmax())
        raise SynclError(
            f"{table_path(folder, 'ego_pose')}: at sample '{scenes.sample_tokens[row].decode()}' the "
            f"vehicle's up axis does not point up but along {np.round(up[row], 2).tolist()} "
            f"({int(tilted.sum())} such samples); field 'rotation' is a quaternion w, x, y, z to "
            "a frame with z up"
        )
    backwards, steps = _backwards(scenes, cameras)
    if steps >= _FEWEST and backwards > _MOST_BACKWARDS * steps:
        warnings.warn(
            f"{table_path(folder, 'ego_pose')}: by field 'rotation' (w, x, y, z, from the vehicle, x ahead) "
            f"it drives backwards in {backwards} of the {steps} steps in which it moves",
            stacklevel=2,
        )
    calibrations = np.unique(cameras.image_calibrations)
    down = rotation_from_quaternion(cameras.calibration_poses[calibrations, 3:])[:, :, 1]
    turned = int((down[:, 2] > UPSIDE_DOWN).sum())
    if turned:
        warnings.warn(
            f"{table_path(folder, 'calibrated_sensor')}: by field 'rotation' {turned} of {len(down)} cameras "
            "hang upside down; it is a quaternion w, x, y, z from the camera (z ahead) to the vehicle",
            stacklevel=2,
        )


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
    up = _up_axes(poses)
    if (up[:, 2] < _STEEPEST).any():
        axis = np.round(up[int(up[:, 2].argmin())], 2).tolist()
        raise SynclError(
            f"{table_path(folder, 'calibrated_sensor')}: LIDAR_TOP's up axis does not point up but along "
            f"{axis}; field 'rotation' is a quaternion w, x, y, z from the sensor to the vehicle"
        )


def _backwards(scenes: SceneColumns, cameras: CameraColumns) -> tuple[int, int]:
    """In how many steps between key frames vehicles drive against their x axis, and in how many at all."""
    poses = cameras.sample_poses
    moved = np.diff(poses[:, :2], axis=0)
    ahead = rotation_from_quaternion(poses[:-1, 3:])[:, :2, 0]
    drives = np.hypot(*moved.T) > _DRIVES_M
    drives[scenes.scene_start[1:-1] - 1] = False
    backwards = (moved * ahead).sum(axis=1) < 0
    return int((backwards & drives).sum()), int(drives.sum())


def _up_axes(poses: Numbers) -> Numbers:
    """[N, 3] where z points to under poses [N, 7]."""
    axes: Numbers = rotation_from_quaternion(poses[:, 3:])[:, :, 2]
    return axes
