"""What `syncl evaluate` does beside the official metrics: causes of failures, and files. Needs no torch."""

import json
import math
import warnings
from collections.abc import Collection
from pathlib import Path

from syncl.data.nuscenes.splits import OFFICIAL_SPLITS
from syncl.data.own_results import as_json
from syncl.errors import SynclError
from syncl.evaluation.cause_table import CauseTable
from syncl.evaluation.causes import find_causes
from syncl.evaluation.detection import DetectionMetrics
from syncl.evaluation.reading import read_evaluated
from syncl.evaluation.result_arrays import read_detections
from syncl.evaluation.tracking import TrackingMetrics
from syncl.files import atomic_write


def check_causes(task: str, causes: bool, detections: Path | None, min_score: float | None) -> None:
    """Refuse options about causes that make no sense; see `syncl.commands.evaluate.evaluate`.

    Raises:
        SynclError: naming the option.
    """
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


def failure_causes(
    metrics: TrackingMetrics,
    results: Path,
    source: tuple[Path, str, str, Collection[str] | None],
    detections: Path | None,
    min_score: float | None,
) -> CauseTable:
    """Every failure behind the metrics of a results file, sorted by cause.

    Args:
        metrics: of the results.
        results: tracking results.
        source: the data set's folder, its version, the split, and some of its scenes or None.
        detections: results of the detector alone, if there are.
        min_score: least mean score of the tracks that count; None = each class's score of best MOTA.
    """
    with warnings.catch_warnings():
        # The metrics have the same remarks.
        warnings.simplefilter("ignore", UserWarning)
        read, truth = read_evaluated("tracking", results, *source, dataset=metrics.dataset)
    boxes = None
    if detections is not None:
        partial = source[2] not in OFFICIAL_SPLITS or bool(source[3])
        with as_json(detections, source[0], source[2], truth.dataset) as readable:
            boxes = read_detections(readable, truth.samples, truth.dataset, partial)
    thresholds = {
        name: curve.operating_threshold if min_score is None else min_score
        for name, curve in metrics.curves.items()
    }
    return find_causes(read.boxes, truth, thresholds, boxes)


def write_metrics(
    metrics: TrackingMetrics | DetectionMetrics, output: Path | None, details: Path | None, plots: Path | None
) -> tuple[list[Path], list[Path]]:
    """Write the files that are asked for: the plots, and details and metrics."""
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
    return drawn, written
