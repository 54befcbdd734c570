"""From the official tables to the columnar index."""

from pathlib import Path
from typing import cast

import numpy as np

from syncl.data.nuscenes.tables.annotation_table import AnnotationTable, read_annotations
from syncl.data.nuscenes.tables.categories import LIDAR_CHANNEL, order_cameras
from syncl.data.nuscenes.tables.index_columns import Integers, Numbers, NuScenesColumns, SmallIntegers, Tokens
from syncl.data.nuscenes.tables.keys import Keys
from syncl.data.nuscenes.tables.schema import SCHEMA, is_key_frame
from syncl.data.nuscenes.tables.table_files import Column, read_table, table_path
from syncl.errors import SynclError
from syncl.progress import track


def build_columns(folder: Path) -> NuScenesColumns:
    """Read the tables in a version folder (about a minute and 2 GB for the whole of v1.0-trainval).

    Raises:
        SynclError: a table is missing or damaged, a record lacks a field, a token is doubled, or a reference
            points nowhere.
    """
    steps = iter(track(range(3), f"Indexing {folder.name}"))
    next(steps)
    samples = _SampleTable(folder)
    next(steps)
    images = _ImageTable(folder, samples)
    next(steps)
    annotations = read_annotations(folder, samples.keys, samples.timestamps_us)
    next(steps, None)
    return _assemble(samples, images, annotations)


class _SampleTable:
    """Scenes and samples, samples sorted by scene and time."""

    def __init__(self, folder: Path) -> None:
        scenes = read_table(folder, "scene", SCHEMA["scene"].fields)
        self.scene_tokens, self.scene_names = scenes["token"], scenes["name"]
        Keys(folder, "scene (names)", self.scene_names)
        table = read_table(folder, "sample", SCHEMA["sample"].fields)
        if not len(table["token"]):
            raise SynclError(f"{table_path(folder, 'sample')}: no samples; this version of the data is empty")
        scene_rows = Keys(folder, "scene", self.scene_tokens).rows(
            table["scene_token"], "sample", "scene_token", table["token"]
        )
        timestamps = cast(Integers, table["timestamp"])
        order = np.lexsort((timestamps, scene_rows))
        self.table_rows = order
        self.tokens = table["token"][order]
        self.timestamps_us = timestamps[order]
        self.scene_start = offsets(scene_rows[order], len(self.scene_tokens))
        self.keys = Keys(folder, "sample", self.tokens)


class _ImageTable:
    """Key-frame images, their calibrations and poses, and the pose of each sample."""

    def __init__(self, folder: Path, samples: _SampleTable) -> None:
        calibrations = read_table(folder, "calibrated_sensor", SCHEMA["calibrated_sensor"].fields)
        self.calibration_poses = poses(calibrations)
        self.intrinsics = cast(Numbers, calibrations["camera_intrinsic"])
        sensors = read_table(folder, "sensor", SCHEMA["sensor"].fields)
        sensor_rows = Keys(folder, "sensor", sensors["token"]).rows(
            calibrations["sensor_token"], "calibrated_sensor", "sensor_token", calibrations["token"]
        )
        data = read_table(folder, "sample_data", SCHEMA["sample_data"].fields, keep=is_key_frame)
        tokens = data["token"]
        Keys(folder, "sample_data", tokens)
        calibration_keys = Keys(folder, "calibrated_sensor", calibrations["token"])
        calibration_rows = calibration_keys.rows(
            data["calibrated_sensor_token"], "sample_data", "calibrated_sensor_token", tokens
        )
        sample_rows = samples.keys.rows(data["sample_token"], "sample_data", "sample_token", tokens)
        data_sensors = sensor_rows[calibration_rows]
        is_camera = (sensors["modality"] == b"camera")[data_sensors]
        is_lidar = (sensors["channel"] == LIDAR_CHANNEL.encode())[data_sensors]
        data_poses = ego_poses(folder, data["ego_pose_token"], tokens, is_camera | is_lidar)

        names = [name.decode() for name in np.unique(sensors["channel"][data_sensors[is_camera]]).tolist()]
        self.channels = np.array([name.encode() for name in order_cameras(names)] or np.zeros(0, "S1"))
        channel_of_sensor = np.full(len(sensors["token"]), -1, np.int32)
        for number, name in enumerate(self.channels.tolist()):
            channel_of_sensor[sensors["channel"] == name] = number
        data_channels = channel_of_sensor[data_sensors]

        cameras = np.flatnonzero(is_camera)
        cameras = cameras[np.lexsort((data_channels[cameras], sample_rows[cameras]))]
        self._refuse_doubles(folder, tokens[cameras], sample_rows[cameras], data_channels[cameras])
        self.start = offsets(sample_rows[cameras], len(samples.tokens))
        self.image_channels = data_channels[cameras]
        self.image_calibrations = calibration_rows[cameras].astype(np.int32)
        self.image_poses = data_poses[cameras]
        self.timestamps_us = cast(Integers, data["timestamp"])[cameras]
        self.files = data["filename"][cameras]
        self.sizes = np.stack([data["width"], data["height"]], axis=-1)[cameras].astype(np.int32)

        count = len(samples.tokens)
        self.sample_lidars = np.full(count, -1, np.int32)
        lidars = np.flatnonzero(is_lidar)
        self.sample_lidars[sample_rows[lidars]] = calibration_rows[lidars]
        self.sample_poses = np.full((count, 7), np.nan)
        # Cameras come in the published order, so the first of a sample is CAM_FRONT where there is one.
        with_cameras = np.flatnonzero(np.diff(self.start))
        self.sample_poses[with_cameras] = self.image_poses[self.start[with_cameras]]
        self.sample_poses[sample_rows[lidars]] = data_poses[lidars]
        blind = np.flatnonzero(np.isnan(self.sample_poses[:, 0]))
        if blind.size:
            raise SynclError(
                f"{table_path(folder, 'sample_data')}: sample '{samples.tokens[blind[0]].decode()}' has no "
                f"key frame of any camera or {LIDAR_CHANNEL} ({blind.size} such samples); the tables do not "
                "belong together or one is incomplete"
            )

    @staticmethod
    def _refuse_doubles(folder: Path, tokens: Column, sample_rows: Integers, channels: SmallIntegers) -> None:
        same = (sample_rows[1:] == sample_rows[:-1]) & (channels[1:] == channels[:-1])
        if same.any():
            token = tokens[np.flatnonzero(same)[0] + 1].decode()
            raise SynclError(
                f"{table_path(folder, 'sample_data')}: record '{token}': its sample already has a key frame "
                f"of this camera ({int(same.sum())} such records); were two versions of the tables merged?"
            )


