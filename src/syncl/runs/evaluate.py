"""What `syncl evaluate` does: official metrics of a results file, and files of them. Needs no torch."""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from syncl.errors import SynclError
from syncl.evaluation.causes import Causes, causes_of_files
from syncl.evaluation.constants import DETECTION_ORDER, TRACKING_ORDER
from syncl.evaluation.detection import DetectionMetrics, evaluate_detection
from syncl.evaluation.outcomes import Outcomes
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
        causes: outcomes of the boxes and their causes, where detections were given.
    """

    metrics: TrackingMetrics | DetectionMetrics
    plots: tuple[Path, ...]
    files: tuple[Path, ...]
    causes: tuple[Outcomes, Causes] | None = None


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
    detections: Path | None = None,
    overwrite: bool = False,
) -> Evaluation:
    """Score results; see `syncl.commands.evaluate.evaluate` for the arguments.

    Raises:
        SynclError: on unusable input, before anything is written.
    """
    for target in (output, details, plots):
        if target is not None:
            refuse_to_overwrite(target, overwrite)
    if detections is not None and task != "tracking":
        raise SynclError("--detections: only tracks are compared with detections; leave out --task detection")
    function = evaluate_tracking if task == "tracking" else evaluate_detection
    names = TRACKING_ORDER if task == "tracking" else DETECTION_ORDER
    bar = progress_bar((*STEPS, *names), "evaluating")
    with warnings.catch_warnings():
        # The remarks are part of the metrics.
        warnings.simplefilter("ignore", UserWarning)
        metrics = function(results, data, version, split, scenes or None, lambda _: next(bar, None))
    next(bar, None)
    causes = None
    if detections is not None:
        causes = causes_of_files(results, detections, data, version, split, scenes or None)
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
    return Evaluation(metrics, tuple(drawn), tuple(written), causes)
