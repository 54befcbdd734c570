"""From logs to the columnar index that every command reads.

A log is a scene, a sweep a sample. A sample's token is `<log>/<ns>`: results lead back to their sweep.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from syncl.data.argoverse2.feather import Integers, Numbers
from syncl.data.argoverse2.log_contents import Images, poses_at, read_images, read_sweeps
from syncl.data.argoverse2.log_folders import ANNOTATIONS, CAMERAS, RING_CAMERAS
from syncl.data.nuscenes.tables.annotation_table import finite_velocities
from syncl.data.nuscenes.tables.index_columns import CameraColumns, SceneColumns, Tokens, offsets
from syncl.dataset_description import DatasetDescription
from syncl.errors import SynclError, did_you_mean
from syncl.geometry.poses import quaternion_from_rotation, rotation_from_quaternion
from syncl.progress import progress_bar


def build_scenes(
    dataroot: Path, logs: Sequence[tuple[str, str]], dataset: DatasetDescription
) -> SceneColumns:
    """Sweeps and annotations of logs.

    Velocities are differences of a track's positions in the city's frame between the sweep before and the one
    after, since annotations have none.

    Args:
        dataroot: folder of the splits.
        logs: (split, name) of each.
        dataset: which category is which class.

    Raises:
        SynclError: as `read_sweeps`; or a category that nobody knows.
    """
    found = [
        read_sweeps(dataroot / split / name)
        for split, name in progress_bar(logs, f"Indexing {dataroot.name}")
    ]
    categories = sorted({name for log in found for name in log.categories})
    for (split, name), log in zip(logs, found):
        _refuse_unknown(dataroot / split / name / ANNOTATIONS, log.categories, dataset)
    number = {name: place for place, name in enumerate(categories)}
    first_sweep = np.cumsum([0, *(len(log.times_ns) for log in found)])
    first_track = np.cumsum([0, *(len(log.tracks) for log in found)])
    sample = np.concatenate([log.sweep + start for log, start in zip(found, first_sweep)])
    instance = np.concatenate([log.track + start for log, start in zip(found, first_track)])
    category = np.concatenate(
        [np.array([number[name] for name in log.categories] or [0])[log.category] for log in found]
    )
    times_ns = np.concatenate([log.times_ns for log in found])
    poses = np.concatenate([log.poses for log in found])
    boxes = _moved(poses[sample], np.concatenate([log.boxes for log in found]))
    labels = np.array([dataset.label(name) for name in categories] or [-1])
    points = np.concatenate([log.points for log in found])
    count = len(sample)
    return SceneColumns(
        scene_names=_texts([name for _, name in logs]),
        scene_start=first_sweep.astype(np.int64),
        sample_tokens=_texts(
            [f"{name}/{time}" for (_, name), log in zip(logs, found) for time in log.times_ns.tolist()]
        ),
        sample_timestamps_us=(times_ns + 500) // 1000,
        sample_table_rows=np.arange(len(times_ns)),
        sample_ego_xy=poses[:, :2].copy(),
        annotation_start=offsets(sample, len(times_ns)),
        annotation_tokens=np.arange(count).astype("S8"),
        annotation_boxes=boxes,
        annotation_velocities=_velocities(boxes, sample, 1e-9 * (times_ns - times_ns[:1]), instance),
        annotation_lost=np.zeros(count, np.bool_),
        annotation_labels=labels[category].astype(np.int32),
        annotation_categories=category.astype(np.int32),
        annotation_instances=instance.astype(np.int32),
        annotation_attributes=np.full(count, -1, np.int32),
        annotation_points=np.stack([np.clip(points, -1, 2**31 - 1), np.zeros(count)], axis=1).astype(
            np.int32
        ),
        annotation_visibility=np.zeros(count, np.int32),
        category_names=_texts(categories),
        attribute_names=np.zeros(0, "S1"),
    )


def build_cameras(dataroot: Path, logs: Sequence[tuple[str, str]], scenes: SceneColumns) -> CameraColumns:
    """Ring cameras of logs: of every sweep the nearest image of each.

    Args:
        dataroot: folder of the splits.
        logs: (split, name) of each.
        scenes: their sweeps.

    Raises:
        SynclError: as `read_images`.
    """
    found: list[Images] = []
    files: list[str] = []
    poses: list[Numbers] = []
    bar = progress_bar(logs, f"Indexing cameras of {dataroot.name}")
    for place, (split, name) in enumerate(bar):
        log = dataroot / split / name
        rows = slice(*scenes.scene_start[place : place + 2])
        own_times = np.array([time_of(token) for token in scenes.sample_tokens[rows].tolist()], np.int64)
        own = read_images(log, own_times)
        found.append(own)
        poses.append(poses_at(own_times, log, "a sweep"))
        files += [
            f"{split}/{name}/{CAMERAS}/{RING_CAMERAS[camera]}/{time}.jpg"
            for camera, time in zip(own.camera.tolist(), own.times_ns.tolist())
        ]
    count = len(RING_CAMERAS)
    sample = np.concatenate([own.sweep + start for own, start in zip(found, scenes.scene_start)])
    camera = np.concatenate([own.camera for own in found])
    calibration = camera + count * np.repeat(np.arange(len(found)), [len(own.camera) for own in found])
    sizes = np.concatenate([own.sizes for own in found])
    times_ns = np.concatenate([own.times_ns for own in found])
    return CameraColumns(
        sample_poses=np.concatenate(poses),
        sample_lidars=np.full(len(scenes.sample_tokens), -1, np.int32),
        channels=_texts(RING_CAMERAS),
        image_start=offsets(sample, len(scenes.sample_tokens)),
        image_channels=camera.astype(np.int32),
        image_calibrations=calibration.astype(np.int32),
        image_poses=np.concatenate([own.poses for own in found]),
        image_timestamps_us=(times_ns + 500) // 1000,
        image_files=_texts(files),
        image_sizes=sizes[calibration].astype(np.int32),
        calibration_poses=np.concatenate([own.extrinsics for own in found]),
        intrinsics=np.concatenate([own.intrinsics for own in found]),
        distortions=np.zeros((count * len(found), 14)),
    )


def time_of(sample_token: bytes) -> int:
    """The sweep's time in nanoseconds, which tokens end with."""
    return int(sample_token.rpartition(b"/")[2])


