"""The nuScenes classes, and what the official tasks say of them.

Wherever a class is a number, it is an index into `DETECTION_CLASSES` (the order of DETR3D, PETR and
PF-Track), but for a model's own outputs, which index its own `classes`.
"""

DETECTION_CLASSES = (
    "car",
    "truck",
    "construction_vehicle",
    "bus",
    "trailer",
    "barrier",
    "motorcycle",
    "bicycle",
    "pedestrian",
    "traffic_cone",
)

TRACKING_CLASSES = ("car", "truck", "bus", "trailer", "motorcycle", "bicycle", "pedestrian")

CLASS_RANGE_M = {
    "car": 50,
    "truck": 50,
    "bus": 50,
    "trailer": 50,
    "construction_vehicle": 50,
    "pedestrian": 40,
    "motorcycle": 40,
    "bicycle": 40,
    "traffic_cone": 30,
    "barrier": 30,
}
"""Boxes at this distance from the ego vehicle or farther (ground plane, metres) are not evaluated."""

MAX_BOXES_PER_SAMPLE = 500
"""Most boxes a sample may have in a results file, all classes together."""
