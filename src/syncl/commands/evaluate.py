"""`syncl evaluate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from syncl.evaluation import DetectionMetrics, TrackingMetrics


def evaluate(
    results: Path,
    /,
    *,
    data: Path,
    version: str = "v1.0-mini",
    dataset: Path | None = None,
    split: str | None = None,
    task: Literal["tracking", "detection"] = "tracking",
    output: Path | None = None,
    details: Path | None = None,
    plots: Path | None = None,
    scenes: tuple[str, ...] = (),
    causes: bool = False,
    detections: Path | None = None,
    min_score: float | None = None,
    overwrite: bool = False,
) -> "TrackingMetrics | DetectionMetrics":
    """Score results with the official nuScenes metrics.

    The numbers are those of the official devkit (detection_cvpr_2019, tracking_nips_2019); HOTA is added for
    tracking and is not part of the official set. Nothing is written unless the evaluation succeeds.

    Args:
        results: results file in the nuScenes submission format (JSON).
        data: folder of a nuScenes-format dataset.
        version: nuScenes version folder inside data.
        dataset: file of classes, ranges and thresholds of your own (docs/own-data.md); default: dataset.yaml
            beside the tables, where there is one.
        split: official split of that version, or one of its splits.json (default: the version's own
            validation split).
        task: what the results are.
        output: file for the metrics, with the keys of the official metrics_summary.json (and NaN, as there).
        details: file for the curves behind the metrics, in the form of the official metrics_details.json.
        plots: folder for the official curves over recall, as PDF.
        scenes: names of the scenes to evaluate on, for a part of the split; results may hold others too.
        causes: also sort every miss, false box and identity switch by cause: never detected, not born, born
            late, drifted off, died early, duplicated, ... by class, distance, speed and visibility
            (docs/evaluation.md). They go into output too, under not_official.
        detections: results file of the detector's own boxes (syncl track --task detection), by which
            causes (which it implies) tell what the detector did not find from what no track was born for.
        min_score: for causes, least mean score of the tracks that count; 0 takes all. Without it, each
            class is taken at its score of best MOTA, as in the official counts.
        overwrite: replace existing files.

    Returns:
        The metrics; `summary()` and `details()` have the official keys.
    """
    import warnings
    from dataclasses import replace

    from syncl.data.dataset_file import find_description
    from syncl.data.nuscenes.splits import own_split
    from syncl.errors import SynclError
    from syncl.evaluation.detection import evaluate_detection
    from syncl.evaluation.metric_tables import cause_tables, detection_tables, tracking_tables
    from syncl.evaluation.reading import STEPS
    from syncl.evaluation.tracking import TrackingMetrics, evaluate_tracking
    from syncl.files import check_output
    from syncl.progress import plain_console, print_whole, progress_bar
    from syncl.runs.evaluate import check_causes, failure_causes, write_metrics

    causes = causes or detections is not None
    check_causes(task, causes, detections, min_score)
    read = {path.resolve() for path in (results, detections) if path is not None}
    written_to = [path.resolve() for path in (output, details) if path is not None]
    if len(set(written_to)) < len(written_to) or not read.isdisjoint(written_to):
        raise SynclError("--output, --details: would be written over the results or one another; name others")
    for target in (output, details, plots):
        if target is not None:
            check_output(target, overwrite, "folder" if target is plots else "file")
    function = evaluate_tracking if task == "tracking" else evaluate_detection
    description = find_description(data, version, dataset)
    names = description.listed_tracked if task == "tracking" else description.listed
    bar = progress_bar((*STEPS, *names), "evaluating")
    source = (data, version, split or own_split(version, data), scenes or None)

    def step(_: str) -> None:
        next(bar, None)

    with warnings.catch_warnings():
        # The remarks are part of the metrics.
        warnings.simplefilter("ignore", UserWarning)
        metrics = function(results, *source, progress=step, dataset=description)
    next(bar, None)
    tables = tracking_tables(metrics) if isinstance(metrics, TrackingMetrics) else detection_tables(metrics)
    remarks = metrics.remarks
    if causes and isinstance(metrics, TrackingMetrics):
        found = failure_causes(metrics, results, source, detections, min_score)
        metrics = replace(metrics, causes=found)
        tables += cause_tables(found)
        remarks += found.remarks
    drawn, written = write_metrics(metrics, output, details, plots)
    console = plain_console()
    for table in tables:
        print_whole(console, table)
    for remark in remarks:
        console.print(f"note: {remark}", style="yellow")
    if drawn:
        console.print(f"wrote {len(drawn)} plots to {plots}")
    for file in written:
        console.print(f"wrote {file}")
    return metrics
