"""`syncl plot`."""

from pathlib import Path
from typing import Literal


def plot(
    runs: tuple[str, ...],
    /,
    *,
    output: Path,
    curves: tuple[str, ...] = ("mota", "motar"),
    bars: tuple[str, ...] = ("amota", "recall", "ids"),
    format: Literal["png", "svg", "pdf"] = "png",
    overwrite: bool = False,
) -> tuple[Path, ...]:
    """Plot metrics of one run or several: curves over recall, and bars class by class.

    Args:
        runs: [NAME=]PATH[,PATH...]: run folders, or files such as metrics.json,details.json (as syncl
            evaluate writes them with --output and --details).
        output: folder for the plots: one file a curve metric (mota.png: MOTA over recall, a panel a class and
            a line a run) and classes.png.
        curves: metrics to draw over recall; needs the details of every run.
        bars: metrics to draw class by class.
        format: of the plots.
        overwrite: replace existing plots.

    Returns:
        The files that were written.
    """
    import sys

    from syncl.errors import SynclError
    from syncl.files import check_output
    from syncl.rendering.metric_figures import plot_class_bars, plot_recall_curves
    from syncl.rendering.report.run_files import read_runs

    found = read_runs(runs)
    details = {run.name: run.details for run in found if run.details is not None}
    labels = {run.name: run.metrics["label_metrics"] for run in found if run.metrics is not None}
    if curves and len(details) < len(found):
        lacking = next(run.name for run in found if run.details is None)
        raise SynclError(
            f"{lacking}: no details.json, which the curves over recall are drawn from; write it with syncl "
            "evaluate --details, or pass --curves without a metric for bars alone"
        )
    if bars and len(labels) < len(found):
        lacking = next(run.name for run in found if run.metrics is None)
        raise SynclError(f"{lacking}: no metrics.json; write it with syncl evaluate --output")
    files = {metric: output / f"{metric}.{format}" for metric in curves}
    classes = output / f"classes.{format}"
    written = (*files.values(), *((classes,) if bars else ()))
    for file in written:
        check_output(file, overwrite)
    for metric, file in files.items():
        plot_recall_curves(details, file, metric, overwrite)
    if bars:
        plot_class_bars(labels, classes, bars, overwrite)
    sys.stdout.write(f"wrote {', '.join(map(str, written))}\n")
    return written
