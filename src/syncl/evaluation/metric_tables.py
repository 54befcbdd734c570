"""Metrics as tables for people."""

import math
from collections.abc import Mapping

import numpy as np
from rich import box
from rich.table import Table
from rich.text import Text

from syncl.dataset_description import ERROR_NAMES, DatasetDescription
from syncl.evaluation.cause_table import CauseCounts, CauseTable
from syncl.evaluation.detection import DetectionMetrics
from syncl.evaluation.tracking import TrackingMetrics

_RATES = ("amota", "amotp", "recall", "motar", "mota", "motp", "faf", "tid", "lgd")
_COUNTS = ("gt", "tp", "fp", "fn", "ids", "frag", "mt", "ml")
# Of headings: a line a word.
_LINES = str.maketrans(" _", "\n\n")


def detection_tables(metrics: DetectionMetrics) -> list[Table]:
    """AP and errors per class, with the means in the last rows, and the headline numbers; 80 columns wide."""
    distances = next(iter(metrics.label_aps.values()))
    precision = _table(
        _title("detection", "detection_cvpr_2019", metrics.dataset), "AP", *(f"AP {d:g} m" for d in distances)
    )
    errors = _table("errors of true positives", "ATE m", "ASE", "AOE rad", "AVE m/s", "AAE")
    mean_aps = metrics.mean_distance_aps
    for name in metrics.label_aps:
        precision.add_row(name, *map(_number, (mean_aps[name], *metrics.label_aps[name].values())))
        errors.add_row(name, *(_number(metrics.label_errors[name][error]) for error in ERROR_NAMES))
    over_classes = [
        sum(aps[distance] for aps in metrics.label_aps.values()) / len(metrics.label_aps)
        for distance in distances
    ]
    for table, means in (
        (precision, (metrics.mean_ap, *over_classes)),
        (errors, tuple(metrics.errors.get(name, math.nan) for name in ERROR_NAMES)),
    ):
        table.add_section()
        table.add_row("mean", *map(_number, means), style="bold")
    return [precision, errors, _headline({"mAP": metrics.mean_ap, "NDS": metrics.nd_score})]


def tracking_tables(metrics: TrackingMetrics) -> list[Table]:
    """All metrics per class, the overall ones in the last rows, HOTA and the headline; 80 columns wide."""
    tables = []
    for title, columns in (
        (_title("tracking", "tracking_nips_2019", metrics.dataset), _RATES),
        ("objects and tracks", _COUNTS),
    ):
        table = _table(title, *map(str.upper, columns))
        for name in metrics.curves:
            table.add_row(name, *(_cell(metric, metrics.label_metrics[metric][name]) for metric in columns))
        table.add_section()
        table.add_row(
            "overall", *(_cell(metric, _overall(metrics, metric)) for metric in columns), style="bold"
        )
        tables.append(table)
    headline = _headline({"AMOTA": metrics.amota, "AMOTP": metrics.amotp})
    return [*tables, _hota_table(metrics), headline]


def cause_tables(table: CauseTable) -> list[Table]:
    """Misses, false boxes and switches by cause: how many, by class, by distance and speed, by visibility.

    Causes and groups without a failure are left out.
    """
    kinds = (
        ("misses", table.misses, "objects"),
        ("false boxes", table.false_boxes, "boxes"),
        ("identity switches", table.switches, "objects"),
    )
    tables = []
    for title, counts, of in kinds:
        tables.append(_cause_summary(title, counts, of))
        if counts.total:
            parts = [("class",), ("distance", "speed"), ("visibility",)]
            if counts is table.false_boxes:
                parts.pop()
            tables += [_cause_groups(title, counts, part, of) for part in parts]
    return tables


def _cause_summary(title: str, counts: CauseCounts, of: str) -> Table:
    boxes = int(counts.boxes["class"].sum())
    headings = ["count", "share %"] + ([] if counts.detected is None else ["detected"])
    table = _table(f"{title}: {counts.total} of {boxes} {of}, by cause", *headings, first="cause")
    table.add_column("", no_wrap=False)
    for row, (cause, count) in enumerate(counts.by_cause.items()):
        if count:
            detected = [] if counts.detected is None else [str(counts.detected[row])]
            share = f"{100 * count / counts.total:.0f}"
            table.add_row(cause_name(cause), str(count), share, *detected, counts.causes[cause])
    return table


def _cause_groups(title: str, counts: CauseCounts, properties: tuple[str, ...], of: str) -> Table:
    shown = [(name, group) for name in properties for group in np.flatnonzero(counts.boxes[name]).tolist()]
    headings = (counts.groups[name][group].translate(_LINES) for name, group in shown)
    table = _table(f"{title} by {' and '.join(properties)}", *headings, first="cause")
    for row, (cause, count) in enumerate(counts.by_cause.items()):
        if count:
            table.add_row(cause_name(cause), *(str(counts.counts[name][row, group]) for name, group in shown))
    table.add_section()
    table.add_row(f"of {of}", *(str(counts.boxes[name][group]) for name, group in shown), style="bold")
    return table


def cause_name(cause: str) -> str:
    """A cause as people read it."""
    return cause.replace("_", " ")


def _title(task: str, protocol: str, dataset: DatasetDescription) -> str:
    """Of a table; only nuScenes' own figures are the protocol's."""
    return f"{task} ({protocol})" if dataset.official else f"{task}, {dataset.name} (by {protocol})"


def _table(title: str, *headings: str, first: str = "class") -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False
    )
    table.add_column(first, no_wrap=True)
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _hota_table(metrics: TrackingMetrics) -> Table:
    title = "HOTA at the score of best MOTA (not part of the official set)"
    table = _table(title, "HOTA", "DetA", "AssA", "LocA")
    for name, scores in metrics.hota.items():
        table.add_row(name, *map(_number, (scores.hota, scores.det_a, scores.ass_a, scores.loc_a)))
    table.add_section()
    means = metrics.hota_means()
    table.add_row(
        "mean", *(_number(means[name]) for name in ("hota", "det_a", "ass_a", "loc_a")), style="bold"
    )
    return table


def _headline(values: Mapping[str, float]) -> Table:
    table = Table.grid(padding=(0, 2))
    table.add_row(*(Text.assemble(f"{name} ", (_number(value), "bold")) for name, value in values.items()))
    return table


def _overall(metrics: TrackingMetrics, metric: str) -> float:
    """As in the official summary; but of objects, whose mean over classes that has, their sum."""
    return (
        float(np.nansum(list(metrics.label_metrics["gt"].values())))
        if metric == "gt"
        else metrics.overall(metric)
    )


def _cell(metric: str, value: float) -> str:
    return _number(value, 0 if metric in _COUNTS else 1 if metric == "faf" else 3)


def _number(value: float, digits: int = 3) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
