"""The official detection metrics (detection_cvpr_2019): AP, true-positive errors, NDS."""

import time
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from syncl.data.json_stream import paused_garbage_collection
from syncl.dataset_description import ERROR_NAMES, NUSCENES, DatasetDescription, Measures
from syncl.errors import SynclError
from syncl.evaluation.arrays import EvaluationBoxes, Floats, GroundTruth, Ints
from syncl.evaluation.constants import (
    MEAN_AP_WEIGHT,
    RECALL_POINTS,
    detection_config,
)
from syncl.evaluation.detection_matching import match_greedily, nearby_pairs, ranks_by_score
from syncl.evaluation.filtering import evaluated_boxes
from syncl.evaluation.reading import Progress, no_progress, read_evaluated
from syncl.geometry.poses import yaw_from_quaternion


@dataclass(frozen=True)
class DetectionCurve:
    """One class at one match distance, on the 101 recall points 0, 0.01, ..., 1.

    Attributes:
        recall: [101]. precision: [101].
        confidence: [101] score at which the recall is reached, 0 where it never is.
        errors: [101] running mean of each of `ERROR_NAMES` over the matches down to that score.
        measures: from which recall and precision on it counts.
    """

    recall: Floats
    precision: Floats
    confidence: Floats
    errors: dict[str, Floats]
    measures: Measures = field(default_factory=Measures)

    @property
    def _first(self) -> int:
        return round(100 * self.measures.min_recall) + 1

    def average_precision(self) -> float:
        """Mean precision above 0.1 over recalls above 0.1, scaled to 0..1."""
        above = np.maximum(self.precision[self._first :] - self.measures.min_precision, 0)
        return float(np.mean(above)) / (1.0 - self.measures.min_precision)

    def error(self, name: str) -> float:
        """Mean error over the achieved recalls above 0.1; 1 if there are none."""
        achieved = np.flatnonzero(self.confidence)
        last = int(achieved[-1]) if len(achieved) else 0
        return 1.0 if last < self._first else float(np.mean(self.errors[name][self._first : last + 1]))


@dataclass(frozen=True)
class DetectionMetrics:
    """Detection metrics of a split.

    Attributes:
        label_aps: class -> match distance (m) -> average precision.
        label_errors: class -> error name -> true-positive error (m, 1 - IoU, rad, m/s, 1 - accuracy); nan
            where the protocol defines none.
        curves: (class, match distance) -> what they were computed from.
        meta: the results file's `meta`.
        remarks: oddities in tables and results that were accepted.
        seconds: wall time.
        dataset: the classes and thresholds.
    """

    label_aps: dict[str, dict[float, float]]
    label_errors: dict[str, dict[str, float]]
    curves: dict[tuple[str, float], DetectionCurve] = field(repr=False)
    meta: dict[str, object] = field(default_factory=dict, repr=False)
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0
    dataset: DatasetDescription = NUSCENES

    @property
    def mean_distance_aps(self) -> dict[str, float]:
        """Class -> mean over match distances of average precision."""
        return {name: float(np.mean(list(aps.values()))) for name, aps in self.label_aps.items()}

    @property
    def mean_ap(self) -> float:
        """Mean average precision (mAP) over classes and match distances."""
        return float(np.mean(list(self.mean_distance_aps.values())))

    @property
    def errors(self) -> dict[str, float]:
        """Mean true-positive error over the classes that define it (mATE, mASE, mAOE, mAVE, mAAE).

        An error that no class defines is left out; nuScenes' own classes define each.
        """
        names = [
            name
            for name in ERROR_NAMES
            if any(name not in self.dataset.undefined(c) for c in self.label_errors)
        ]
        return {
            name: float(np.nanmean([self.label_errors[label][name] for label in self.dataset.listed]))
            for name in names
        }

    @property
    def nd_score(self) -> float:
        """nuScenes detection score (NDS)."""
        scores = [max(0.0, 1.0 - error) for error in self.errors.values()]
        return float(MEAN_AP_WEIGHT * self.mean_ap + np.sum(scores)) / float(MEAN_AP_WEIGHT + len(scores))

    def summary(self) -> dict[str, object]:
        """The official `metrics_summary.json`: same keys, same nesting, nan where it has nan."""
        errors = self.errors
        return {
            "label_aps": {
                name: {str(th): ap for th, ap in aps.items()} for name, aps in self.label_aps.items()
            },
            "mean_dist_aps": self.mean_distance_aps,
            "mean_ap": self.mean_ap,
            "label_tp_errors": self.label_errors,
            "tp_errors": errors,
            "tp_scores": {name: max(0.0, 1.0 - error) for name, error in errors.items()},
            "nd_score": self.nd_score,
            "eval_time": self.seconds,
            "cfg": detection_config(self.dataset),
            "meta": self.meta,
        }

    def details(self) -> dict[str, dict[str, list[float]]]:
        """The official `metrics_details.json`: the curves under "class:distance"."""
        return {
            f"{name}:{distance}": {
                "recall": curve.recall.tolist(),
                "precision": curve.precision.tolist(),
                "confidence": curve.confidence.tolist(),
                **{error: values.tolist() for error, values in curve.errors.items()},
            }
            for (name, distance), curve in self.curves.items()
        }


