"""What `syncl plot` does: metrics of runs side by side."""

from pathlib import Path
from typing import Literal

from syncl.errors import SynclError
from syncl.files import refuse_to_overwrite
from syncl.rendering.metric_figures import plot_class_bars, plot_recall_curves
from syncl.rendering.report.runs import read_runs


def plot_runs(
    texts: tuple[str, ...],
    output: Path,
    *,
    curves: tuple[str, ...],
    bars: tuple[str, ...],
    format: Literal["png", "svg", "pdf"],
    overwrite: bool,
) -> tuple[Path, ...]:
    """Draw metrics over recall and class by class; see `syncl.commands.plot.plot` for the arguments.

    Raises:
        SynclError: before anything is written, if a run lacks what is to be drawn.
    """
    runs = read_runs(texts)
    details = {run.name: run.details for run in runs if run.details is not None}
    labels = {run.name: run.metrics["label_metrics"] for run in runs if run.metrics is not None}
    if curves and len(details) < len(runs):
        lacking = next(run.name for run in runs if run.details is None)
        raise SynclError(
            f"{lacking}: no details.json, which the curves over recall are drawn from; write it with syncl "
            "evaluate --details, or pass --curves without a metric for bars alone"
        )
    if bars and len(labels) < len(runs):
        lacking = next(run.name for run in runs if run.metrics is None)
        raise SynclError(f"{lacking}: no metrics.json; write it with syncl evaluate --output")
    files = {metric: output / f"{metric}.{format}" for metric in curves}
    classes = output / f"classes.{format}"
    written = (*files.values(), *((classes,) if bars else ()))
    for file in written:
        refuse_to_overwrite(file, overwrite)
    for metric, file in files.items():
        plot_recall_curves(details, file, metric, overwrite)
    if bars:
        plot_class_bars(labels, classes, bars, overwrite)
    return written
