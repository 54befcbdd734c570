"""The nuScenes classes, in the order of DETR3D, PETR and PF-Track; `dataset_description` has the rest."""

from collections.abc import Iterable

from syncl.errors import SynclError, did_you_mean

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


def check_classes(names: Iterable[str], known: Iterable[str] = DETECTION_CLASSES) -> None:
    """Refuse names of classes that are none.

    Raises:
        SynclError: naming the first, what was probably meant, and the classes there are.
    """
    known = tuple(known)
    for name in names:
        if name not in known:
            raise SynclError(
                f"--classes: there is no class {name!r}{did_you_mean(name, known)}; there are "
                f"{', '.join(known)}"
            )


def check_min_score(score: float | None) -> None:
    """Refuse a least score that is none.

    Raises:
        SynclError: if it is not between 0 and 1.
    """
    if score is not None and not 0 <= score <= 1:
        raise SynclError(f"--min-score: {score}; choose a score between 0 and 1")
