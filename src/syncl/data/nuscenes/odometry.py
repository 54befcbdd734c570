"""The vehicle's own motion, for detectors that are told of it: poses, and nuScenes' CAN-bus extension.

The extension is a download of its own, unpacked as `can_bus/` beside `samples/`. `scene-0001_pose.json` lists
what the vehicle's instruments said in a scene, about fifty times a second. Some twenty scenes have none.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from syncl.data.augmentation import WorldTransform
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.samples import Sample
from syncl.errors import SynclError, shown
from syncl.files import inside, parse_json
from syncl.geometry.poses import invert_pose
from syncl.structures import Odometry

_FOLDER = "can_bus"
# Acceleration (m/s^2), rotation rate (rad/s), velocity (m/s), each along the ego vehicle's three axes.
_FIELDS = ("accel", "rotation_rate", "vel")
_UNKNOWN = np.zeros(9)
# From a sample to the nearest reading. In nuScenes some scenes lack a few seconds, none a minute.
_APART_S = 60.0


class OdometrySource:
    """What is known of the vehicle's motion at the samples of a dataset.

    Args:
        index: the dataset.
    """

    def __init__(self, index: NuScenesIndex) -> None:
        self._index = index
        self._scenes: dict[str, tuple[NDArray[np.int64], NDArray[np.float64]] | None] = {}

    def of(self, row: int, sample: Sample, world: WorldTransform | None = None) -> Odometry:
        """The odometry of a sample, B = 1.

        Args:
            row: of the sample.
            sample: itself.
            world: augmentation of the vehicle frame.

        Raises:
            SynclError: if the scene's file of the extension is damaged, naming file, message and field.
        """
        readings = self.readings(sample.scene_name, sample.timestamp_us)
        mounted = invert_pose(sample.global_from_ego) @ sample.global_from_vehicle
        if world is not None:
            # It changes along the axes of the frame's vehicle frame; a lidar's are not the vehicle's own.
            ego_from_vehicle = mounted[:3, :3]
            moved = world.move_readings((readings.reshape(3, 3) @ ego_from_vehicle).ravel())
            readings = (moved.reshape(3, 3) @ ego_from_vehicle.T).ravel()
        rotation = self._index.columns.sample_poses[row, 3:]
        parts = (mounted, rotation, readings)
        return Odometry(*(torch.tensor(part, dtype=torch.float64)[None] for part in parts))

    def readings(self, scene: str, timestamp_us: int) -> NDArray[np.float64]:
        """[9] the first readings after a time, as published weights know them; the last ones at the end.

        Scenes without any give zeros, as in the original.

        Raises:
            SynclError: as `read_messages`; or the readings are of another time altogether.
        """
        path = can_bus_file(self._index, scene)
        if scene not in self._scenes:
            self._scenes[scene] = read_messages(path) if path.is_file() else None
        messages = self._scenes[scene]
        if messages is None:
            return _UNKNOWN
        times_us, readings = messages
        after = min(int(np.searchsorted(times_us, timestamp_us, side="right")), len(times_us) - 1)
        away_s = 1e-6 * min(abs(int(times_us[near]) - timestamp_us) for near in (max(after - 1, 0), after))
        if away_s > _APART_S:
            raise SynclError(
                f"{path}: its readings are {away_s:,.6g} s away from a sample of the scene; field 'utime' is "
                "in microseconds, as the samples' timestamps are"
            )
        chosen: NDArray[np.float64] = readings[after]
        return chosen


def can_bus_file(index: NuScenesIndex, scene: str) -> Path:
    """Where the extension has a scene's readings, whether it exists or not."""
    return inside(index.dataroot, f"{_FOLDER}/{scene}_pose.json")


def can_bus_remark(index: NuScenesIndex, scenes: Iterable[str]) -> str:
    """Where the vehicle's motion in these scenes comes from, for people to read."""
    names = tuple(scenes)
    missing = [name for name in names if not can_bus_file(index, name).is_file()]
    if not missing:
        return "the vehicle's motion: poses, and readings of the CAN-bus extension"
    which = f"{len(missing)} of {len(names)} scenes ({missing[0]}{', ...' if len(missing) > 1 else ''})"
    if len(missing) == len(names):
        which = "these scenes"
    return (
        f"the vehicle's motion: poses; {index.dataroot / _FOLDER} has no readings of {which}, so "
        "acceleration, rotation rate and velocity are told as 0 there (nuScenes' CAN-bus extension has them)"
    )


def read_messages(path: Path) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Times [M] in microseconds and readings [M, 9] of a scene's file.

    Raises:
        SynclError: if it is damaged, naming message and field.
    """
    messages = parse_json(path)
    if not isinstance(messages, list) or not messages:
        raise SynclError(f"{path}: must be a list of messages, and not empty; unpack the extension again")
    times_us = np.zeros(len(messages), np.int64)
    readings = np.zeros((len(messages), 9))
    for number, message in enumerate(messages):
        known: dict[str, object] = message if isinstance(message, dict) else {}
        time_us, vectors = known.get("utime"), [_vector(known.get(name)) for name in _FIELDS]
        if type(time_us) is not int or not 0 <= time_us < 2**63 or not all(vectors):
            raise SynclError(
                f"{path}: message {number} needs utime (microseconds) and accel, rotation_rate and vel "
                f"(three numbers each), and has {shown(message)}; unpack the extension again"
            )
        times_us[number], readings[number] = time_us, np.concatenate(vectors)
    if not (np.isfinite(readings).all() and (np.diff(times_us) >= 0).all()):
        raise SynclError(f"{path}: readings are not finite, or not in time order; unpack the extension again")
    return times_us, readings


def _vector(value: object) -> list[float]:
    """Three numbers; nothing where the value is anything else."""
    whole = isinstance(value, list) and len(value) == 3 and all(type(item) in (int, float) for item in value)
    return value if isinstance(value, list) and whole else []
