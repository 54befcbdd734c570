"""The nuScenes classes in the order networks number them (DETR3D, PETR, PF-Track)."""

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
