"""The official tracking metrics (tracking_nips_2019): AMOTA, AMOTP and the CLEAR-MOT family."""

import time
from collections.abc import Collection, Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np

from syncl.data.json_stream import paused_garbage_collection
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError
from syncl.evaluation.arrays import EvaluationBoxes, Floats, GroundTruth
from syncl.evaluation.cause_table import CauseTable
from syncl.evaluation.clear_matching import TrackMatches, frames_with_duplicates, match_tracks
from syncl.evaluation.clear_metrics import clear_metrics
from syncl.evaluation.constants import (
    CURVE_METRICS,
    SUMMED_METRICS,
    TRACK_THRESHOLDS,
    TRACKING_METRICS,
    tracking_config,
    worst_values,
)
from syncl.evaluation.hota import HotaScores, hota_scores
from syncl.evaluation.reading import Progress, no_progress, read_evaluated
from syncl.evaluation.track_building import TrackBoxes, order_frames
from syncl.evaluation.track_pairs import EvaluatedTracks, TrackPairs


@dataclass(frozen=True)
class TrackingCurve:
    """One class at the 40 recall thresholds, from recall 1 down to 0.1.

    Attributes:
        confidence: [40] score thresholds, nan where the recall is not achieved.
        recall_hypo: [40] the recalls; nan if nothing was ever matched.
        values: metric (of `CURVE_METRICS`) -> [40].
    """

    confidence: Floats
    recall_hypo: Floats
    values: dict[str, Floats]

    @property
    def operating_point(self) -> int | None:
        """Index of the threshold of best MOTA, the one of highest recall if equal; None without truth."""
        mota = self.values["mota"]
        return None if np.isnan(mota).all() else int(np.nanargmax(mota))

    @property
    def operating_threshold(self) -> float:
        """Score threshold at the operating point; nan if no recall is achieved."""
        index = self.operating_point
        return float("nan") if index is None else float(self.confidence[index])


@dataclass(frozen=True)
class TrackingMetrics:
    """Tracking metrics of a split.

    Attributes:
        label_metrics: metric (of `TRACKING_METRICS`) -> class -> value; nan for classes without ground truth.
        curves: class -> what they were computed from.
        hota: class -> HOTA at the class's operating threshold. Not part of the official set.
        causes: why boxes were missed, false and switched, where that was asked for. Not official either.
        meta: the results file's `meta`.
        remarks: oddities in tables and results that were accepted.
        seconds: wall time.
        dataset: the classes and thresholds.
    """

    label_metrics: dict[str, dict[str, float]]
    curves: dict[str, TrackingCurve] = field(repr=False)
    hota: dict[str, HotaScores]
    causes: CauseTable | None = None
    meta: dict[str, object] = field(default_factory=dict, repr=False)
    remarks: tuple[str, ...] = ()
    seconds: float = 0.0
    dataset: DatasetDescription = NUSCENES

    def overall(self, metric: str) -> float:
        """A metric over all classes: sum of counts, mean of the rest (`gt` included); nan is left out."""
        values = np.array(list(self.label_metrics[metric].values()))
        if metric in SUMMED_METRICS:
            return float(np.nansum(values))
        return float("nan") if np.isnan(values).all() else float(np.nanmean(values))

    @property
    def amota(self) -> float:
        """Average multi-object tracking accuracy over recall thresholds and classes."""
        return self.overall("amota")

    @property
    def amotp(self) -> float:
        """Average multi-object tracking precision (m) over recall thresholds and classes."""
        return self.overall("amotp")

    def summary(self) -> dict[str, object]:
        """The official `metrics_summary.json`: same keys, same nesting, nan where it has nan.

        The additional key `not_official` holds HOTA, as means and per class, and the causes of failures.
        """
        causes = {} if self.causes is None else {"causes": self.causes.to_json()}
        per_class = {name: asdict(scores) for name, scores in self.hota.items()}
        return {
            "label_metrics": self.label_metrics,
            "eval_time": self.seconds,
            "cfg": tracking_config(self.dataset),
            **{metric: self.overall(metric) for metric in TRACKING_METRICS},
            "meta": self.meta,
            "not_official": {**self.hota_means(), "label_metrics": per_class, **causes},
        }

    def hota_means(self) -> dict[str, float]:
        """HOTA, DetA, AssA and LocA as means over the classes with ground truth."""
        return {
            name: _mean_of_known([getattr(scores, name) for scores in self.hota.values()])
            for name in ("hota", "det_a", "ass_a", "loc_a")
        }

    def details(self) -> dict[str, dict[str, list[float]]]:
        """The official `metrics_details.json`: class -> the 40 values of each metric."""
        return {
            name: {
                "confidence": curve.confidence.tolist(),
                "recall_hypo": curve.recall_hypo.tolist(),
                **{metric: values.tolist() for metric, values in curve.values.items()},
            }
            for name, curve in self.curves.items()
        }


