"""Cameras: where they sit and what they see, in the manner of nuScenes or as chance has it.

Calibrations are those of a pinhole camera for the chosen image size: in nuScenes' manner 70 degrees across
for five cameras, 110 for the rear one. Images lower than 16:9 keep the width and lose mostly sky, as training
crops do. In Argoverse 2's manner seven cameras look 63 degrees across, the front one turned upright.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.data.synthetic.world import Layout

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Mount:
    """One camera's place on the vehicle.

    Attributes:
        channel: nuScenes channel name.
        place: [3] metres, vehicle frame.
        yaw_deg: viewing direction, counter-clockwise from straight ahead.
        view_deg: horizontal field of view.
        delay_us: when it fires, after the keyframe's time (negative: before).
        upright: whether the image is higher than wide.
    """

    channel: str
    place: tuple[float, float, float]
    yaw_deg: float
    view_deg: float
    delay_us: int
    upright: bool = False


MOUNTS = (
    Mount("CAM_FRONT", (1.70, 0.016, 1.51), 0.0, 70.0, -35500),
    Mount("CAM_FRONT_RIGHT", (1.55, -0.494, 1.50), -55.0, 70.0, -27600),
    Mount("CAM_FRONT_LEFT", (1.52, 0.495, 1.51), 55.0, 70.0, -43200),
    Mount("CAM_BACK", (0.03, 0.003, 1.57), 180.0, 110.0, -10400),
    Mount("CAM_BACK_LEFT", (1.04, 0.485, 1.59), 110.0, 70.0, -500),
    Mount("CAM_BACK_RIGHT", (1.01, -0.481, 1.56), -110.0, 70.0, -20100),
)

RING_MOUNTS = (
    Mount("ring_front_center", (1.63, 0.0, 1.40), 0.0, 49.5, 4100, upright=True),
    Mount("ring_front_left", (1.50, 0.27, 1.39), 45.0, 62.8, -9700),
    Mount("ring_front_right", (1.50, -0.27, 1.39), -45.0, 62.8, 11300),
    Mount("ring_side_left", (1.31, 0.31, 1.38), 99.0, 62.8, -15200),
    Mount("ring_side_right", (1.31, -0.31, 1.38), -99.0, 62.8, 15900),
    Mount("ring_rear_left", (1.10, 0.12, 1.37), 153.0, 62.8, -20400),
    Mount("ring_rear_right", (1.10, -0.12, 1.37), -153.0, 62.8, 20700),
)
_RING_SHAPE = 1550 / 2048

_TELE_DEG, _USUAL_DEG, _WIDE_DEG = 35.0, 75.0, 110.0
YARD_MOUNTS = (
    Mount("front", (1.9, 0.0, 1.9), 0.0, _WIDE_DEG, 0),
    Mount("front_tele", (1.9, 0.1, 1.9), 0.0, _TELE_DEG, 0),
    Mount("front_left", (1.6, 0.6, 1.8), 60.0, _USUAL_DEG, -5000),
    Mount("front_right", (1.6, -0.6, 1.8), -60.0, _USUAL_DEG, -5000),
    Mount("rear_left", (0.4, 0.6, 1.8), 120.0, _USUAL_DEG, -9000),
    Mount("rear_right", (0.4, -0.6, 1.8), -120.0, _USUAL_DEG, -9000),
    Mount("rear", (0.0, 0.0, 1.8), 180.0, _WIDE_DEG, -12000),
)
"""Seven cameras of three lenses."""
_MOUNTS: dict[Layout, tuple[Mount, ...]] = {
    "nuscenes": MOUNTS,
    "argoverse2": RING_MOUNTS,
    "own": YARD_MOUNTS,
}

RIG_CHANNELS = tuple(f"CAM_{number}" for number in range(8))
_FEWEST = 3
_DROPPED_SHARE = 0.3

LIDAR_PLACE = (0.94, 0.0, 1.84)
LIDAR_YAW_DEG = -90.0


@dataclass(frozen=True)
class Rig:
    """The cameras of a scene.

    Attributes:
        mounts: of each.
        width: of the images, pixels; the height of upright ones.
        height: the other side.
        centred: whether the horizon is in the middle of the images.
        dropped: a camera that delivers nothing in some keyframes, and in which; None = all always deliver.
    """

    mounts: tuple[Mount, ...]
    width: int
    height: int
    centred: bool = False
    dropped: tuple[str, range] | None = None

    def size(self, mount: Mount) -> tuple[int, int]:
        """(width, height) of a camera's images."""
        return (self.height, self.width) if mount.upright else (self.width, self.height)

    def intrinsics(self, mount: Mount) -> Array:
        """Pinhole matrix [3, 3] in pixels."""
        width, height = self.size(mount)
        matrix = intrinsics(mount, width, height)
        if self.centred:
            matrix[1, 2] = height / 2
        return matrix

    def delivers(self, channel: str, frame: int) -> bool:
        """Whether there is a picture of a camera in a keyframe."""
        return self.dropped is None or channel != self.dropped[0] or frame not in self.dropped[1]


