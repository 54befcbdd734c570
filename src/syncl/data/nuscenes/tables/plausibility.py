"""Tables whose values are numbers, but cannot be what they should: other units, other orders.

Metrics are computed all the same, as the official ones are; whoever sees through cameras or learns refuses.
"""

from pathlib import Path

import numpy as np

from syncl.data.nuscenes.tables.index_columns import CameraColumns, SceneColumns
from syncl.data.nuscenes.tables.rotations import check_rotations
from syncl.data.nuscenes.tables.table_files import table_path
from syncl.errors import SynclError

# Median of the time between key frames; 0.5 s in nuScenes, 0.1 s in others.
_SHORTEST_S, _LONGEST_S = 0.01, 60.0
# An image and its key frame; the farthest exposure of nuScenes is 0.06 s away.
_APART_S = 60.0


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
    """Make sure that timestamps are microseconds in all tables, and rotations what they should be.

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
    check_rotations(folder, scenes, cameras)