def _refuse_unknown(path: Path, names: Sequence[str], dataset: DatasetDescription) -> None:
    known = (*dataset.categories, *dataset.left_out)
    for name in names:
        if name not in known:
            raise SynclError(
                f"{path}: column 'category' has {name!r}, which {dataset.name} does not know"
                f"{did_you_mean(name, known)}; mend the table, or describe the categories in dataset.yaml"
            )


def _moved(poses: Numbers, boxes: Numbers) -> Numbers:
    """Boxes [A, 10] of the ego frame in the city's, where the vehicle stands at poses [A, 7]."""
    city_from_ego = rotation_from_quaternion(poses[:, 3:])
    centres = (city_from_ego @ boxes[:, :3, None])[..., 0] + poses[:, :3]
    turned = quaternion_from_rotation(city_from_ego @ rotation_from_quaternion(boxes[:, 6:]))
    return np.concatenate([centres, boxes[:, 3:6], turned], axis=1)


def _velocities(boxes: Numbers, sample: Integers, times_s: Numbers, instance: Integers) -> Numbers:
    """[A, 2] m/s, city frame, by nuScenes' rule: between a track's box before and the one after."""
    order = np.lexsort((sample, instance))
    same = np.diff(instance[order]) == 0
    previous, following = np.full(len(order), -1), np.full(len(order), -1)
    previous[order[1:][same]] = order[:-1][same]
    following[order[:-1][same]] = order[1:][same]
    return finite_velocities(boxes[:, :3], times_s[sample], previous, following)


def _texts(names: Sequence[str]) -> Tokens:
    return np.array([name.encode() for name in names] or np.zeros(0, "S1"))
