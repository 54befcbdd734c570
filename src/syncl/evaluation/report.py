"""Metrics as tables for people."""

from collections.abc import Mapping

from rich.table import Table

from syncl.evaluation.constants import DETECTION_NAMES, ERROR_NAMES, TRACKING_NAMES
from syncl.evaluation.detection import DetectionMetrics
from syncl.evaluation.tracking import TrackingMetrics

_TRACKING_COLUMNS = (
    "amota",
    "amotp",
    "recall",
    "motar",
    "mota",
    "motp",
    "gt",
    "tp",
    "fp",
    "fn",
    "ids",
    "frag",
    "mt",
    "ml",
    "faf",
    "tid",
    "lgd",
)
_COUNTS = ("tp", "fp", "fn", "ids", "frag", "mt", "ml")


def detection_tables(metrics: DetectionMetrics) -> list[Table]:
    """AP and errors per class, with the means in the last row, and the headline numbers."""
    table = Table(title="detection (detection_cvpr_2019)", title_justify="left")
    table.add_column("class")
    distances = next(iter(metrics.label_aps.values()))
    headings = (
        "AP",
        *(f"AP {distance:g} m" for distance in distances),
        "ATE m",
        "ASE",
        "AOE rad",
        "AVE m/s",
        "AAE",
    )
    for heading in headings:
        table.add_column(heading, justify="right")
    mean_aps = metrics.mean_distance_aps
    for name in DETECTION_NAMES:
        aps = metrics.label_aps[name]
        errors = metrics.label_errors[name]
        row = (mean_aps[name], *aps.values(), *(errors[error] for error in ERROR_NAMES))
        table.add_row(name, *map(_number, row))
    table.add_section()
    over_classes = [
        sum(metrics.label_aps[name][distance] for name in DETECTION_NAMES) / len(DETECTION_NAMES)
        for distance in distances
    ]
    table.add_row(
        "mean", *map(_number, (metrics.mean_ap, *over_classes, *metrics.errors.values())), style="bold"
    )
    return [table, _headline({"mAP": metrics.mean_ap, "NDS": metrics.nd_score})]


def tracking_tables(metrics: TrackingMetrics) -> list[Table]:
    """All metrics per class with the overall ones in the last row, the headline numbers, and HOTA."""
    table = Table(title="tracking (tracking_nips_2019)", title_justify="left")
    table.add_column("class")
    for metric in _TRACKING_COLUMNS:
        table.add_column(metric.upper(), justify="right")
    for name in TRACKING_NAMES:
        values = {metric: metrics.label_metrics[metric][name] for metric in _TRACKING_COLUMNS}
        table.add_row(name, *(_cell(metric, value) for metric, value in values.items()))
    table.add_section()
    overall = (_cell(metric, metrics.overall(metric)) for metric in _TRACKING_COLUMNS)
    table.add_row("overall", *overall, style="bold")
    headline = _headline({"AMOTA": metrics.amota, "AMOTP": metrics.amotp})
    return [table, _hota_table(metrics), headline]


def _hota_table(metrics: TrackingMetrics) -> Table:
    table = Table(title="HOTA at the score of best MOTA (not part of the official set)", title_justify="left")
    for heading in ("class", "HOTA", "DetA", "AssA", "LocA"):
        table.add_column(heading, justify="left" if heading == "class" else "right")
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
    table.add_row(*(f"{name} [bold]{_number(value)}[/bold]" for name, value in values.items()))
    return table


def _cell(metric: str, value: float) -> str:
    return _number(value, 0 if metric in _COUNTS else 1 if metric in ("gt", "faf") else 3)


def _number(value: float, digits: int = 3) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
