"""Plots of tracking metrics, of one run or several side by side.

Inputs are the plain contents of the official metrics files, so a plot needs no more than what is on disk:

- details, `metrics_details.json`: class -> metric -> 40 values, from recall 1 down to 0.1; nan where a recall
  is not achieved;
- label metrics, the entry `label_metrics` of `metrics_summary.json`: metric -> class -> value.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from syncl.errors import SynclError
from syncl.files import atomic_path, refuse_to_overwrite

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Details = Mapping[str, Mapping[str, Sequence[float]]]
LabelMetrics = Mapping[str, Mapping[str, float]]

# Okabe and Ito's colours, which colour-blind readers tell apart, darkest first for one run alone.
RUN_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
# Metrics that are whole numbers.
_COUNTS = ("tp", "fp", "fn", "ids", "frag", "mt", "ml", "gt")
_LINES = ("-", "--", "-.", ":")
_SUFFIXES = (".png", ".svg", ".pdf")
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
    classes = _classes(runs)
    curves = {
        (run, name): _curve(run, details, name, metric)
        for run, details in runs.items()
        for name in classes
        if name in details
    }
    figure, panels = _panels(len(classes))
    for panel, name in zip(panels, classes):
        for number, run in enumerate(runs):
            if (run, name) not in curves:
                continue
            recall, values = curves[run, name]
            colour, line = RUN_COLOURS[number % len(RUN_COLOURS)], _LINES[number % len(_LINES)]
            panel.plot(recall, values, label=run, linewidth=1.8, color=colour, linestyle=line)
            # A dot at the highest achieved recall: where a curve ends is as telling as how it runs.
            panel.plot(recall[-1:], values[-1:], "o", markersize=4, color=colour)
        panel.set_title(name.replace("_", " "), fontsize=10, loc="left", fontweight="bold")
        panel.set_xlim(0.0, 1.02)
        panel.set_xticks(np.linspace(0, 1, 6))
        if metric in ("motar", "mota", "recall", "confidence"):
            panel.set_ylim(0.0, 1.03)
        else:
            panel.set_ylim(bottom=0.0)
    figure.supxlabel("recall", fontsize=10)
    figure.supylabel(_axis_name(metric), fontsize=10)
    _legend(figure, panels, len(runs))
    _save(figure, output, overwrite)


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
    figure, panels = _panels(len(metrics), columns=1, height=1.9)
    thick = 0.8 / len(runs)
    for panel, metric in zip(panels, metrics):
        counted = metric in _COUNTS
        panel.yaxis.set_major_locator(MaxNLocator(nbins=5, integer=counted))
        for number, (run, values) in enumerate(runs.items()):
            heights = np.array([values[metric].get(name, np.nan) for name in classes], np.float64)
            places = np.arange(len(classes)) + (number - (len(runs) - 1) / 2) * thick
            colour = RUN_COLOURS[number % len(RUN_COLOURS)]
            panel.bar(places, np.nan_to_num(heights), thick * 0.92, color=colour, label=run)
            for place, height in zip(places, heights):
                if np.isfinite(height) and len(runs) <= 3:
                    words = f"{height:.0f}" if counted else f"{height:.2f}"
                    panel.annotate(
                        words, (place, height), (0, 1), textcoords="offset points", ha="center", fontsize=7
                    )
        panel.set_xticks(np.arange(len(classes)), [name.replace("_", "\n") for name in classes], fontsize=8)
        panel.set_ylabel(_axis_name(metric), fontsize=9)
        panel.margins(y=0.15)
        panel.grid(visible=False, axis="x")
    _legend(figure, panels, len(runs))
    _save(figure, output, overwrite)


def _classes(runs: Mapping[str, Details]) -> list[str]:
    classes = list(dict.fromkeys(name for details in runs.values() for name in details))
    if not classes:
        raise SynclError("plot: nothing to plot; give at least one run with at least one class")
    return classes


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


def _panels(count: int, columns: int = 4, height: float = 2.3) -> tuple["Figure", list["Axes"]]:
    # The object interface alone: no global state, and no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(columns, count)
    rows = -(-count // columns)
    width = 9.6 if columns > 1 or height < 2 else 4.8
    figure = Figure(figsize=(width, height * rows + 0.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = [figure.add_subplot(rows, columns, place + 1) for place in range(count)]
    for panel in panels:
        panel.spines[["top", "right"]].set_visible(False)
        panel.grid(color="#e3e6ea", linewidth=0.8)
        panel.set_axisbelow(True)
        panel.tick_params(labelsize=8, length=3, color="#9aa1ab")
    return figure, panels


def _axis_name(metric: str) -> str:
    return _AXIS_NAMES.get(metric, metric.upper())


def _legend(figure: "Figure", panels: list["Axes"], runs: int) -> None:
    if runs > 1:
        # A run may lack a class: each is taken from the first panel that has it.
        found = {
            name: handle for panel in panels[::-1] for handle, name in zip(*panel.get_legend_handles_labels())
        }
        handles, names = list(found.values()), list(found)
        figure.legend(handles, names, loc="outside upper left", ncols=min(runs, 4), frameon=False, fontsize=9)


def _save(figure: "Figure", output: Path, overwrite: bool) -> None:
    output = Path(output)
    if output.suffix.lower() not in _SUFFIXES:
        raise SynclError(f"{output}: plots are written as {', '.join(_SUFFIXES)}; choose such a name")
    refuse_to_overwrite(output, overwrite)
    with atomic_path(output) as temporary:
        figure.savefig(temporary, dpi=150)