def rig_of_layout(layout: Layout, width: int, height: int) -> Rig:
    """The cameras of nuScenes, or those of Argoverse 2, whose images have a height of their own."""
    if layout != "argoverse2":
        return Rig(_MOUNTS[layout], width, height)
    return Rig(RING_MOUNTS, width, max(16, 2 * round(width * _RING_SHAPE / 2)), centred=True)


def random_rig(rng: np.random.Generator, width: int, keyframes: int) -> Rig:
    """Three to eight cameras all round a vehicle, each with a lens of its own, at a height of the rig's own.

    Neighbours may overlap or leave a gap. Images have one shape, 1.6 to 2.9 times as wide as high. In three
    rigs of ten one camera is silent for up to half of the scene.
    """
    count = int(rng.integers(_FEWEST, len(RIG_CHANNELS) + 1))
    spacing, height_m = 360.0 / count, rng.uniform(1.2, 2.4)
    mounts = []
    for number in range(count):
        yaw_deg = float((number * spacing + rng.uniform(-0.2, 0.2) * spacing + 180) % 360 - 180)
        yaw = np.radians(yaw_deg)
        place = np.array((0.9 + 0.9 * np.cos(yaw), 0.5 * np.sin(yaw), height_m)) + rng.uniform(-0.1, 0.1, 3)
        view_deg = float(np.clip(spacing * rng.uniform(0.9, 1.4), 45.0, 120.0))
        x, y, z = (float(value) for value in place)
        mounts.append(Mount(RIG_CHANNELS[number], (x, y, z), yaw_deg, view_deg, -int(rng.integers(45000))))
    height = max(16, 2 * round(width / rng.uniform(1.6, 2.9) / 2))
    dropped = None
    if rng.random() < _DROPPED_SHARE:
        start = int(rng.integers(keyframes))
        silent = range(start, start + int(rng.integers(1, keyframes // 2 + 1)))
        dropped = (mounts[int(rng.integers(count))].channel, silent)
    return Rig(tuple(mounts), width, height, dropped=dropped)


def channels_of(random: bool, layout: Layout = "nuscenes") -> Sequence[str]:
    """All camera channels that a world's scenes may have."""
    return RIG_CHANNELS if random else [mount.channel for mount in _MOUNTS[layout]]


def intrinsics(mount: Mount, width: int, height: int) -> Array:
    """Pinhole matrix [3, 3] in pixels."""
    focal = width / 2 / np.tan(np.radians(mount.view_deg) / 2)
    horizon = max(0.3 * height, height - 0.48 * 0.5625 * width)
    return np.array([[focal, 0, width / 2], [0, focal, horizon], [0, 0, 1.0]])


def vehicle_from_camera(mount: Mount) -> Array:
    """Rigid transform [4, 4]: camera axes are x right, y down, z forward; the camera looks level."""
    yaw = np.radians(mount.yaw_deg)
    right, forward = (np.sin(yaw), -np.cos(yaw), 0.0), (np.cos(yaw), np.sin(yaw), 0.0)
    matrix = np.eye(4)
    matrix[:3, :3] = np.stack([right, (0.0, 0.0, -1.0), forward], -1)
    matrix[:3, 3] = mount.place
    return matrix
