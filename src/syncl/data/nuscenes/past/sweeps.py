"""Camera images between key frames: read, and kept beside the index, only when somebody needs them.

Cameras take 12 images a second, of which nuScenes annotates two (key frames). Most models see key frames
only; PETRv2 also looks at an image in between. nuScenes calls what lies between key frames sweeps.

Letters: S scenes, C cameras, I images of all cameras, key frames among them, K images of key frames.
"""

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np

from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.tables.build import ego_poses, image_columns
from syncl.data.nuscenes.tables.cache import cache_path, cached_columns, fingerprint
from syncl.data.nuscenes.tables.index_columns import (
    ImageColumns,
    Integers,
    Numbers,
    NuScenesColumns,
    SmallIntegers,
    Tokens,
    offsets,
)
from syncl.data.nuscenes.tables.keys import Keys
from syncl.data.nuscenes.tables.schema import SCHEMA, is_key_frame
from syncl.data.nuscenes.tables.table_files import Record, read_table
from syncl.progress import progress_bar

PART = "sweeps"
"""Name of this part of the index in the cache."""


@dataclasses.dataclass(frozen=True)
class CameraSweeps(ImageColumns):
    """All images of all cameras, sorted by scene, camera and time, so that one's predecessor is a row before.

    Attributes:
        start: [S C + 1] offsets: camera c of scene s has the rows `start[s C + c]:start[s C + c + 1]`.
        key_rows: [K] where the images of key frames are, in the order of `NuScenesColumns`.
    """

    start: Integers
    key_rows: Integers

    def between_key_frames(self, columns: NuScenesColumns, scene: int) -> bool:
        """Whether a scene has images between its key frames."""
        cameras = len(columns.channels)
        samples = columns.scene_start[scene : scene + 2]
        keys = columns.image_start[samples[1]] - columns.image_start[samples[0]]
        everything = self.start[(scene + 1) * cameras] - self.start[scene * cameras]
        return bool(everything > keys)


def open_camera_sweeps(index: NuScenesIndex) -> CameraSweeps:
    """Every camera image of a dataset; from the cache where the tables have not changed since it was written.

    The first time takes about as long as indexing the key frames.

    Raises:
        SynclError: a table is damaged, or a reference of a camera image points nowhere (file, record and
            field are named).
    """
    folder = index.dataroot / index.version
    current = fingerprint(folder)
    key = (str(folder.absolute()), current)
    if key not in _LAST_OPENED:
        _LAST_OPENED.clear()
        path = cache_path(index.dataroot, index.version, PART)
        _LAST_OPENED[key] = cached_columns(
            path, current, CameraSweeps, lambda: build_camera_sweeps(folder, index.columns), index.cache
        )
    return _LAST_OPENED[key]


# Every scene of a dataset asks for the same arrays, which are large.
_LAST_OPENED: dict[tuple[str, str], CameraSweeps] = {}


def build_camera_sweeps(folder: Path, columns: NuScenesColumns) -> CameraSweeps:
    """Read the camera images between key frames, checking their references as those of key frames are.

    Raises:
        SynclError: see `open_camera_sweeps`.
    """
    steps = iter(progress_bar(range(2), f"Indexing images between key frames of {folder.name}"))
    next(steps)
    calibrations = read_table(folder, "calibrated_sensor", SCHEMA["calibrated_sensor"].fields)
    sensors = read_table(folder, "sensor", SCHEMA["sensor"].fields)
    others = calibrations_of_others(folder)
    fields = SCHEMA["sample_data"].fields
    data = read_table(folder, "sample_data", fields, keep=lambda record: is_camera_sweep(record, others))
    tokens = data["token"]
    Keys(folder, "sample_data", tokens)
    sample_rows = Keys(folder, "sample", columns.sample_tokens).rows(
        data["sample_token"], "sample_data", "sample_token", tokens
    )
    calibration_rows = Keys(folder, "calibrated_sensor", calibrations["token"]).rows(
        data["calibrated_sensor_token"], "sample_data", "calibrated_sensor_token", tokens
    )
    sensor_rows = Keys(folder, "sensor", sensors["token"]).rows(
        calibrations["sensor_token"], "calibrated_sensor", "sensor_token", calibrations["token"]
    )
    next(steps)
    poses = ego_poses(folder, data["ego_pose_token"], tokens, np.ones(len(tokens), np.bool_))
    next(steps, None)
    number_of = {name: number for number, name in enumerate(columns.channels.tolist())}
    channel_of_sensor = np.array([number_of.get(name, -1) for name in sensors["channel"].tolist()], np.int64)
    channels = channel_of_sensor[sensor_rows[calibration_rows]]
    # A camera that has no key frame at all is not one of the dataset's cameras.
    known = np.flatnonzero(channels >= 0)
    between = image_columns(folder, data, known, calibration_rows, poses)
    key_samples = np.repeat(np.arange(len(columns.sample_tokens)), np.diff(columns.image_start))
    return _sorted(columns, between, sample_rows[known], channels[known], key_samples)


def calibrations_of_others(folder: Path) -> frozenset[str]:
    """Tokens of the calibrations of sensors that are known to be no cameras.

    Raises:
        SynclError: a table is missing or damaged.
    """
    sensors = read_table(folder, "sensor", SCHEMA["sensor"].fields)
    calibrations = read_table(folder, "calibrated_sensor", SCHEMA["calibrated_sensor"].fields)
    others = set(sensors["token"][sensors["modality"] != b"camera"].tolist())
    pairs = zip(calibrations["token"].tolist(), calibrations["sensor_token"].tolist(), strict=True)
    return frozenset(token.decode() for token, sensor in pairs if sensor in others)


def is_camera_sweep(record: Record, other_calibrations: frozenset[str]) -> bool:
    """Whether a sample_data record is of a camera and between key frames; `KeyError` if it does not say.

    One whose calibration is unknown counts as a camera's, so that somebody complains.
    """
    return not is_key_frame(record) and record["calibrated_sensor_token"] not in other_calibrations


def _sorted(
    columns: NuScenesColumns,
    between: ImageColumns,
    sample_rows: Integers,
    channels: Integers,
    key_samples: Integers,
) -> CameraSweeps:
    keys = columns.images
    samples = np.concatenate([key_samples, sample_rows])
    scenes = np.searchsorted(columns.scene_start, samples, side="right") - 1
    cameras = len(columns.channels)
    groups = scenes * cameras + np.concatenate([columns.image_channels, channels])
    times = np.concatenate([keys.timestamps_us, between.timestamps_us])
    order = np.lexsort((times, groups))
    place = np.empty(len(order), np.int64)
    place[order] = np.arange(len(order))

    def joined(name: str) -> np.ndarray[tuple[int, ...], np.dtype[np.generic]]:
        return np.asarray(np.concatenate([getattr(keys, name), getattr(between, name)])[order])

    return CameraSweeps(
        calibrations=cast(SmallIntegers, joined("calibrations")),
        poses=cast(Numbers, joined("poses")),
        timestamps_us=times[order],
        files=cast(Tokens, joined("files")),
        sizes=cast(SmallIntegers, joined("sizes")),
        start=offsets(groups[order], len(columns.scene_names) * cameras),
        key_rows=place[: len(key_samples)],
    )
