"""nuScenes categories, camera names and visibility levels."""

from syncl.classes import DETECTION_CLASSES

CLASS_OF_CATEGORY = {
    "human.pedestrian.adult": "pedestrian",
    "human.pedestrian.child": "pedestrian",
    "human.pedestrian.construction_worker": "pedestrian",
    "human.pedestrian.police_officer": "pedestrian",
    "movable_object.barrier": "barrier",
    "movable_object.trafficcone": "traffic_cone",
    "vehicle.bicycle": "bicycle",
    "vehicle.bus.bendy": "bus",
    "vehicle.bus.rigid": "bus",
    "vehicle.car": "car",
    "vehicle.construction": "construction_vehicle",
    "vehicle.motorcycle": "motorcycle",
    "vehicle.trailer": "trailer",
    "vehicle.truck": "truck",
}
"""Detection class of each nuScenes category; all other categories are ignored by the official tasks."""

RACK_CATEGORY = "static_object.bicycle_rack"
"""Bicycles and motorcycles in such a box are not evaluated."""

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


def class_index(category: str) -> int:
    """Index in `DETECTION_CLASSES` of a category name; -1 for categories outside the detection task."""
    name = CLASS_OF_CATEGORY.get(category)
    return -1 if name is None else DETECTION_CLASSES.index(name)


def order_cameras(names: list[str]) -> list[str]:
    """Camera names in the published order, those it does not know after them by name."""
    known = [name for name in CAMERA_ORDER if name in names]
    return known + sorted(set(names) - set(CAMERA_ORDER))
