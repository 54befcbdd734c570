"""`syncl evaluate`."""

from pathlib import Path
from typing import Literal


def evaluate(
    results: Path,
    /,
    *,
    data: Path,
    version: str = "v1.0-mini",
    split: str = "mini_val",
    task: Literal["tracking", "detection"] = "tracking",
    output: Path | None = None,
    details: Path | None = None,
    plots: Path | None = None,
    scenes: tuple[str, ...] = (),
    overwrite: bool = False,
) -> None:
    """Score results with the official nuScenes metrics.

    The numbers are those of the official devkit (detection_cvpr_2019, tracking_nips_2019); HOTA is added for
    tracking and is not part of the official set. Nothing is written unless the evaluation succeeds.

    Args:
        results: results file in the nuScenes submission format (JSON).
        data: folder of a nuScenes-format dataset.
        version: nuScenes version folder inside data.
        split: official split of that version, or one of its splits.json.
        task: what the results are.
        output: file for the metrics, with the keys of the official metrics_summary.json (and NaN, as there).
        details: file for the curves behind the metrics, in the form of the official metrics_details.json.
        plots: folder for the official curves over recall, as PDF.
        scenes: names of the scenes to evaluate on, where results cover a part of the split only.
        overwrite: replace existing files.
    """
    import json
    import warnings

    from rich.console import Console

    from syncl.evaluation.constants import DETECTION_ORDER, TRACKING_ORDER
    from syncl.evaluation.detection import DetectionMetrics, evaluate_detection
    from syncl.evaluation.metric_tables import detection_tables, tracking_tables
    from syncl.evaluation.steps import STEPS
    from syncl.evaluation.tracking import evaluate_tracking
    from syncl.files import atomic_write, refuse_to_overwrite
    from syncl.progress import track

    for target in (output, details, plots):
        if target is not None:
            refuse_to_overwrite(target, overwrite)
    function = evaluate_tracking if task == "tracking" else evaluate_detection
    names = TRACKING_ORDER if task == "tracking" else DETECTION_ORDER
    bar = track((*STEPS, *names), "evaluating")
    with warnings.catch_warnings():
        # The remarks are printed below, as part of the report.
        warnings.simplefilter("ignore", UserWarning)
        metrics = function(results, data, version, split, scenes or None, lambda _: next(bar, None))
    next(bar, None)
    console = Console(soft_wrap=True, highlight=False)
    tables = detection_tables(metrics) if isinstance(metrics, DetectionMetrics) else tracking_tables(metrics)
    for table in tables:
        console.print(table)
    for remark in metrics.remarks:
        console.print(f"note: {remark}", style="yellow")
    if plots is not None:
        from syncl.rendering.metric_figures import plot_official_detection, plot_official_tracking

        drawn = (
            plot_official_detection(metrics, plots)
            if isinstance(metrics, DetectionMetrics)
            else plot_official_tracking(metrics, plots)
        )
        console.print(f"wrote {len(drawn)} plots to {plots}")
    for target, content in ((details, metrics.details), (output, metrics.summary)):
        if target is not None:
            atomic_write(target, json.dumps(content(), indent=2).encode() + b"\n")
            console.print(f"wrote {target}")
