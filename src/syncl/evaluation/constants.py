"""Listings, thresholds and fill values of the two official nuScenes protocols.

`detection_cvpr_2019` and `tracking_nips_2019` are the names of the devkit's configurations.
"""

from typing import Literal

from syncl.classes import CLASS_RANGE_M, MAX_BOXES_PER_SAMPLE

Task = Literal["detection", "tracking"]

DETECTION_ORDER = (
    "car",
    "truck",
    "bus",
    "trailer",
    "construction_vehicle",
    "pedestrian",
    "motorcycle",
    "bicycle",
    "traffic_cone",
    "barrier",
)
"""The order in which the official detection summary lists classes, and sums over them."""

TRACKING_ORDER = ("bicycle", "bus", "car", "motorcycle", "pedestrian", "trailer", "truck")
"""The order in which the official tracking summary lists classes, and sums over them."""

ATTRIBUTE_NAMES = (
    "pedestrian.moving",
    "pedestrian.sitting_lying_down",
    "pedestrian.standing",
    "cycle.with_rider",
    "cycle.without_rider",
    "vehicle.moving",
    "vehicle.parked",
    "vehicle.stopped",
)

MATCH_DISTANCES_M = (0.5, 1.0, 2.0, 4.0)
"""Centre distances at which average precision is computed."""

ERROR_DISTANCE_M = 2.0
"""Centre distance of the matches that true-positive errors are taken from."""

MIN_RECALL = 0.1
MIN_PRECISION = 0.1
MEAN_AP_WEIGHT = 5
RECALL_POINTS = 101

ERROR_NAMES = ("trans_err", "scale_err", "orient_err", "vel_err", "attr_err")

UNDEFINED_ERRORS = {
    "traffic_cone": ("orient_err", "vel_err", "attr_err"),
    "barrier": ("vel_err", "attr_err"),
}

TRACK_DISTANCE_M = 2.0
"""Centre distance below which a track can be matched."""

TRACK_THRESHOLDS = 40

FRAME_PERIOD_S = 0.5
"""Key frame period that TID and LGD assume, whatever the timestamps say."""

WORST = {
    "amota": 0.0,
    "amotp": 2.0,
    "recall": 0.0,
    "motar": 0.0,
    "mota": 0.0,
    "motp": 2.0,
    "mt": 0.0,
    "ml": -1.0,
    "faf": 500,
    "gt": -1,
    "tp": 0.0,
    "fp": -1.0,
    "fn": -1.0,
    "ids": -1.0,
    "frag": -1.0,
    "tid": 20,
    "lgd": 20,
}
"""Values of a class that has ground truth but no match; -1 stands for a count that depends on the data."""

CURVE_METRICS = (
    "recall",
    "motar",
    "gt",
    "mota",
    "motp",
    "mt",
    "ml",
    "faf",
    "tp",
    "fp",
    "fn",
    "ids",
    "frag",
    "tid",
    "lgd",
)
TRACKING_METRICS = ("amota", "amotp", *CURVE_METRICS)
SUMMED_METRICS = ("mt", "ml", "tp", "fp", "fn", "ids", "frag")
"""Tracking metrics whose overall value is the sum over classes; all others are means (`gt` included)."""

DETECTION_CONFIG: dict[str, object] = {
    "class_range": CLASS_RANGE_M,
    "dist_fcn": "center_distance",
    "dist_ths": list(MATCH_DISTANCES_M),
    "dist_th_tp": ERROR_DISTANCE_M,
    "min_recall": MIN_RECALL,
    "min_precision": MIN_PRECISION,
    "max_boxes_per_sample": MAX_BOXES_PER_SAMPLE,
    "mean_ap_weight": MEAN_AP_WEIGHT,
}
"""What the official summary records under `cfg`."""

TRACKING_COLORS = {
    "bicycle": "C9",
    "bus": "C2",
    "car": "C0",
    "motorcycle": "C6",
    "pedestrian": "C5",
    "trailer": "C3",
    "truck": "C1",
}

TRACKING_CONFIG: dict[str, object] = {
    "tracking_names": list(TRACKING_ORDER),
    "pretty_tracking_names": {name: name.capitalize() for name in TRACKING_ORDER},
    "tracking_colors": TRACKING_COLORS,
    "class_range": {name: reach for name, reach in CLASS_RANGE_M.items() if name in TRACKING_ORDER},
    "dist_fcn": "center_distance",
    "dist_th_tp": TRACK_DISTANCE_M,
    "min_recall": MIN_RECALL,
    "max_boxes_per_sample": MAX_BOXES_PER_SAMPLE,
    "metric_worst": WORST,
    "num_thresholds": TRACK_THRESHOLDS,
}
"""What the official summary records under `cfg`."""
