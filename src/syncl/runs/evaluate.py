"""What `syncl evaluate` does: official metrics of a results file, and files of them. Needs no torch."""

import json
import math
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from syncl.data.nuscenes.splits import OFFICIAL_SPLITS
from syncl.errors import SynclError
from syncl.evaluation.cause_table import CauseTable
from syncl.evaluation.causes import find_causes
from syncl.evaluation.constants import DETECTION_ORDER, TRACKING_ORDER
from syncl.evaluation.detection import DetectionMetrics, evaluate_detection
from syncl.evaluation.ground_truth import read_ground_truth
from syncl.evaluation.result_arrays import read_detections, read_results
from syncl.evaluation.steps import STEPS
from syncl.evaluation.tracking import TrackingMetrics, evaluate_tracking
from syncl.files import atomic_write, refuse_to_overwrite
from syncl.progress import progress_bar


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found and wrote.

    Attributes:
        metrics: of the results.
        plots: the curves that were drawn.
        files: details and metrics, where they were asked for.
    """

    metrics: TrackingMetrics | DetectionMetrics
    plots: tuple[Path, ...]
    files: tuple[Path, ...]


def evaluate_results(
    results: Path,
    data: Path,
    version: str,
    split: str,
    *,
    task: Literal["tracking", "detection"] = "tracking",
    output: Path | None = None,
    details: Path | None = None,
    plots: Path | None = None,
    scenes: tuple[str, ...] = (),
    causes: bool = False,
    detections: Path | None = None,
    min_score: float | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Score results; see `syncl.commands.evaluate.evaluate` for the arguments.

    Raises:
        SynclError: on unusable input, before anything is written.
    """
    causes = causes or detections is not None
    _check_causes(task, causes, detections, min_score)
    for target in (output, details, plots):
        if target is not None:
            refuse_to_overwrite(target, overwrite)
    function = evaluate_tracking if task == "tracking" else evaluate_detection
    names = TRACKING_ORDER if task == "tracking" else DETECTION_ORDER
    bar = progress_bar((*STEPS, *names), "evaluating")
    with warnings.catch_warnings():
        # The remarks are part of the metrics.
        warnings.simplefilter("ignore", UserWarning)
        metrics = function(results, data, version, split, scenes or None, lambda _: next(bar, None))
    next(bar, None)
    if causes and isinstance(metrics, TrackingMetrics):
        table = _find_causes(metrics, results, data, version, split, scenes, detections, min_score)
        metrics = replace(metrics, causes=table)
    drawn: list[Path] = []
    if plots is not None:
        from syncl.rendering.metric_figures import plot_official_detection, plot_official_tracking

        if isinstance(metrics, DetectionMetrics):
            drawn = plot_official_detection(metrics, plots)
        else:
            drawn = plot_official_tracking(metrics, plots)
    written = []
    for file, content in ((details, metrics.details), (output, metrics.summary)):
        if file is not None:
            atomic_write(file, json.dumps(content(), indent=2).encode() + b"\n")
            written.append(file)
    return Evaluation(metrics, tuple(drawn), tuple(written))


def _check_causes(task: str, causes: bool, detections: Path | None, min_score: float | None) -> None:
    if causes and task != "tracking":
        raise SynclError("--causes, --detections: sort the failures of tracks; leave out --task detection")
    if min_score is not None and not causes:
        raise SynclError("--min-score: is for the table of causes only; add --causes")
    if min_score is not None and math.isnan(min_score):
        raise SynclError("--min-score: nan; name the least score of tracks that count, 0 for all")
    if detections is not None and not detections.is_file():
        raise SynclError(
            f"--detections: {detections}: there is no such file; write the detector's own boxes with "
            "syncl track --task detection"
        )


def _find_causes(
    metrics: TrackingMetrics,
    results: Path,
    data: Path,
    version: str,
    split: str,
    scenes: tuple[str, ...],
    detections: Path | None,
    min_score: float | None,
) -> CauseTable:
    truth = read_ground_truth(data, version, split, scenes or None, velocities=False)
    partial = split not in OFFICIAL_SPLITS or bool(scenes)
    tracks = read_results(results, truth.samples, "tracking", allow_other_samples=partial).boxes
    boxes = None if detections is None else read_detections(detections, truth.samples, partial)
    thresholds = {
        name: curve.operating_threshold if min_score is None else min_score
        for name, curve in metrics.curves.items()
    }
    return find_causes(tracks, truth, thresholds, boxes)
