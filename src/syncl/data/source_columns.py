"""Whether columns are what their documentation says: a check of readers, whoever wrote them.

Readers name what is wrong in files themselves; this is what would otherwise be learned from, or end a run
midway.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from syncl.data.nuscenes.tables.index_columns import CameraColumns, SceneColumns
from syncl.errors import SynclError

_LONGEST_ERROR = 1e-3  # of a unit quaternion's length
Rows = NDArray[np.bool_]


def checked_scenes(columns: SceneColumns, classes: int, source: str) -> SceneColumns:
    """The columns, if samples ascend in time and annotations that are learned from are boxes.

    Args:
        columns: of a reader.
        classes: number of the dataset's classes.
        source: the reader, for messages.

    Raises:
        SynclError: naming reader, column, sample and value.
    """
    _check_lengths(columns, source, "annotation_tokens", "annotation_")
    _check_lengths(columns, source, "sample_tokens", "sample_")
    _check_offsets(
        columns.scene_start, len(columns.scene_names), len(columns.sample_tokens), source, "scene_start"
    )
    tokens, annotations = columns.sample_tokens, len(columns.annotation_tokens)
    _check_offsets(columns.annotation_start, len(tokens), annotations, source, "annotation_start")
    for name, texts in (("scene_names", columns.scene_names), ("sample_tokens", tokens)):
        values, counts = np.unique(texts, return_counts=True)
        if (counts > 1).any():
            raise SynclError(f"{source}: {name}: {values[counts > 1][0].decode()!r} is there more than once")
    first = np.zeros(len(tokens), np.bool_)
    first[columns.scene_start[:-1][np.diff(columns.scene_start) > 0]] = True
    times_us = columns.sample_timestamps_us
    late = ~first
    late[1:] &= np.diff(times_us) <= 0
    _refuse(
        late,
        source,
        "sample_timestamps_us",
        lambda row: _token(tokens, row),
        times_us,
        "is not later than that of the sample before it in its scene",
    )
    owners = np.repeat(np.arange(len(tokens)), np.diff(columns.annotation_start))

    def place(row: int) -> str:
        return f"an annotation of {_token(tokens, int(owners[row]))}"

    labels, kinds = columns.annotation_labels, columns.annotation_categories
    _refuse(
        (labels < -1) | (labels >= classes),
        source,
        "annotation_labels",
        place,
        labels,
        f"is no class of {classes}, nor -1",
    )
    _refuse(
        (kinds < 0) | (kinds >= len(columns.category_names)),
        source,
        "annotation_categories",
        place,
        kinds,
        "is no row of category_names",
    )
    learned, boxes = labels >= 0, columns.annotation_boxes
    _refuse(
        learned & ~np.isfinite(boxes).all(1),
        source,
        "annotation_boxes",
        place,
        boxes,
        "has numbers that are not finite",
    )
    _refuse(
        learned & ~(boxes[:, 3:6] > 0).all(1),
        source,
        "annotation_boxes",
        place,
        boxes[:, 3:6],
        "is a size that is not positive",
    )
    _refuse(
        learned & ~_rotations(boxes[:, 6:]),
        source,
        "annotation_boxes",
        place,
        boxes[:, 6:],
        "is no rotation: a unit quaternion w, x, y, z",
    )
    pairs = np.stack([owners, columns.annotation_instances], 1)
    _, kept = np.unique(pairs, axis=0, return_index=True)
    doubled = np.ones(annotations, np.bool_)
    doubled[kept] = False
    _refuse(
        doubled & learned,
        source,
        "annotation_instances",
        place,
        columns.annotation_instances,
        "is there twice in its sample",
    )
    return columns


def checked_cameras(columns: CameraColumns, scenes: SceneColumns, source: str) -> CameraColumns:
    """The columns, if images have a camera, a calibration, a pose and a size.

    Args:
        columns: of a reader.
        scenes: of the same reader.
        source: the reader, for messages.

    Raises:
        SynclError: naming reader, column, image and value.
    """
    samples, images = len(scenes.sample_tokens), len(columns.image_files)
    _check_lengths(columns, source, "image_files", "image_")
    _check_lengths(columns, source, "calibration_poses", "calibration_", "intrinsics", "distortions")
    if len(columns.sample_poses) != samples or len(columns.sample_lidars) != samples:
        raise SynclError(
            f"{source}: sample_poses, sample_lidars: have not a row for each of {samples} samples"
        )
    _check_offsets(columns.image_start, samples, images, source, "image_start")

    def place(row: int) -> str:
        return str(columns.image_files[row].decode())

    channels, calibrations = columns.image_channels, columns.image_calibrations
    _refuse(
        (channels < 0) | (channels >= len(columns.channels)),
        source,
        "image_channels",
        place,
        channels,
        "is no row of channels",
    )
    _refuse(
        (calibrations < 0) | (calibrations >= len(columns.calibration_poses)),
        source,
        "image_calibrations",
        place,
        calibrations,
        "is no row of calibration_poses",
    )
    first = np.zeros(images, np.bool_)
    first[columns.image_start[:-1][np.diff(columns.image_start) > 0]] = True
    unordered = ~first
    unordered[1:] &= np.diff(channels) <= 0
    _refuse(unordered, source, "image_channels", place, channels, "does not ascend within its sample")
    _refuse(
        np.minimum(columns.image_sizes[:, 0], columns.image_sizes[:, 1]) <= 0,
        source,
        "image_sizes",
        place,
        columns.image_sizes,
        "is no width and height",
    )
    poses = columns.image_poses
    _refuse(
        ~(np.isfinite(poses).all(1) & _rotations(poses[:, 3:])),
        source,
        "image_poses",
        place,
        poses,
        "is no place and unit quaternion w, x, y, z",
    )
    sensors = columns.calibration_poses
    seen = _rotations(sensors[:, 3:]) & np.isfinite(sensors).all(axis=1)
    seen &= np.isfinite(columns.intrinsics).all(axis=(1, 2))
    _refuse(
        ~seen[calibrations],
        source,
        "calibration_poses, intrinsics",
        place,
        calibrations,
        "is a calibration that is not finite, or no rotation",
    )
    return columns


def _check_lengths(columns: object, source: str, whole: str, prefix: str, *more: str) -> None:
    """All columns of one kind have as many rows as the one called `whole`, but for offsets."""
    names = [name for name in vars(columns) if name.startswith(prefix) and not name.endswith("_start")]
    rows = len(getattr(columns, whole))
    for name in (*names, *more):
        if len(getattr(columns, name)) != rows:
            raise SynclError(f"{source}: {name} has {len(getattr(columns, name))} rows, {whole} {rows}")


def _check_offsets(start: NDArray[np.int64], owners: int, rows: int, source: str, name: str) -> None:
    right = len(start) == owners + 1 and start[0] == 0 and start[-1] == rows and (np.diff(start) >= 0).all()
    if not right:
        raise SynclError(f"{source}: {name}: is no list of {owners + 1} offsets that ascend from 0 to {rows}")


def _rotations(quaternions: NDArray[np.float64]) -> Rows:
    found: Rows = np.abs(np.linalg.norm(quaternions, axis=1) - 1) < _LONGEST_ERROR
    return found


def _token(tokens: NDArray[np.bytes_], row: int) -> str:
    return f"sample {tokens[row].decode()}"


def _refuse(
    wrong: Rows, source: str, column: str, place: Callable[[int], str], values: NDArray[np.generic], what: str
) -> None:
    if not wrong.any():
        return
    row = int(wrong.argmax())
    more = f" ({int(wrong.sum())} such rows)" if wrong.sum() > 1 else ""
    raise SynclError(f"{source}: {column} of {place(row)}: {values[row].tolist()} {what}{more}")
