"""The official curves as PDF files: metrics over recall, per class.

Importing this module needs matplotlib, which the metrics themselves do not.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_pdf import FigureCanvasPdf
from matplotlib.figure import Figure

from syncl.evaluation.constants import (
    CURVE_METRICS,
    DETECTION_ORDER,
    ERROR_DISTANCE_M,
    ERROR_NAMES,
    MATCH_DISTANCES_M,
    MIN_PRECISION,
    MIN_RECALL,
    TRACKING_COLORS,
    UNDEFINED_ERRORS,
)
from syncl.evaluation.detection import DetectionMetrics
from syncl.evaluation.tracking import TrackingMetrics
from syncl.files import atomic_path

_TRACKING_PLOTS = tuple(metric for metric in CURVE_METRICS if metric != "gt")
_LOGARITHMIC = ("mt", "ml", "faf", "tp", "fp", "fn", "ids", "frag")
_UP_TO_ONE = ("motar", "recall", "mota")

_Draw = Callable[[Axes], None]


def plot_tracking(metrics: TrackingMetrics, folder: Path) -> list[Path]:
    """Writes one plot a metric with the curves of all classes over recall, and `summary.pdf` with all plots.

    Returns:
        The files written.
    """
    draws = {metric: _tracking_plot(metrics, metric) for metric in _TRACKING_PLOTS}
    files = [_write(folder / f"{metric}.pdf", [draw]) for metric, draw in draws.items()]
    return [*files, _write(folder / "summary.pdf", list(draws.values()))]


def plot_detection(metrics: DetectionMetrics, folder: Path) -> list[Path]:
    """Writes precision and true-positive errors over recall for each class, and `summary.pdf` with all plots.

    Returns:
        The files written.
    """
    draws: dict[str, _Draw] = {}
    for name in DETECTION_ORDER:
        draws[f"{name}_pr"] = _precision_plot(metrics, name)
        draws[f"{name}_tp"] = _error_plot(metrics, name)
    files = [_write(folder / f"{plot}.pdf", [draw]) for plot, draw in draws.items()]
    return [*files, _write(folder / "summary.pdf", list(draws.values()))]


def _tracking_plot(metrics: TrackingMetrics, metric: str) -> _Draw:
    def draw(axes: Axes) -> None:
        for name, curve in metrics.curves.items():
            achieved = ~np.isnan(curve.confidence)
            if achieved.any():
                recall, values = curve.recall_hypo[achieved], curve.values[metric][achieved]
                axes.plot(recall, values, label=name, color=TRACKING_COLORS[name])
        if metric in _LOGARITHMIC:
            axes.set_yscale("symlog")
        if metric in _UP_TO_ONE:
            axes.set_ylim(0, 1)
        elif metric != "motp":
            axes.set_ylim(bottom=0)
        _finish(axes, "recall", metric.upper())

    return draw


def _precision_plot(metrics: DetectionMetrics, name: str) -> _Draw:
    def draw(axes: Axes) -> None:
        for distance in MATCH_DISTANCES_M:
            curve = metrics.curves[name, distance]
            ap = metrics.label_aps[name][distance]
            axes.plot(curve.recall, curve.precision, label=f"{distance:g} m, AP {100 * ap:.1f}")
        axes.axhline(MIN_PRECISION, color="0.7", linestyle="--", linewidth=1)
        axes.set_ylim(0, 1)
        axes.set_title(name)
        _finish(axes, "recall", "precision")

    return draw


def _error_plot(metrics: DetectionMetrics, name: str) -> _Draw:
    def draw(axes: Axes) -> None:
        curve = metrics.curves[name, ERROR_DISTANCE_M]
        achieved = np.flatnonzero(curve.confidence)
        last = int(achieved[-1]) + 1 if len(achieved) else 0
        for error in ERROR_NAMES:
            if error not in UNDEFINED_ERRORS.get(name, ()) and last:
                mean = metrics.label_errors[name][error]
                axes.plot(curve.recall[:last], curve.errors[error][:last], label=f"{error} {mean:.2f}")
        axes.set_ylim(bottom=0)
        axes.set_title(name)
        _finish(axes, "recall", "running mean error (m, rad, m/s or 1 - x)")

    return draw


def _finish(axes: Axes, x_label: str, y_label: str) -> None:
    axes.axvline(MIN_RECALL, color="0.7", linestyle="--", linewidth=1)
    axes.set_xlim(0, 1)
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="upper right", fontsize="small")


def _write(file: Path, draws: list[_Draw]) -> Path:
    columns = min(2, len(draws))
    rows = -(-len(draws) // columns)
    figure = Figure(figsize=(7.5 * columns, 5 * rows), layout="tight")
    for number, draw in enumerate(draws):
        draw(figure.add_subplot(rows, columns, number + 1))
    with atomic_path(file) as temporary:
        FigureCanvasPdf(figure)
        figure.savefig(temporary, format="pdf")
    return file
