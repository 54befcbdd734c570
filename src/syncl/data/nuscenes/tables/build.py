"""From the official tables to the columnar index, in two parts.

Scenes, samples and annotations are one part, cameras and poses the other: the official evaluation looks at no
camera, so what is wrong with cameras must not keep anyone from evaluating.
"""

from pathlib import Path
from typing import cast

import numpy as np

from syncl.data.json_stream import paused_garbage_collection
from syncl.data.nuscenes.tables.annotation_table import read_annotations
from syncl.data.nuscenes.tables.categories import LIDAR_CHANNEL, order_cameras
from syncl.data.nuscenes.tables.index_columns import (
    CameraColumns,
    ImageColumns,
    Integers,
    Numbers,
    SceneColumns,
    SmallIntegers,
    Tokens,
    offsets,
)
from syncl.data.nuscenes.tables.key_frames import KeyFrames
from syncl.data.nuscenes.tables.keys import Keys
from syncl.data.nuscenes.tables.schema import (
    CALIBRATION_FIELDS,
    CAMERA_FIELDS,
    KEY_FRAME,
    POSE_FIELDS,
    SCHEMA,
    TOKEN,
)
from syncl.data.nuscenes.tables.table_files import (
    MEND_TABLE,
    Column,
    Field,
    Record,
    check_field,
    read_records,
    read_table,
    table_path,
)
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError
from syncl.progress import progress_bar


def build_scene_columns(
    folder: Path, dataset: DatasetDescription = NUSCENES, key_frames: KeyFrames | None = None
) -> SceneColumns:
    """Read scenes, samples and annotations of a version folder, with the classes of a dataset.

    Args:
        folder: the version folder.
        dataset: whose classes.
        key_frames: of the folder, where the other part is built of them, too.

    Raises:
        SynclError: a table is missing or damaged, a record lacks a needed field, a token is doubled, or a
            reference points nowhere.
    """
    steps = iter(progress_bar(range(2), f"Indexing {folder.name}"))
    with paused_garbage_collection():
        next(steps)
        scenes = read_table(folder, "scene", SCHEMA["scene"].fields)
        Keys(folder, "scene (names)", scenes["name"])
        table = read_table(folder, "sample", SCHEMA["sample"].fields)
        if not len(table["token"]):
            raise SynclError(f"{table_path(folder, 'sample')}: no samples; this version of the data is empty")
        scene_rows = Keys(folder, "scene", scenes["token"]).rows(
            table["scene_token"], "sample", "scene_token", table["token"]
        )
        order = np.lexsort((table["timestamp"], scene_rows))
        keys = Keys(folder, "sample", table["token"][order])
        timestamps_us = cast(Integers, table["timestamp"])[order]
        ego_xy = _ego_positions(folder, keys, len(order), key_frames or KeyFrames(folder))
        next(steps)
        annotations = read_annotations(folder, keys, timestamps_us, dataset)
        next(steps, None)
    return SceneColumns(
        scene_names=cast(Tokens, scenes["name"]),
        scene_start=offsets(scene_rows[order], len(scenes["token"])),
        sample_tokens=cast(Tokens, table["token"][order]),
        sample_timestamps_us=timestamps_us,
        sample_table_rows=order,
        sample_ego_xy=ego_xy,
        **vars(annotations),
    )


def _ego_positions(folder: Path, samples: Keys, count: int, key_frames: KeyFrames) -> Numbers:
    """[N, 2] where the vehicle was at the key frames of LIDAR_TOP; nan where nothing leads there."""
    sensors = read_table(folder, "sensor", [TOKEN, Field("channel", "text")])
    lidars = set(sensors["token"][sensors["channel"] == LIDAR_CHANNEL.encode()].tolist())
    calibrations = read_table(folder, "calibrated_sensor", [TOKEN, Field("sensor_token", "text")])
    of_lidar = np.array([token in lidars for token in calibrations["sensor_token"].tolist()], np.bool_)
    wanted = {token.decode() for token in calibrations["token"][of_lidar].tolist()}
    fields = [Field("sample_token", "text"), Field("ego_pose_token", "text"), _KEY_FRAME]
    where, records = ("calibrated_sensor_token", wanted), key_frames.data(wanted)
    data = read_table(folder, "sample_data", fields, where=where, records=records)
    rows = samples.find(data["sample_token"])
    kept = (data["is_key_frame"] != 0) & (rows >= 0)
    references, rows = data["ego_pose_token"][kept], rows[kept]
    poses_fields = [TOKEN, Field("translation", "vector3", needed=False)]
    tokens = {token.decode() for token in references.tolist()}
    records = key_frames.poses(tokens)
    poses = read_table(folder, "ego_pose", poses_fields, where=("token", tokens), records=records)
    found = Keys(folder, "ego_pose", poses["token"]).find(references)
    positions = np.full((count, 2), np.nan)
    known = found >= 0
    positions[rows[known]] = cast(Numbers, poses["translation"])[found[known], :2]
    return positions