def ego_poses(folder: Path, references: Column, owners: Column, needed: Column) -> Numbers:
    """Poses [D, 7] of the sensor records that need one, nan for the others.

    Args:
        folder: version folder.
        references: [D] their `ego_pose_token`.
        owners: [D] their tokens, for messages.
        needed: [D] bool.

    Raises:
        SynclError: the table is missing or damaged, or a needed reference points nowhere.
    """
    wanted = set(references[needed].tolist())
    table = read_table(
        folder,
        "ego_pose",
        SCHEMA["ego_pose"].fields,
        keep=lambda record: str(record["token"]).encode() in wanted,
    )
    keys = Keys(folder, "ego_pose", table["token"])
    found = np.full((len(references), 7), np.nan)
    rows = keys.rows(references[needed], "sample_data", "ego_pose_token", owners[needed])
    found[needed] = poses(table)[rows]
    return found


def poses(table: dict[str, Column]) -> Numbers:
    """Columns `translation` and `rotation` of a table as poses [N, 7]."""
    return np.concatenate([cast(Numbers, table["translation"]), cast(Numbers, table["rotation"])], axis=1)


def offsets(sorted_owners: Integers, count: int) -> Integers:
    """Offsets [count + 1] of the rows of each owner in a column of ascending owner numbers."""
    return np.searchsorted(sorted_owners, np.arange(count + 1)).astype(np.int64)


def _assemble(samples: _SampleTable, images: _ImageTable, annotations: AnnotationTable) -> NuScenesColumns:
    return NuScenesColumns(
        scene_tokens=cast(Tokens, samples.scene_tokens),
        scene_names=cast(Tokens, samples.scene_names),
        scene_start=samples.scene_start,
        sample_tokens=cast(Tokens, samples.tokens),
        sample_timestamps_us=samples.timestamps_us,
        sample_table_rows=samples.table_rows,
        sample_poses=images.sample_poses,
        sample_lidars=images.sample_lidars,
        channels=cast(Tokens, images.channels),
        image_start=images.start,
        image_channels=images.image_channels,
        image_calibrations=images.image_calibrations,
        image_poses=images.image_poses,
        image_timestamps_us=images.timestamps_us,
        image_files=cast(Tokens, images.files),
        image_sizes=images.sizes,
        calibration_poses=images.calibration_poses,
        intrinsics=images.intrinsics,
        annotation_start=offsets(annotations.sample_rows, len(samples.tokens)),
        annotation_tokens=annotations.tokens,
        annotation_boxes=annotations.boxes,
        annotation_velocities=annotations.velocities,
        annotation_labels=annotations.labels,
        annotation_categories=annotations.categories,
        annotation_instances=annotations.instances,
        annotation_attributes=annotations.attributes,
        annotation_points=annotations.points,
        annotation_visibility=annotations.visibility,
        category_names=annotations.category_names,
        attribute_names=annotations.attribute_names,
        instance_tokens=annotations.instance_tokens,
    )