def _mean_of_known(values: Iterable[float]) -> float:
    known = [value for value in values if not np.isnan(value)]
    return float(np.mean(known)) if known else float("nan")


def evaluate_tracking(
    results: Path,
    dataroot: Path,
    version: str,
    split: str,
    scenes: Collection[str] | None = None,
    progress: Progress = no_progress,
    dataset: DatasetDescription | Path | None = None,
) -> TrackingMetrics:
    """Official tracking metrics of a results file.

    Args:
        results: JSON in the nuScenes tracking submission format.
        dataroot: nuScenes root, holding the folder `version`.
        version: such as "v1.0-trainval".
        split: an official split or one of the version's `splits.json`.
        scenes: names of the scenes to evaluate on, for a part of the split; results may
            hold others too.
        progress: called with the name of each step as it begins.
        dataset: file of classes and measures; None = `dataset.yaml` beside the tables where there is one,
            nuScenes' own otherwise.

    Raises:
        SynclError: if tables or results cannot be used; it names file, sample and field.

    Warns:
        UserWarning: once for each kind of oddity in tables or results that is accepted, with its count.
    """
    begin = time.perf_counter()
    with paused_garbage_collection():
        read, truth = read_evaluated("tracking", results, dataroot, version, split, scenes, progress, dataset)
    metrics = tracking_metrics(read.boxes, truth, progress)
    seconds = time.perf_counter() - begin
    return replace(metrics, meta=read.meta, remarks=read.remarks, seconds=seconds)


def tracking_metrics(
    tracks: EvaluationBoxes,
    truth: GroundTruth,
    progress: Progress = no_progress,
) -> TrackingMetrics:
    """Official tracking metrics of tracks that are at hand as arrays.

    Args:
        tracks: unfiltered boxes of the tracking classes.
        truth: the samples to evaluate on and their unfiltered annotations.
        progress: called with the name of each step as it begins.

    Raises:
        SynclError: if an identity occurs so often in single samples that recall exceeds 1.
    """
    evaluated = EvaluatedTracks.of(tracks, truth)
    curves: dict[str, TrackingCurve] = {}
    hota: dict[str, HotaScores] = {}
    names = truth.dataset.listed_tracked
    for name in names:
        progress(name)
        own, guesses, pairs = evaluated.of_class(name)
        curves[name] = _class_curve(name, pairs, own, guesses, truth)
        hota[name] = hota_scores(pairs, own, guesses, curves[name].operating_threshold)
    label_metrics: dict[str, dict[str, float]] = {metric: {} for metric in TRACKING_METRICS}
    for name in names:
        for metric, value in _class_metrics(curves[name], truth.dataset).items():
            label_metrics[metric][name] = value
    return TrackingMetrics(label_metrics, curves, hota, dataset=truth.dataset)


