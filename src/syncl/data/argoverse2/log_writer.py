"""From an index of any dataset to Argoverse 2's layout, which its official package opens.

Sweeps are written without points: their names tell their times. The map is one drivable square with level
ground, so that nothing lies outside the region of interest.
"""

import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import numpy as np
import orjson

from syncl.data.argoverse2.feather import POSE, SIZE, Integers, Numbers, write_table
from syncl.data.argoverse2.log_folders import (
    ANNOTATIONS,
    APART_NS,
    CAMERAS,
    EXTRINSICS,
    INTRINSICS,
    LIDAR,
    MAP,
    POSES,
    RING_CAMERAS,
)
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.errors import SynclError
from syncl.files import inside
from syncl.geometry.poses import (
    invert_pose,
    quaternion_from_rotation,
    rigid_from_pose,
    rotation_from_quaternion,
)

CATEGORY_OF_CLASS = {
    "car": "REGULAR_VEHICLE",
    "truck": "TRUCK",
    "bus": "BUS",
    "trailer": "VEHICULAR_TRAILER",
    "construction_vehicle": "LARGE_VEHICLE",
    "pedestrian": "PEDESTRIAN",
    "motorcycle": "MOTORCYCLE",
    "bicycle": "BICYCLE",
    "traffic_cone": "CONSTRUCTION_CONE",
    "barrier": "CONSTRUCTION_BARREL",
}
"""What nuScenes' classes come nearest to."""

_CITY = "PAO"
_CELL_M, _MARGIN_M = 10.0, 200.0
_LIDARS = {"up_lidar": 1.64, "down_lidar": 1.54}


def write_log(
    index: NuScenesIndex,
    scene: str,
    folder: Path,
    place_image: Callable[[Path, Path], object],
    categories: Mapping[str, str] = CATEGORY_OF_CLASS,
) -> int:
    """Write a scene as a log; returns how many sweeps it has.

    Annotations whose class is not among `categories` are left out, and times become whole microseconds.

    Args:
        index: where the scene is read.
        scene: its name.
        folder: of the log, which must not exist.
        place_image: copies or moves an image file (from, to).
        categories: class -> category.

    Raises:
        SynclError: cameras are not the ring cameras, an image is no JPEG, or is too far from its sweep in
            time to be found as the sweep's.
    """
    rows, columns = index.scene_samples(scene), index.columns
    times_ns = 1000 * columns.sample_timestamps_us[rows.start : rows.stop].astype(np.int64)
    images = slice(columns.image_start[rows.start], columns.image_start[rows.stop])
    image_times_ns = 1000 * columns.image_timestamps_us[images]
    owners = np.repeat(np.arange(len(rows)), np.diff(columns.image_start[rows.start : rows.stop + 1]))
    apart = np.abs(image_times_ns - times_ns[owners])
    if apart.size and apart.max() > APART_NS:
        raise SynclError(
            f"scene '{scene}': an image is {1e-6 * apart.max():.1f} ms away from its sample; in Argoverse "
            f"2's layout it is found by its time, up to {1e-6 * APART_NS:g} ms away"
        )
    _write_calibrations(index, scene, images, folder)
    channels = [RING_CAMERAS.index(name) for name in index.camera_names]
    for name in RING_CAMERAS:
        (folder / CAMERAS / name).mkdir(parents=True)
    for channel, time_ns, file in zip(
        columns.image_channels[images].tolist(), image_times_ns.tolist(), columns.image_files[images].tolist()
    ):
        source = inside(index.dataroot, file.decode())
        if source.suffix != ".jpg":
            raise SynclError(f"{source}: Argoverse 2's layout holds JPEG files (.jpg)")
        place_image(source, folder / CAMERAS / RING_CAMERAS[channels[channel]] / f"{time_ns}.jpg")
    poses = columns.sample_poses[rows.start : rows.stop]
    every_time, first = np.unique(np.concatenate([times_ns, image_times_ns]), return_index=True)
    every_pose = np.concatenate([poses, columns.image_poses[images]])[first]
    write_table(folder / POSES, {"timestamp_ns": every_time, **_named(POSE, every_pose)})
    _write_annotations(index, scene, rows, times_ns, folder, categories)
    _write_sweeps(folder, times_ns)
    _write_map(folder, poses[:, :3])
    return len(rows)