_KEY_FRAME = Field(KEY_FRAME, "flag")
_LONGEST_SIDE, _LATEST_US = 65_535, 2.0**62


def build_camera_columns(
    folder: Path, scenes: SceneColumns, key_frames: KeyFrames | None = None
) -> CameraColumns:
    """Read the key frames of cameras and LIDAR_TOP in a version folder.

    Args:
        folder: the version folder.
        scenes: the other part.
        key_frames: of the folder, as there.

    Raises:
        SynclError: as `build_scene_columns`; also a camera has two images of a sample, or a sample no pose.
    """
    steps = iter(progress_bar(range(1), f"Indexing cameras of {folder.name}"))
    with paused_garbage_collection():
        next(steps)
        columns = _cameras(folder, scenes, key_frames or KeyFrames(folder))
        next(steps, None)
    return columns


def _cameras(folder: Path, scenes: SceneColumns, key_frames: KeyFrames) -> CameraColumns:
    calibrations = read_table(folder, "calibrated_sensor", SCHEMA["calibrated_sensor"].fields)
    sensors = read_table(folder, "sensor", SCHEMA["sensor"].fields)
    calibration_keys = Keys(folder, "calibrated_sensor", calibrations["token"])
    sensor_rows = Keys(folder, "sensor", sensors["token"]).rows(
        calibrations["sensor_token"], "calibrated_sensor", "sensor_token", calibrations["token"]
    )
    fields = SCHEMA["sample_data"].fields
    data = read_table(folder, "sample_data", fields, flag=KEY_FRAME, records=key_frames.data())
    tokens = data["token"]
    Keys(folder, "sample_data", tokens)
    calibration_rows = calibration_keys.rows(
        data["calibrated_sensor_token"], "sample_data", "calibrated_sensor_token", tokens
    )
    sample_keys = Keys(folder, "sample", scenes.sample_tokens)
    sample_rows = sample_keys.rows(data["sample_token"], "sample_data", "sample_token", tokens)
    data_sensors = sensor_rows[calibration_rows]
    is_camera = (sensors["modality"] == b"camera")[data_sensors]
    is_lidar = (sensors["channel"] == LIDAR_CHANNEL.encode())[data_sensors]
    calibration_poses = poses(calibrations)
    intrinsics = cast(Numbers, calibrations["camera_intrinsic"])
    used_by_camera = np.isin(np.arange(len(intrinsics)), calibration_rows[is_camera])
    bad = used_by_camera & ~np.isfinite(calibration_poses).all(axis=-1)
    bad |= used_by_camera & ~np.isfinite(intrinsics.reshape(-1, 9)).all(axis=-1)
    distortions = cast(Numbers, calibrations["camera_distortion"])
    bad |= used_by_camera & ~np.isfinite(distortions).all(axis=-1)
    bad_tokens = calibrations["token"][np.flatnonzero(bad)]
    _refuse_records(folder, "calibrated_sensor", CALIBRATION_FIELDS, bad_tokens)
    data_poses = ego_poses(folder, data["ego_pose_token"], tokens, is_camera | is_lidar, key_frames)

    names = [name.decode() for name in np.unique(sensors["channel"][data_sensors[is_camera]]).tolist()]
    channels = np.array([name.encode() for name in order_cameras(names)] or np.zeros(0, "S1"))
    channel_of_sensor = np.full(len(sensors["token"]), -1, np.int32)
    for number, name in enumerate(channels.tolist()):
        channel_of_sensor[sensors["channel"] == name] = number
    data_channels = channel_of_sensor[data_sensors]

    cameras = np.flatnonzero(is_camera)
    cameras = cameras[np.lexsort((data_channels[cameras], sample_rows[cameras]))]
    _refuse_doubles(folder, tokens[cameras], sample_rows[cameras], data_channels[cameras])
    count = len(scenes.sample_tokens)
    start = offsets(sample_rows[cameras], count)
    images = image_columns(folder, data, cameras, calibration_rows, data_poses)

    sample_lidars = np.full(count, -1, np.int32)
    lidars = np.flatnonzero(is_lidar)
    sample_lidars[sample_rows[lidars]] = calibration_rows[lidars]
    sample_poses = np.full((count, 7), np.nan)
    # Cameras come in the published order, so the first of a sample is CAM_FRONT where there is one.
    with_cameras = np.flatnonzero(np.diff(start))
    sample_poses[with_cameras] = images.poses[start[with_cameras]]
    sample_poses[sample_rows[lidars]] = data_poses[lidars]
    blind = np.flatnonzero(np.isnan(sample_poses[:, 0]))
    if blind.size:
        raise SynclError(
            f"{table_path(folder, 'sample_data')}: sample '{scenes.sample_tokens[blind[0]].decode()}' has no "
            f"key frame of any camera or {LIDAR_CHANNEL} ({blind.size} such samples); the tables do not "
            "belong together or one is incomplete"
        )
    return CameraColumns(
        sample_poses=sample_poses,
        sample_lidars=sample_lidars,
        channels=cast(Tokens, channels),
        image_start=start,
        image_channels=data_channels[cameras],
        image_calibrations=images.calibrations,
        image_poses=images.poses,
        image_timestamps_us=images.timestamps_us,
        image_files=images.files,
        image_sizes=images.sizes,
        calibration_poses=calibration_poses,
        intrinsics=intrinsics,
        distortions=distortions,
    )


