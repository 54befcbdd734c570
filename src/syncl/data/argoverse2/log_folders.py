"""Where Argoverse 2's sensor dataset keeps what.

DIR/train, val, test/<log>/
    annotations.feather                      boxes at the sweeps, ego frame (not in test)
    city_SE3_egovehicle.feather              poses at the times of all sensors
    calibration/egovehicle_SE3_sensor.feather
    calibration/intrinsics.feather
    sensors/cameras/<camera>/<ns>.jpg        20 Hz
    sensors/lidar/<ns>.feather               10 Hz
    map/
"""

from pathlib import Path

SPLITS = ("train", "val", "test")

RING_CAMERAS = (
    "ring_front_center",
    "ring_front_left",
    "ring_front_right",
    "ring_side_left",
    "ring_side_right",
    "ring_rear_left",
    "ring_rear_right",
)
"""The seven cameras all round; the two stereo cameras look where the first does."""

ANNOTATIONS, POSES = "annotations.feather", "city_SE3_egovehicle.feather"
EXTRINSICS, INTRINSICS = "calibration/egovehicle_SE3_sensor.feather", "calibration/intrinsics.feather"
CAMERAS, LIDAR, MAP = "sensors/cameras", "sensors/lidar", "map"

APART_NS = 25_000_000
"""An image belongs to a sweep that is at most as far away: half the time between two images of a camera."""

_MARKS = (ANNOTATIONS, POSES, EXTRINSICS, INTRINSICS)


def is_log(folder: Path) -> bool:
    """Whether a folder is a log, perhaps a damaged one."""
    return any((folder / mark).exists() for mark in _MARKS)


def is_argoverse2(dataroot: Path) -> bool:
    """Whether a folder holds Argoverse 2's sensor dataset, or one of its splits."""
    folders = [dataroot, *(dataroot / split for split in SPLITS)]
    return any(is_log(log) for folder in folders for log in _entries(folder))


def logs_of(dataroot: Path, split: str) -> tuple[str, ...]:
    """Names of a split's logs, ascending."""
    return tuple(sorted(path.name for path in _entries(dataroot / split) if is_log(path)))


def _entries(folder: Path) -> list[Path]:
    return [path for path in folder.iterdir() if path.is_dir()] if folder.is_dir() else []