def _write_calibrations(index: NuScenesIndex, scene: str, images: slice, folder: Path) -> None:
    columns = index.columns
    if set(index.camera_names) != set(RING_CAMERAS):
        raise SynclError(
            f"{index.dataroot}: cameras {', '.join(index.camera_names)}; Argoverse 2's layout has "
            f"{', '.join(RING_CAMERAS)}"
        )
    rows = []
    for name in RING_CAMERAS:
        own = images.start + np.flatnonzero(columns.image_channels[images] == index.camera_names.index(name))
        if len(np.unique(columns.image_calibrations[own])) != 1:
            raise SynclError(f"scene '{scene}': camera {name} has no calibration, or several; a log has one")
        rows.append(int(own[0]))
    calibrations = columns.image_calibrations[rows]
    matrices, sizes = columns.intrinsics[calibrations], columns.image_sizes[rows].astype(np.int64)
    write_table(
        folder / INTRINSICS,
        {
            "sensor_name": RING_CAMERAS,
            "fx_px": matrices[:, 0, 0].copy(),
            "fy_px": matrices[:, 1, 1].copy(),
            "cx_px": matrices[:, 0, 2].copy(),
            "cy_px": matrices[:, 1, 2].copy(),
            **{f"k{order}": np.zeros(len(rows)) for order in (1, 2, 3)},
            "height_px": sizes[:, 1].copy(),
            "width_px": sizes[:, 0].copy(),
        },
    )
    lidars = np.array([(0.94, 0.0, height, 1.0, 0.0, 0.0, 0.0) for height in _LIDARS.values()])
    mounted = np.concatenate([columns.calibration_poses[calibrations], lidars])
    write_table(folder / EXTRINSICS, {"sensor_name": (*RING_CAMERAS, *_LIDARS), **_named(POSE, mounted)})


def _write_annotations(
    index: NuScenesIndex,
    scene: str,
    samples: range,
    times_ns: Integers,
    folder: Path,
    categories: Mapping[str, str],
) -> None:
    columns, classes = index.columns, index.dataset.classes
    starts = columns.annotation_start[samples.start : samples.stop + 1]
    rows = np.arange(starts[0], starts[-1])
    owners = np.repeat(np.arange(len(samples)), np.diff(starts))
    names = [
        categories.get(classes[label]) if label >= 0 else None for label in columns.annotation_labels[rows]
    ]
    kept = np.array([name is not None for name in names], np.bool_)
    rows, owners = rows[kept], owners[kept]
    poses = columns.sample_poses[samples.start : samples.stop][owners]
    boxes = columns.annotation_boxes[rows]
    ego_from_city = invert_pose(rigid_from_pose(poses[:, :3], poses[:, 3:]))
    centres = (ego_from_city[:, :3, :3] @ boxes[:, :3, None])[..., 0] + ego_from_city[:, :3, 3]
    turned = quaternion_from_rotation(ego_from_city[:, :3, :3] @ rotation_from_quaternion(boxes[:, 6:]))
    tracks = [
        str(uuid.uuid5(uuid.NAMESPACE_OID, f"{scene}/{number}"))
        for number in columns.annotation_instances[rows].tolist()
    ]
    write_table(
        folder / ANNOTATIONS,
        {
            "timestamp_ns": times_ns[owners],
            "track_uuid": tracks,
            "category": [name for name in names if name is not None],
            **_named(SIZE, boxes[:, 3:6]),
            **_named((*POSE[3:], *POSE[:3]), np.concatenate([turned, centres], axis=1)),
            "num_interior_pts": np.maximum(columns.annotation_points[rows], 0).sum(axis=1).astype(np.int64),
        },
    )


def _write_sweeps(folder: Path, times_ns: Iterable[int]) -> None:
    nothing: dict[str, np.ndarray[tuple[int, ...], np.dtype[np.generic]]] = {
        **{name: np.zeros(0, np.float32) for name in ("x", "y", "z")},
        "intensity": np.zeros(0, np.uint8),
        "laser_number": np.zeros(0, np.uint8),
        "offset_ns": np.zeros(0, np.int32),
    }
    for time_ns in times_ns:
        write_table(folder / LIDAR / f"{time_ns}.feather", nothing)


def _write_map(folder: Path, places: Numbers) -> None:
    low, high = places[:, :2].min(axis=0) - _MARGIN_M, places[:, :2].max(axis=0) + _MARGIN_M
    corners = [(low[0], low[1]), (high[0], low[1]), (high[0], high[1]), (low[0], high[1])]
    area = [{"x": float(x), "y": float(y), "z": 0.0} for x, y in corners]
    content = {
        "pedestrian_crossings": {},
        "lane_segments": {},
        "drivable_areas": {"1": {"id": 1, "area_boundary": area}},
    }
    maps = folder / MAP
    maps.mkdir()
    (maps / f"log_map_archive_{folder.name}____{_CITY}_city_00000.json").write_bytes(orjson.dumps(content))
    columns, rows = (int(length) for length in np.ceil((high - low) / _CELL_M))
    np.save(
        maps / f"{folder.name}_ground_height_surface____{_CITY}.npy", np.zeros((rows, columns), np.float16)
    )
    similarity = {"R": [1.0, 0.0, 0.0, 1.0], "t": (-low).tolist(), "s": 1 / _CELL_M}
    (maps / f"{folder.name}___img_Sim2_city.json").write_bytes(orjson.dumps(similarity))


def _named(names: Iterable[str], values: Numbers) -> dict[str, Numbers]:
    return {name: values[:, column].copy() for column, name in enumerate(names)}
