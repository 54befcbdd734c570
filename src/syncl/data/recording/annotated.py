"""Annotated recordings as a dataset: they train, are scored and drawn as nuScenes' scenes are.

A data root is one recording, or a folder of them; each is a scene. Beside them lie `dataset.yaml` and, where
not all are for everything, `splits.json`.
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

import numpy as np

from syncl.data.lenses import COEFFICIENTS, Lens
from syncl.data.nuscenes.splits import read_splits
from syncl.data.nuscenes.tables.annotation_table import finite_velocities
from syncl.data.nuscenes.tables.index_columns import CameraColumns, SceneColumns, Tokens, offsets
from syncl.data.recording.annotations_file import (
    ANNOTATIONS_FILE,
    RecordingAnnotations,
    read_annotations_file,
)
from syncl.data.recording.rig_contents import Array, Moment, Rig, RigCamera
from syncl.data.recording.rig_file import RIG_FILE, read_rig
from syncl.data.recording.video import VideoFrame
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError, did_you_mean
from syncl.geometry.poses import quaternion_from_rotation, quaternion_from_yaw, rotation_from_quaternion

_PINHOLE = max(COEFFICIENTS["pinhole"])


class AnnotatedRecordings:
    """See `syncl.data.dataset_sources.DatasetSource`.

    Args:
        dataroot: a recording, or a folder of recordings.
    """

    def __init__(self, dataroot: Path) -> None:
        self.folder = dataroot

    def describe(self) -> DatasetDescription:
        """nuScenes' classes; most recordings have their own, in a `dataset.yaml`."""
        return NUSCENES

    def splits(self) -> Mapping[str, tuple[str, ...]]:
        """Those of `splits.json`; otherwise one called "all"."""
        file = self.folder / "splits.json"
        return read_splits(file) if file.is_file() else {"all": tuple(self._folders)}

    def fingerprint(self) -> None:
        """Recordings are read each time."""

    @cached_property
    def _folders(self) -> dict[str, Path]:
        if (self.folder / RIG_FILE).is_file():
            return {self.folder.resolve().name: self.folder}
        return {path.parent.name: path.parent for path in sorted(self.folder.glob(f"*/{RIG_FILE}"))}

    @cached_property
    def _recordings(self) -> dict[str, tuple[Rig, RecordingAnnotations | None]]:
        found = {}
        for name, folder in self._folders.items():
            rig, file = read_rig(folder), folder / ANNOTATIONS_FILE
            found[name] = rig, read_annotations_file(file, rig) if file.is_file() else None
        return found

    @cached_property
    def _moments(self) -> list[tuple[str, Rig, Moment]]:
        """The annotated moments of all recordings, those of a recording without annotations too."""
        return [
            (name, rig, moment)
            for name, (rig, annotations) in self._recordings.items()
            for moment in rig.moments
            if annotations is None or moment.name in annotations.frames
        ]

    def scenes(self, dataset: DatasetDescription) -> SceneColumns:
        """See `DatasetSource.scenes`."""
        moments = self._moments
        poses = np.array([moment.global_from_vehicle for _, _, moment in moments]).reshape(-1, 4, 4)
        owners = np.array([list(self._recordings).index(name) for name, _, _ in moments], np.int64)
        categories = tuple(dataset.categories) + tuple(set(dataset.left_out) - set(dataset.categories))
        row_of = {(name, moment.name): row for row, (name, _, moment) in enumerate(moments)}
        instances: dict[tuple[str, str], int] = {}
        samples: list[int] = []
        kinds: list[int] = []
        objects: list[int] = []
        boxes: list[Array] = []
        for name, (_, annotations) in self._recordings.items():
            if annotations is None:
                continue
            file = self._folders[name] / ANNOTATIONS_FILE
            for number, place in enumerate(annotations.frame):
                samples.append(row_of[name, annotations.frames[place]])
                kind = _category(file, number, annotations.classes[number], dataset)
                kinds.append(categories.index(kind))
                objects.append(instances.setdefault((name, annotations.tracks[number]), len(instances)))
                boxes.append(annotations.boxes[number])
        sample, instance = np.array(samples, np.int64), np.array(objects, np.int64)
        times_us = _microseconds(moments)
        in_vehicle = np.array(boxes, np.float64).reshape(-1, 7)
        pose = poses[sample]
        centres = np.einsum("nij,nj->ni", pose[:, :3, :3], in_vehicle[:, :3]) + pose[:, :3, 3]
        turned = pose[:, :3, :3] @ rotation_from_quaternion(quaternion_from_yaw(in_vehicle[:, 6]))
        rotations = quaternion_from_rotation(turned)
        previous, following = _neighbours(sample, instance)
        order = np.argsort(sample, kind="stable")
        labels = np.array([*(dataset.label(category) for category in categories), -1], np.int32)
        category = np.array(kinds, np.int64)
        return SceneColumns(
            annotation_start=offsets(sample[order], len(moments)),
            annotation_tokens=_texts([f"{number}" for number in order.tolist()]),
            annotation_boxes=np.concatenate([centres, in_vehicle[:, 3:6], rotations], axis=1)[order],
            annotation_velocities=finite_velocities(centres, times_us[sample] * 1e-6, previous, following)[
                order
            ],
            annotation_lost=np.zeros(len(order), np.bool_),
            annotation_labels=labels[category][order],
            annotation_categories=category[order].astype(np.int32),
            annotation_instances=instance[order].astype(np.int32),
            annotation_attributes=np.full(len(order), -1, np.int32),
            annotation_points=np.full((len(order), 2), -1, np.int32),
            annotation_visibility=np.zeros(len(order), np.int32),
            category_names=_texts(categories),
            attribute_names=_texts(()),
            scene_names=_texts(tuple(self._recordings)),
            scene_start=offsets(owners, len(self._recordings)),
            sample_tokens=_texts([f"{name}/{moment.name}" for name, _, moment in moments]),
            sample_timestamps_us=times_us,
            sample_table_rows=np.arange(len(moments)),
            sample_ego_xy=poses[:, :2, 3],
        )

    def cameras(self, scenes: SceneColumns) -> CameraColumns:  # noqa: ARG002
        """See `DatasetSource.cameras`."""
        views = self._views
        moments = self._moments
        names = tuple(dict.fromkeys(camera.name for _, _, camera in views))
        channels = np.array([names.index(camera.name) for _, _, camera in views], np.int32)
        placed = np.array([moments[row][1].vehicle_from_camera(moments[row][2], c) for row, _, c in views])
        lidars = [rig.vehicle_from_lidar for rig, _ in self._recordings.values()]
        known = [lidar for lidar in lidars if lidar is not None]
        of_recording = [len(views) + sum(x is not None for x in lidars[:k]) for k in range(len(lidars))]
        order = list(self._recordings)
        bodies = np.array([moment.global_from_vehicle for _, _, moment in moments]).reshape(-1, 4, 4)
        sample_poses, rows = _poses(bodies), np.array([row for row, _, _ in views], np.int64)
        count = len(views)
        return CameraColumns(
            sample_poses=sample_poses,
            sample_lidars=np.array(
                [
                    -1 if rig.vehicle_from_lidar is None else of_recording[order.index(name)]
                    for name, rig, _ in moments
                ],
                np.int32,
            ),
            channels=_texts(names),
            image_start=offsets(rows, len(moments)),
            image_channels=channels,
            image_calibrations=np.arange(count, dtype=np.int32),
            image_poses=sample_poses[rows],
            image_timestamps_us=_microseconds(moments)[rows],
            image_files=_texts([file for _, file, _ in views]),
            image_sizes=np.array([(c.width, c.height) for _, _, c in views], np.int32).reshape(-1, 2),
            calibration_poses=_poses(np.concatenate([placed.reshape(-1, 4, 4), *(k[None] for k in known)])),
            intrinsics=np.array(
                [self._intrinsics(row, camera) for row, _, camera in views]
                + [np.full((3, 3), np.nan)] * len(known)
            ).reshape(-1, 3, 3),
            distortions=np.zeros((count + len(known), _PINHOLE)),
        )

    def lenses(self) -> tuple[Lens | None, ...]:
        """See `DatasetSource.lenses`: of each image, and none of the lidars'."""
        found = [camera.lens for _, _, camera in self._views]
        return (*found, *(None for rig, _ in self._recordings.values() if rig.vehicle_from_lidar is not None))

    @cached_property
    def _views(self) -> list[tuple[int, str, RigCamera]]:
        """Every image: row of its moment, file below the data root, camera; by moment, then camera."""
        names = dict.fromkeys(camera.name for rig, _ in self._recordings.values() for camera in rig.cameras)
        root, found = self.folder, []
        for row, (_, rig, moment) in enumerate(self._moments):
            for name in names:
                if name not in moment.images:
                    continue
                image = moment.images[name]
                if isinstance(image, VideoFrame):
                    raise SynclError(
                        f"{rig.path}: cameras.{name}: is a video; training and scoring read single images: "
                        f"write its frames to images/{name}/ (ffmpeg -i VIDEO images/{name}/%06d.jpg) and "
                        "leave 'video' out"
                    )
                found.append((row, image.relative_to(root).as_posix(), rig.camera(name)))
        if not found:
            raise SynclError(f"{root}: no annotated frame has an image")
        return found

    def _intrinsics(self, row: int, camera: RigCamera) -> Array:
        """[3, 3] of the image file, or of the moment where that differs."""
        own = self._moments[row][2].calibrations.get(camera.name)
        return camera.intrinsics if own is None or own.intrinsics is None else own.intrinsics