def evaluate_detection(
    results: Path,
    dataroot: Path,
    version: str,
    split: str,
    scenes: Collection[str] | None = None,
    progress: Progress = no_progress,
    dataset: DatasetDescription | Path | None = None,
) -> DetectionMetrics:
    """Official detection metrics of a results file in the nuScenes detection submission format.

    Arguments, errors and warnings are those of `evaluate_tracking`.
    """
    begin = time.perf_counter()
    with paused_garbage_collection():
        read, truth = read_evaluated(
            "detection", results, dataroot, version, split, scenes, progress, dataset
        )
        metrics = detection_metrics(read.boxes, truth, progress)
    seconds = time.perf_counter() - begin
    return replace(metrics, meta=read.meta, remarks=read.remarks, seconds=seconds)


def detection_metrics(
    detections: EvaluationBoxes, truth: GroundTruth, progress: Progress = no_progress
) -> DetectionMetrics:
    """Official detection metrics of detections that are at hand as arrays.

    Args:
        detections: unfiltered boxes; of equal scores, later ones count as more confident (as officially).
        truth: the samples to evaluate on and their unfiltered annotations.
        progress: called with the name of each class as it begins.

    Raises:
        SynclError: if negative scores make the precision curve meaningless.
    """
    with np.errstate(invalid="ignore"):
        found = evaluated_boxes(detections, truth)
        objects = evaluated_boxes(truth.boxes, truth)
    curves: dict[tuple[str, float], DetectionCurve] = {}
    dataset = truth.dataset
    for name in dataset.listed:
        label = dataset.classes.index(name)
        progress(name)
        of_class = found.select(found.label == label)
        objects_of_class = objects.select(objects.label == label)
        for distance, curve in _class_curves(of_class, objects_of_class, name, dataset).items():
            _check_confidence(curve, of_class, truth, name)
            curves[name, distance] = curve
    label_aps = {
        name: {
            distance: curves[name, distance].average_precision()
            for distance in dataset.measures.match_distances_m
        }
        for name in dataset.listed
    }
    label_errors = {
        name: {
            error: np.nan
            if error in dataset.undefined(name)
            else curves[name, dataset.measures.error_distance_m].error(error)
            for error in ERROR_NAMES
        }
        for name in dataset.listed
    }
    return DetectionMetrics(label_aps, label_errors, curves, dataset=dataset)


def _check_confidence(
    curve: DetectionCurve, of_class: EvaluationBoxes, truth: GroundTruth, name: str
) -> None:
    if (np.diff(curve.confidence) > 0).any():
        row = int((of_class.score < 0).argmax())
        token = truth.samples.tokens[int(of_class.sample[row])]
        raise SynclError(
            f"sample {token}: field 'detection_score' is {of_class.score[row]:g} for a {name}; the metric "
            "takes 0 as a recall that is not achieved and needs positive scores: apply a sigmoid to logits"
        )


