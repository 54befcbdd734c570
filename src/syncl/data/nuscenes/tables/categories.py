"""nuScenes camera names and visibility levels."""

CAMERA_ORDER = (
    "CAM_FRONT",
    "CAM_FRONT_RIGHT",
    "CAM_FRONT_LEFT",
    "CAM_BACK",
    "CAM_BACK_LEFT",
    "CAM_BACK_RIGHT",
)
"""The order published models number their cameras in."""

LIDAR_CHANNEL = "LIDAR_TOP"

VISIBILITY_LEVELS = {"v0-40": 1, "v40-60": 2, "v60-80": 3, "v80-100": 4}
"""Share of an object seen over all cameras, in per cent, as the tables name it."""


def order_cameras(names: list[str]) -> list[str]:
    """Camera names in the published order, those it does not know after them by name."""
    known = [name for name in CAMERA_ORDER if name in names]
    return known + sorted(set(names) - set(CAMERA_ORDER))