def image_columns(
    folder: Path, data: dict[str, Column], rows: Integers, calibrations: Integers, data_poses: Numbers
) -> ImageColumns:
    """The records of cameras among sensor records.

    Args:
        folder: version folder.
        data: [D] columns of sample_data.
        rows: [I] which of them.
        calibrations: [D] rows of their calibrations.
        data_poses: [D, 7] their poses.

    Raises:
        SynclError: one lacks what cameras must have; file, record and field are named.
    """
    sizes = np.stack([data["width"], data["height"]], axis=-1)[rows]
    files, times = cast(Tokens, data["filename"])[rows], cast(Numbers, data["timestamp"])[rows]
    bad = (cast(Integers, sizes) <= 0).any(axis=1) | (cast(Integers, sizes) > _LONGEST_SIDE).any(axis=1)
    bad |= (files == b"") | ~(np.abs(times.astype(np.float64)) <= _LATEST_US)
    _refuse_records(folder, "sample_data", CAMERA_FIELDS, data["token"][rows][bad])
    return ImageColumns(
        calibrations=calibrations[rows].astype(np.int32),
        poses=data_poses[rows],
        timestamps_us=np.rint(times).astype(np.int64),
        files=files,
        sizes=sizes.astype(np.int32),
    )


def _refuse_records(folder: Path, table: str, fields: tuple[Field, ...], tokens: Column) -> None:
    """Raise for records of which cameras or the lidar need what is not there, naming the first."""
    if not len(tokens):
        return
    token = tokens[0].decode()
    problem = f"record '{token}' has a value that is not finite, or a size that is no image's"

    def look(records: list[Record]) -> list[str]:
        mine = [record for record in records if record.get("token") == token]
        errors = [check_field(record, field) for record in mine for field in fields]
        # As those of lidars and radars may be.
        empty = [record for record in mine if record.get("camera_intrinsic") == []]
        told = [f"record '{token}': field 'camera_intrinsic' is empty; a camera's is a 3x3 matrix, pixels"]
        return [error.text for error in errors if error is not None] + told * len(empty)

    texts = [text for piece in read_records(table_path(folder, table), look) for text in piece]
    raise SynclError(
        f"{table_path(folder, table)}: {texts[0] if texts else problem} ({len(tokens)} such records); "
        f"{MEND_TABLE}"
    )


def _refuse_doubles(folder: Path, tokens: Column, sample_rows: Integers, channels: SmallIntegers) -> None:
    same = (sample_rows[1:] == sample_rows[:-1]) & (channels[1:] == channels[:-1])
    if same.any():
        token = tokens[np.flatnonzero(same)[0] + 1].decode()
        raise SynclError(
            f"{table_path(folder, 'sample_data')}: record '{token}': its sample already has a key frame "
            f"of this camera ({int(same.sum())} such records); were two versions of the tables merged?"
        )


def ego_poses(
    folder: Path, references: Column, owners: Column, needed: Column, key_frames: KeyFrames | None = None
) -> Numbers:
    """Poses [D, 7] of the sensor records that need one, nan for the others.

    Args:
        folder: version folder.
        references: [D] their `ego_pose_token`.
        owners: [D] their tokens, for messages.
        needed: [D] bool.
        key_frames: of the folder, where all of them are of key frames.

    Raises:
        SynclError: the table is missing or damaged, or a needed reference points nowhere.
    """
    wanted = {token.decode() for token in references[needed].tolist()}
    records = None if key_frames is None else key_frames.poses(wanted)
    table = read_table(
        folder, "ego_pose", SCHEMA["ego_pose"].fields, where=("token", wanted), records=records
    )
    keys = Keys(folder, "ego_pose", table["token"])
    found = np.full((len(references), 7), np.nan)
    rows = keys.rows(references[needed], "sample_data", "ego_pose_token", owners[needed])
    values = poses(table)
    bad = ~np.isfinite(values).all(axis=1) | ~values[:, 3:].any(axis=1)
    _refuse_records(folder, "ego_pose", POSE_FIELDS, table["token"][bad])
    found[needed] = values[rows]
    return found


def poses(table: dict[str, Column]) -> Numbers:
    """Columns `translation` and `rotation` of a table as poses [N, 7]."""
    return np.concatenate([cast(Numbers, table["translation"]), cast(Numbers, table["rotation"])], axis=1)
