"""The six cameras: where they sit and what they see, in the manner of nuScenes.

Calibrations are those of a pinhole camera for the chosen image size: 70 degrees across for five cameras, 110
for the rear one. Images lower than 16:9 keep the width and lose mostly sky, as training crops do.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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
    """

    channel: str
    place: tuple[float, float, float]
    yaw_deg: float
    view_deg: float
    delay_us: int


MOUNTS = (
    Mount("CAM_FRONT", (1.70, 0.016, 1.51), 0.0, 70.0, -35500),
    Mount("CAM_FRONT_RIGHT", (1.55, -0.494, 1.50), -55.0, 70.0, -27600),
    Mount("CAM_FRONT_LEFT", (1.52, 0.495, 1.51), 55.0, 70.0, -43200),
    Mount("CAM_BACK", (0.03, 0.003, 1.57), 180.0, 110.0, -10400),
    Mount("CAM_BACK_LEFT", (1.04, 0.485, 1.59), 110.0, 70.0, -500),
    Mount("CAM_BACK_RIGHT", (1.01, -0.481, 1.56), -110.0, 70.0, -20100),
)

LIDAR_PLACE = (0.94, 0.0, 1.84)
LIDAR_YAW_DEG = -90.0


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
