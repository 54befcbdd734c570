"""Argoverse 2's classes, and how its detection challenge scores them."""

from syncl.dataset_description import DatasetDescription, Measures

CLASSES = (
    "REGULAR_VEHICLE",
    "PEDESTRIAN",
    "BICYCLIST",
    "MOTORCYCLIST",
    "WHEELED_RIDER",
    "BOLLARD",
    "CONSTRUCTION_CONE",
    "SIGN",
    "CONSTRUCTION_BARREL",
    "STOP_SIGN",
    "MOBILE_PEDESTRIAN_CROSSING_SIGN",
    "LARGE_VEHICLE",
    "BUS",
    "BOX_TRUCK",
    "TRUCK",
    "VEHICULAR_TRAILER",
    "TRUCK_CAB",
    "SCHOOL_BUS",
    "ARTICULATED_BUS",
    "MESSAGE_BOARD_TRAILER",
    "BICYCLE",
    "MOTORCYCLE",
    "WHEELED_DEVICE",
    "WHEELCHAIR",
    "STROLLER",
    "DOG",
)
"""The 26 categories that are scored."""

UNSCORED = ("ANIMAL", "OFFICIAL_SIGNALER", "RAILED_VEHICLE", "TRAFFIC_LIGHT_TRAILER")
"""Categories that are annotated too, too rarely to be scored."""

_LIKE = {
    "REGULAR_VEHICLE": "car",
    "PEDESTRIAN": "pedestrian",
    "BICYCLIST": "bicycle",
    "MOTORCYCLIST": "motorcycle",
    "BOLLARD": "traffic_cone",
    "CONSTRUCTION_CONE": "traffic_cone",
    "CONSTRUCTION_BARREL": "traffic_cone",
    "LARGE_VEHICLE": "construction_vehicle",
    "BUS": "bus",
    "BOX_TRUCK": "truck",
    "TRUCK": "truck",
    "VEHICULAR_TRAILER": "trailer",
    "TRUCK_CAB": "truck",
    "SCHOOL_BUS": "bus",
    "ARTICULATED_BUS": "bus",
    "BICYCLE": "bicycle",
    "MOTORCYCLE": "motorcycle",
}

RANGE_M = 150.0
MOST_BOXES = 100
"""Of a class in a sweep; the official code leaves out what scores less."""

ARGOVERSE2 = DatasetDescription(
    name="Argoverse 2",
    classes=CLASSES,
    tracked=CLASSES,
    ranges_m=dict.fromkeys(CLASSES, RANGE_M),
    categories={name: name for name in CLASSES},
    left_out=UNSCORED,
    like=_LIKE,
    measures=Measures(
        min_recall=0.0, min_precision=0.0, max_boxes=MOST_BOXES * len(CLASSES), frame_period_s=0.1
    ),
)
"""Ranges and distances are the detection challenge's; its averages run over all recalls and precisions."""
