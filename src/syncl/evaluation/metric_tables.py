"""Metrics as tables for people."""

from collections.abc import Mapping

from rich import box
from rich.table import Table

from syncl.classes import DETECTION_CLASSES
from syncl.evaluation.arrays import Bools, Ints
from syncl.evaluation.causes import FALSE_CAUSES, MISS_CAUSES, SWITCH_CAUSES, Causes, shares
from syncl.evaluation.constants import DETECTION_ORDER, ERROR_NAMES, TRACKING_ORDER
from syncl.evaluation.detection import DetectionMetrics
from syncl.evaluation.outcomes import Outcomes
from syncl.evaluation.tracking import TrackingMetrics

_RATES = ("amota", "amotp", "recall", "motar", "mota", "motp", "faf", "tid", "lgd")
_EVENTS = ("gt", "tp", "fp", "fn", "ids", "frag", "mt", "ml")
_AT_REST_MPS = 0.5
_COUNTS = ("tp", "fp", "fn", "ids", "frag", "mt", "ml")


def detection_tables(metrics: DetectionMetrics) -> list[Table]:
    """AP and errors per class, with the means in the last rows, and the headline numbers; 80 columns wide."""
    distances = next(iter(metrics.label_aps.values()))
    precision = _table("detection (detection_cvpr_2019)", "AP", *(f"AP {d:g} m" for d in distances))
    errors = _table("errors of true positives", "ATE m", "ASE", "AOE rad", "AVE m/s", "AAE")
    mean_aps = metrics.mean_distance_aps
    for name in DETECTION_ORDER:
        precision.add_row(name, *map(_number, (mean_aps[name], *metrics.label_aps[name].values())))
        errors.add_row(name, *(_number(metrics.label_errors[name][error]) for error in ERROR_NAMES))
    over_classes = [
        sum(metrics.label_aps[name][distance] for name in DETECTION_ORDER) / len(DETECTION_ORDER)
        for distance in distances
    ]
    for table, means in (
        (precision, (metrics.mean_ap, *over_classes)),
        (errors, tuple(metrics.errors.values())),
    ):
        table.add_section()
        table.add_row("mean", *map(_number, means), style="bold")
    return [precision, errors, _headline({"mAP": metrics.mean_ap, "NDS": metrics.nd_score})]


def tracking_tables(metrics: TrackingMetrics) -> list[Table]:
    """All metrics per class, the overall ones in the last rows, HOTA and the headline; 80 columns wide."""
    tables = []
    for title, columns in (("tracking (tracking_nips_2019)", _RATES), ("objects and tracks", _EVENTS)):
        table = _table(title, *map(str.upper, columns))
        for name in TRACKING_ORDER:
            table.add_row(name, *(_cell(metric, metrics.label_metrics[metric][name]) for metric in columns))
        table.add_section()
        table.add_row(
            "overall", *(_cell(metric, metrics.overall(metric)) for metric in columns), style="bold"
        )
        tables.append(table)
    headline = _headline({"AMOTA": metrics.amota, "AMOTP": metrics.amotp})
    return [*tables, _hota_table(metrics), headline]


def cause_tables(outcomes: Outcomes, causes: Causes) -> list[Table]:
    """Causes of misses by class, distance and speed, of false tracks by class, and of switches by class."""
    labels = outcomes.objects.label
    names = [name for name in TRACKING_ORDER if (labels == DETECTION_CLASSES.index(name)).any()]
    by_class = {name: labels == DETECTION_CLASSES.index(name) for name in names}
    distance, speed = causes.distances_m, causes.speeds_mps
    by_place = {
        "0-15 m": distance < 15,
        "15-30 m": (distance >= 15) & (distance < 30),
        "30+ m": distance >= 30,
        "at rest": speed < _AT_REST_MPS,
        "moving": speed >= _AT_REST_MPS,
    }
    found = {name: outcomes.found.label == DETECTION_CLASSES.index(name) for name in names}
    alone, tracked = causes.detected.mean(), outcomes.tracked.mean()
    seen = f"tracks find {tracked:.3f} of {len(labels)} boxes, single frames {alone:.3f} at their best F1"
    return [
        _causes(f"misses at the score of best MOTA; {seen}", causes.missed, MISS_CAUSES, by_place),
        _causes("misses by class", causes.missed, MISS_CAUSES, by_class),
        _causes("false positives", causes.false, FALSE_CAUSES, found),
        _causes("identity switches", causes.switched, SWITCH_CAUSES, by_class),
    ]


def _causes(title: str, cause: Ints, names: tuple[str, ...], groups: Mapping[str, Bools]) -> Table:
    table = _table(title, "all", "%", *(name[:7] for name in groups))
    table.columns[0].header = "cause"
    total = max(int((cause >= 0).sum()), 1)
    parts = [shares(cause, names, rows) for rows in groups.values()]
    for name, count in shares(cause, names).items():
        table.add_row(name, str(count), f"{100 * count / total:.0f}", *(str(part[name]) for part in parts))
    return table


def _table(title: str, *headings: str) -> Table:
    table = Table(
        title=title, title_justify="left", box=box.SIMPLE_HEAD, collapse_padding=True, pad_edge=False
    )
    table.add_column("class", no_wrap=True)
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
    table.add_row(*(f"{name} [bold]{_number(value)}[/bold]" for name, value in values.items()))
    return table


def _cell(metric: str, value: float) -> str:
    return _number(value, 0 if metric in _COUNTS else 1 if metric in ("gt", "faf") else 3)


def _number(value: float, digits: int = 3) -> str:
    return "-" if value != value else f"{value:.{digits}f}"
