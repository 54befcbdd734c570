"""Figures of metrics: runs side by side, the official curves, and the arms of an experiment.

Runs are the plain contents of the official metrics files, so a figure needs no more than what is on disk:

- details, `metrics_details.json`: class -> metric -> 40 values, from recall 1 down to 0.1; nan where a recall
  is not achieved;
- label metrics, the entry `label_metrics` of `metrics_summary.json`: metric -> class -> value.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncl.dataset_description import ERROR_NAMES
from syncl.errors import SynclError
from syncl.evaluation.constants import (
    CURVE_METRICS,
    tracking_colors,
)
from syncl.evaluation.detection import DetectionMetrics
from syncl.evaluation.tracking import TrackingMetrics
from syncl.rendering.figures import COLOURS, add_legend, caption, new_figure, plain, save_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Details = Mapping[str, Mapping[str, Sequence[float]]]
LabelMetrics = Mapping[str, Mapping[str, float]]
_Draw = Callable[["Axes"], None]

_LINES = ("-", "--", "-.", ":")
# Metrics that are whole numbers.
_COUNTS = ("tp", "fp", "fn", "ids", "frag", "mt", "ml", "gt")
_LOGARITHMIC = (*_COUNTS, "faf")
_UP_TO_ONE = ("motar", "mota", "recall", "confidence")
_AXIS_NAMES = {
    "motar": "MOTAR",
    "mota": "MOTA",
    "motp": "MOTP (m)",
    "amota": "AMOTA",
    "amotp": "AMOTP (m)",
    "recall": "recall",
    "ids": "identity switches",
    "frag": "fragmentations",
    "confidence": "score threshold",
}


def plot_recall_curves(
    runs: Mapping[str, Details], output: Path, metric: str = "motar", overwrite: bool = False
) -> None:
    """Plot a metric over recall, one panel a class and one line a run.

    A class's AMOTA is the mean height of its "motar" line over the 40 recalls, 0 where it has ended.

    Args:
        runs: name of the run -> details.
        output: .png, .svg or .pdf file.
        metric: a key of the details.
        overwrite: replace an existing file.

    Raises:
        SynclError: no run, an unknown metric, lists of different lengths, or an existing file.
    """
    classes = list(dict.fromkeys(name for details in runs.values() for name in details))
    if not classes:
        raise SynclError("plot: nothing to plot; give at least one run with at least one class")
    figure, panels = new_figure(len(classes))
    for panel, name in zip(panels, classes):
        for number, (run, details) in enumerate(runs.items()):
            if name not in details:
                continue
            recall, values = _curve(run, details, name, metric)
            colour, line = COLOURS[number % len(COLOURS)], _LINES[number % len(_LINES)]
            panel.plot(recall, values, label=plain(run), linewidth=1.8, color=colour, linestyle=line)
            # A dot at the highest achieved recall: where a curve ends is as telling as how it runs.
            panel.plot(recall[-1:], values[-1:], "o", markersize=4, color=colour)
        caption(panel, name.replace("_", " "))
        panel.set_xlim(0.0, 1.02)
        panel.set_xticks(np.linspace(0, 1, 6))
        if metric in _UP_TO_ONE:
            panel.set_ylim(0.0, 1.03)
        else:
            panel.set_ylim(bottom=0.0)
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel(_axis_name(metric), fontsize=10)
    if len(runs) > 1:
        add_legend(figure, panels, min(len(runs), 4))
    save_figure(figure, output, overwrite)


def plot_class_bars(
    runs: Mapping[str, LabelMetrics],
    output: Path,
    metrics: Sequence[str] = ("amota", "recall", "ids"),
    overwrite: bool = False,
) -> None:
    """Plot metrics class by class as bars, one panel a metric and one bar a run.

    Classes without ground truth (nan) are left empty.

    Args:
        runs: name of the run -> label metrics.
        output: .png, .svg or .pdf file.
        metrics: keys of the label metrics.
        overwrite: replace an existing file.

    Raises:
        SynclError: no run, an unknown metric, or an existing file.
    """
    from matplotlib.ticker import MaxNLocator

    if not runs or not metrics:
        raise SynclError(f"{output}: nothing to plot; give at least one run and one metric")
    for run, values in runs.items():
        for metric in metrics:
            if metric not in values:
                raise SynclError(f"{run}: no metric '{metric}'; there are {', '.join(sorted(values))}")
    classes = list(dict.fromkeys(name for values in runs.values() for name in values[metrics[0]]))
    figure, panels = new_figure(len(metrics), columns=1, height=1.9)
    thick = 0.8 / len(runs)
    for panel, metric in zip(panels, metrics):
        counted = metric in _COUNTS
        panel.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=counted))
        for number, (run, values) in enumerate(runs.items()):
            heights = np.array([values[metric].get(name, np.nan) for name in classes], np.float64)
            places = np.arange(len(classes)) + (number - (len(runs) - 1) / 2) * thick
            colour = COLOURS[number % len(COLOURS)]
            panel.bar(places, np.nan_to_num(heights), thick * 0.92, color=colour, label=plain(run))
            for place, height in zip(places, heights):
                if np.isfinite(height) and len(runs) <= 3:
                    words = f"{height:.0f}" if counted else f"{height:.2f}"
                    panel.annotate(
                        words, (place, height), (0, 1), textcoords="offset points", ha="center", fontsize=7
                    )
        panel.set_xticks(
            np.arange(len(classes)), [plain(name.replace("_", "\n")) for name in classes], fontsize=8
        )
        caption(panel, up=_axis_name(metric))
        panel.margins(y=0.15)
        # Nothing but zeros would be drawn amid negative numbers.
        panel.set_ylim(0, None if panel.dataLim.height > 0 else 1)
        panel.grid(visible=False, axis="x")
    if len(runs) > 1:
        add_legend(figure, panels, min(len(runs), 4))
    save_figure(figure, output, overwrite)


def plot_official_tracking(metrics: TrackingMetrics, folder: Path) -> list[Path]:
    """Writes one PDF a metric with the curves of all classes over recall, and `summary.pdf` with all of them.

    Returns:
        The files written.
    """
    details = metrics.details()
    colours = tracking_colors(metrics.dataset)

    def draw(metric: str, panel: "Axes") -> None:
        for name in details:
            recall, values = _curve("results", details, name, metric)
            if len(recall):
                panel.plot(recall, values, label=plain(name), color=colours[name])
        if metric in _LOGARITHMIC:
            panel.set_yscale("symlog")
        if metric in _UP_TO_ONE:
            panel.set_ylim(0, 1)
        elif metric != "motp":
            panel.set_ylim(bottom=0)
        caption(panel, "", "recall", _axis_name(metric))

    return _write_official(
        {name: partial(draw, name) for name in CURVE_METRICS if name != "gt"},
        folder,
        metrics.dataset.measures.min_recall,
    )


def plot_official_detection(metrics: DetectionMetrics, folder: Path) -> list[Path]:
    """Writes PDFs of precision and true-positive errors over recall, two a class, and `summary.pdf` with all.

    Returns:
        The files written.
    """

    measures = metrics.dataset.measures

    def precision(name: str, panel: "Axes") -> None:
        for distance in measures.match_distances_m:
            curve, ap = metrics.curves[name, distance], metrics.label_aps[name][distance]
            panel.plot(curve.recall, curve.precision, label=f"{distance:g} m, AP {100 * ap:.1f}")
        panel.axhline(measures.min_precision, color="0.7", linestyle="--", linewidth=1)
        panel.set_ylim(0, 1)
        caption(panel, name, "recall", "precision")

    def errors(name: str, panel: "Axes") -> None:
        curve = metrics.curves[name, measures.error_distance_m]
        achieved = np.flatnonzero(curve.confidence)
        last = int(achieved[-1]) + 1 if len(achieved) else 0
        for error in ERROR_NAMES:
            if error not in metrics.dataset.undefined(name) and last:
                mean = metrics.label_errors[name][error]
                panel.plot(curve.recall[:last], curve.errors[error][:last], label=f"{error} {mean:.2f}")
        panel.set_ylim(bottom=0)
        caption(panel, name, "recall", "running mean error (m, rad, m/s or 1 - x)")

    draws: dict[str, _Draw] = {}
    for name in metrics.label_aps:
        draws |= {f"{name}_pr": partial(precision, name), f"{name}_tp": partial(errors, name)}
    return _write_official(draws, folder, measures.min_recall)


def plot_arms(
    title: str,
    arms: Mapping[str, Mapping[int, Mapping[str, float]]],
    references: Mapping[str, str],
    output: Path,
) -> None:
    """AMOTA and recall of every run of an experiment, an arm a row, with each arm's mean.

    A line leads to it from the mean of the arm's reference over the same seeds.

    Args:
        title: heading.
        arms: arm -> seed -> metrics ("amota", "recall"); arms without runs keep an empty row.
        references: arm -> the arm that its differences are taken from.
        output: picture; an existing one is replaced.
    """

    def mean(arm: str, metric: str, seeds: Iterable[int]) -> float:
        return float(np.mean([arms[arm][seed][metric] for seed in seeds]))

    figure, panels = new_figure(2, columns=2, height=0.7 + 0.25 * len(arms))
    for panel, metric in zip(panels, ("amota", "recall")):
        for row, (arm, runs) in enumerate(arms.items()):
            if not runs:
                continue
            shared = runs.keys() & arms[references[arm]].keys()
            if shared:
                ends = mean(references[arm], metric, shared), mean(arm, metric, shared)
                panel.hlines(row, *ends, color="0.6", linewidth=2, zorder=1)
            middle = mean(arm, metric, runs)
            panel.vlines(middle, row - 0.3, row + 0.3, color="black", linewidth=2, zorder=3)
        for number, seed in enumerate(sorted({seed for runs in arms.values() for seed in runs})):
            rows = [row for row, runs in enumerate(arms.values()) if seed in runs]
            values = [runs[seed][metric] for runs in arms.values() if seed in runs]
            colour = COLOURS[number % len(COLOURS)]
            panel.scatter(values, rows, s=28, alpha=0.8, color=colour, label=f"seed {seed}", zorder=2)
        caption(panel, across=_axis_name(metric))
        panel.grid(visible=False, axis="y")
        panel.set_yticks(range(len(arms)), list(map(plain, arms)) if panel is panels[0] else [], fontsize=8)
        panel.set_ylim(len(arms) - 0.5, -0.5)
    figure.suptitle(f"{plain(title)}: every run, means, and how far from their baselines", fontsize=11)
    panels[1].legend(fontsize=8)
    save_figure(figure, output, overwrite=True)


def _curve(run: str, details: Details, name: str, metric: str) -> tuple[np.ndarray, np.ndarray]:
    columns = details[name]
    for wanted in (metric, "recall_hypo"):
        if wanted not in columns:
            raise SynclError(f"{run}: class {name} has no '{wanted}'; there are {', '.join(sorted(columns))}")
    recall = np.array(columns["recall_hypo"], np.float64)
    values = np.array(columns[metric], np.float64)
    if recall.shape != values.shape or recall.ndim != 1:
        raise SynclError(f"{run}: class {name}: {values.size} values of '{metric}' for {recall.size} recalls")
    known = np.isfinite(recall) & np.isfinite(values)
    order = np.argsort(recall[known], kind="stable")
    return recall[known][order], values[known][order]


def _axis_name(metric: str) -> str:
    return _AXIS_NAMES.get(metric, metric.upper())


def _write_official(draws: Mapping[str, _Draw], folder: Path, min_recall: float) -> list[Path]:
    files = []
    for name, shown in (*((name, [draw]) for name, draw in draws.items()), ("summary", list(draws.values()))):
        figure, panels = new_figure(len(shown), columns=2, height=3.2)
        for panel, draw in zip(panels, shown):
            draw(panel)
            panel.axvline(min_recall, color="0.7", linestyle="--", linewidth=1)
            panel.set_xlim(0, 1)
            if panel.get_legend_handles_labels()[0]:
                panel.legend(loc="upper right", fontsize=7)
        files.append(folder / f"{name}.pdf")
        save_figure(figure, files[-1], overwrite=True)
    return files