def _category(file: Path, number: int, name: str, dataset: DatasetDescription) -> str:
    """The category of an annotation that names a category, or a class."""
    if name in dataset.categories or name in dataset.left_out:
        return name
    if name in dataset.classes:
        return next(category for category, of in dataset.categories.items() if of == name)
    known = (*dataset.classes, *dataset.categories, *dataset.left_out)
    raise SynclError(
        f"{file}: annotations[{number}].class: {name!r} is none of the classes of {dataset.name}, "
        f"{', '.join(dataset.classes)}{did_you_mean(name, known)}; name it in "
        "dataset.yaml, among a class's categories or left_out"
    )


def _neighbours(sample: np.ndarray, instance: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows [N] of the boxes of the same object before and after; -1 where there is none."""
    order = np.lexsort((sample, instance))
    same = instance[order][1:] == instance[order][:-1]
    previous, following = np.full(len(order), -1), np.full(len(order), -1)
    previous[order[1:][same]] = order[:-1][same]
    following[order[:-1][same]] = order[1:][same]
    return previous, following


def _microseconds(moments: list[tuple[str, Rig, Moment]]) -> np.ndarray:
    return np.rint([moment.timestamp_s * 1e6 for _, _, moment in moments]).astype(np.int64)


def _poses(matrices: Array) -> Array:
    """Poses [N, 7] of rigid transforms [N, 4, 4]."""
    return np.concatenate([matrices[:, :3, 3], quaternion_from_rotation(matrices[:, :3, :3])], axis=1)


def _texts(values: tuple[str, ...] | list[str]) -> Tokens:
    return np.array([value.encode() for value in values] or np.zeros(0, "S1"))