def _class_curves(
    found: EvaluationBoxes, objects: EvaluationBoxes, name: str, dataset: DatasetDescription
) -> dict[float, DetectionCurve]:
    distances = dataset.measures.match_distances_m
    rank = ranks_by_score(found.score)
    candidates = nearby_pairs(
        found.matched_sample,
        found.centre[:, :2],
        objects.sample,
        objects.centre[:, :2],
        max(distances),
    )
    order = np.argsort(rank)
    curves = {}
    for distance in distances:
        matched, matched_distance = match_greedily(candidates, rank, len(objects), distance)
        curves[distance] = _curve(
            found, objects, order, matched[order], matched_distance[order], name, dataset
        )
    return curves


def _curve(
    found: EvaluationBoxes,
    objects: EvaluationBoxes,
    order: Ints,
    matched: Ints,
    distance_m: Floats,
    name: str,
    dataset: DatasetDescription,
) -> DetectionCurve:
    """Curve of one class from its matches; `order`, `matched` and `distance_m` [D] go by falling score."""
    recall_grid = np.linspace(0, 1, RECALL_POINTS)
    hit = matched >= 0
    if not hit.any():
        nothing = np.zeros(RECALL_POINTS)
        worst = dict.fromkeys(ERROR_NAMES, np.ones(RECALL_POINTS))
        return DetectionCurve(recall_grid, nothing, nothing, worst, dataset.measures)
    true_positives = np.cumsum(hit).astype(np.float64)
    false_positives = np.cumsum(~hit).astype(np.float64)
    precision = true_positives / (false_positives + true_positives)
    recall = true_positives / float(len(objects))
    score = found.score[order]
    confidence = np.interp(recall_grid, recall, score, right=0)
    rows = order[hit]
    errors = _errors(
        found.select(rows), objects.select(matched[hit]), distance_m[hit], name in dataset.symmetric
    )
    scores = found.score[rows]
    return DetectionCurve(
        recall=recall_grid,
        precision=np.interp(recall_grid, recall, precision, right=0),
        confidence=confidence,
        errors={
            error: np.interp(confidence[::-1], scores[::-1], _running_mean(values)[::-1])[::-1]
            for error, values in errors.items()
        },
        measures=dataset.measures,
    )


def _errors(
    found: EvaluationBoxes, objects: EvaluationBoxes, distance_m: Floats, symmetric: bool
) -> dict[str, Floats]:
    """The five errors [M] of M matched pairs; nan where one is unknown."""
    both = np.minimum(found.size, objects.size)
    intersection, found_volume, object_volume = (
        size[:, 0] * size[:, 1] * size[:, 2] for size in (both, found.size, objects.size)
    )
    with np.errstate(invalid="ignore"):
        overlap = intersection / (object_volume + found_volume - intersection)
        motion = found.velocity - objects.velocity
        speed_error = np.sqrt(motion[:, 0] ** 2 + motion[:, 1] ** 2)
    period = np.pi if symmetric else 2 * np.pi
    turn = np.nan_to_num(yaw_from_quaternion(objects.rotation)) - yaw_from_quaternion(found.rotation)
    turn = (turn + period / 2) % period - period / 2
    same = (found.attribute == objects.attribute).astype(np.float64)
    return {
        "trans_err": distance_m,
        "scale_err": 1 - overlap,
        "orient_err": np.abs(turn),
        "vel_err": speed_error,
        "attr_err": np.where(objects.attribute < 0, np.nan, 1 - same),
    }


def _running_mean(values: Floats) -> Floats:
    """Mean of the values so far that are known; 0 before the first, 1 throughout if none is."""
    known = ~np.isnan(values)
    if not known.any():
        return np.ones(len(values))
    count = np.cumsum(known)
    total = np.nancumsum(values)
    mean: Floats = np.divide(total, count, out=np.zeros_like(total), where=count != 0)
    return mean
