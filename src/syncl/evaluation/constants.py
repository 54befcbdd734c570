"""Listings and fill values of the two official nuScenes protocols; `syncl.dataset_description` has the rest.

`detection_cvpr_2019` and `tracking_nips_2019` are the names of the devkit's configurations.
"""

from typing import Literal

from syncl.dataset_description import DatasetDescription

Task = Literal["detection", "tracking"]

MEAN_AP_WEIGHT = 5
RECALL_POINTS = 101

TRACK_THRESHOLDS = 40

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

_COLORS = {
    "bicycle": "C9",
    "bus": "C2",
    "car": "C0",
    "motorcycle": "C6",
    "pedestrian": "C5",
    "trailer": "C3",
    "truck": "C1",
}


def worst_values(dataset: DatasetDescription) -> dict[str, float]:
    """`WORST`, with the dataset's own farthest match."""
    farthest = dataset.measures.track_distance_m
    return {**WORST, "amotp": farthest, "motp": farthest}


def tracking_colors(dataset: DatasetDescription) -> dict[str, str]:
    """Class -> colour in official figures, as matplotlib names it."""
    if dataset.official:
        return {name: _COLORS[name] for name in dataset.listed_tracked}
    return {name: f"C{number % 10}" for number, name in enumerate(dataset.listed_tracked)}


def detection_config(dataset: DatasetDescription) -> dict[str, object]:
    """What the official detection summary records under `cfg`."""
    measures = dataset.measures
    return {
        "class_range": dict(dataset.ranges_m),
        "dist_fcn": "center_distance",
        "dist_ths": list(measures.match_distances_m),
        "dist_th_tp": measures.error_distance_m,
        "min_recall": measures.min_recall,
        "min_precision": measures.min_precision,
        "max_boxes_per_sample": measures.max_boxes,
        "mean_ap_weight": MEAN_AP_WEIGHT,
    }


def tracking_config(dataset: DatasetDescription) -> dict[str, object]:
    """What the official tracking summary records under `cfg`."""
    measures, names = dataset.measures, dataset.listed_tracked
    return {
        "tracking_names": list(names),
        "pretty_tracking_names": {name: name.capitalize() for name in names},
        "tracking_colors": tracking_colors(dataset),
        "class_range": {name: reach for name, reach in dataset.ranges_m.items() if name in names},
        "dist_fcn": "center_distance",
        "dist_th_tp": measures.track_distance_m,
        "min_recall": measures.min_recall,
        "max_boxes_per_sample": measures.max_boxes,
        "metric_worst": worst_values(dataset),
        "num_thresholds": TRACK_THRESHOLDS,
    }