def _class_curve(
    name: str, pairs: TrackPairs, own: TrackBoxes, guesses: TrackBoxes, truth: GroundTruth
) -> TrackingCurve:
    unknown = np.full(TRACK_THRESHOLDS, np.nan)
    if not len(own):
        return TrackingCurve(unknown, unknown, dict.fromkeys(CURVE_METRICS, unknown))
    confidence, recall_hypo = _thresholds(name, pairs, own, guesses, truth)
    achieved, place = np.unique(confidence[~np.isnan(confidence)], return_inverse=True)
    if not len(achieved):
        return TrackingCurve(confidence, recall_hypo, _nothing_matched(own, truth.dataset))
    matches = match_tracks(pairs, own, guesses, achieved)
    metrics = clear_metrics(pairs, matches, own, guesses, achieved, truth.dataset.measures.frame_period_s)
    values = {}
    for metric, column in metrics.items():
        values[metric] = unknown.copy()
        values[metric][~np.isnan(confidence)] = column[place]
    return TrackingCurve(confidence, recall_hypo, values)


def _thresholds(
    name: str, pairs: TrackPairs, own: TrackBoxes, guesses: TrackBoxes, truth: GroundTruth
) -> tuple[Floats, Floats]:
    """Score thresholds [40] that should give recalls 1 down to 0.1, and these recalls.

    They follow from the scores of the boxes that are matched (not switched) when no threshold is applied.
    """
    matches = match_tracks(pairs, own, guesses, np.array([-np.inf]))
    scores = _matched_scores(pairs, matches, guesses)
    if not len(scores):
        unknown = np.full(TRACK_THRESHOLDS, np.nan)
        return unknown, unknown
    if len(scores) > len(own):
        raise SynclError(
            f"field 'tracking_id': {len(scores)} boxes of class {name} match {len(own)} annotations, as ids "
            f"occur more than once in a sample{_example(guesses, truth)}: make ids unique within a sample"
        )
    scores = np.sort(scores)[::-1]
    recall = np.arange(1, len(scores) + 1) / len(own)
    grid = np.linspace(truth.dataset.measures.min_recall, 1, TRACK_THRESHOLDS).round(12)
    thresholds = np.interp(grid, recall, scores, right=0)
    thresholds[grid > recall.max()] = np.nan
    return thresholds[::-1], grid[::-1]


def _matched_scores(pairs: TrackPairs, matches: TrackMatches, guesses: TrackBoxes) -> Floats:
    """Scores of boxes that are matched, not switched; of an id that occurs twice in a frame, of both."""
    true = (matches.matched & ~matches.switched)[:, 0]
    rows = pairs.guess[true]
    doubled = frames_with_duplicates(guesses)
    if len(doubled):
        in_doubt = np.isin(guesses.frame, doubled)
        key = guesses.frame * (guesses.track.max() + 1) + guesses.track
        rows = np.concatenate([rows[~in_doubt[rows]], np.flatnonzero(in_doubt & np.isin(key, key[rows]))])
    scores: Floats = guesses.score[rows]
    return scores


def _example(guesses: TrackBoxes, truth: GroundTruth) -> str:
    doubled = frames_with_duplicates(guesses)
    if not len(doubled):
        return ""
    sample = np.flatnonzero(order_frames(truth.samples).of_sample == doubled[0])[0]
    return f", such as {truth.samples.tokens[int(sample)]}"


def _nothing_matched(own: TrackBoxes, dataset: DatasetDescription) -> dict[str, Floats]:
    """The values of a class that has ground truth and no achieved recall."""
    counts = {"gt": len(own), "fn": len(own), "ml": len(np.unique(own.track))}
    unknowable = dict.fromkeys(("fp", "ids", "frag"), np.nan)
    worst = {**worst_values(dataset), **counts, **unknowable}
    return {metric: np.full(TRACK_THRESHOLDS, worst[metric], np.float64) for metric in CURVE_METRICS}


def _class_metrics(curve: TrackingCurve, dataset: DatasetDescription) -> dict[str, float]:
    """Single numbers of one class: averages over thresholds, and the rest at the operating point."""
    index = curve.operating_point
    if index is None:
        return dict.fromkeys(TRACKING_METRICS, float("nan"))
    metrics = {metric: float(curve.values[metric][index]) for metric in CURVE_METRICS}
    for average, metric in (("amota", "motar"), ("amotp", "motp")):
        values = curve.values[metric]
        metrics[average] = (
            float("nan")
            if np.isnan(values).all()
            else float(np.mean(np.where(np.isnan(values), worst_values(dataset)[average], values)))
        )
    return metrics
