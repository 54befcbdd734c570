"""The figures of a report as HTML tables."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from syncl.evaluation.cause_table import CauseCounts
from syncl.evaluation.headings import HeadingErrors
from syncl.rendering.report.run_files import Json

OVERALL = {
    "amota": "AMOTA",
    "amotp": "AMOTP (m)",
    "recall": "recall",
    "motar": "MOTAR",
    "mota": "MOTA",
    "motp": "MOTP (m)",
    "hota": "HOTA",
    "tp": "true positives",
    "fp": "false positives",
    "fn": "missed",
    "ids": "identity switches",
    "frag": "fragmentations",
    "mt": "mostly tracked",
    "ml": "mostly lost",
    "faf": "false alarms a 100 frames",
    "tid": "time until tracked (s)",
    "lgd": "longest gap (s)",
}
"""Metric -> what it is called, in order; HOTA is not part of the official set."""

PER_CLASS = ("amota", "amotp", "recall", "mota", "motp", "gt", "tp", "fp", "fn", "ids", "frag", "mt", "ml")
COUNTS = ("gt", "tp", "fp", "fn", "ids", "frag", "mt", "ml")
_LESS_IS_BETTER = ("amotp", "motp", "fp", "fn", "ids", "frag", "ml", "faf", "tid", "lgd")


def value_of(metrics: Json, metric: str) -> float:
    """An overall metric of an official summary; nan where it is not there."""
    place = metrics.get("not_official", {}) if metric == "hota" else metrics
    value = place.get(metric)
    return float(value) if isinstance(value, int | float) else float("nan")


def cell_text(metric: str, value: float) -> str:
    """A value as it is printed."""
    if value != value:
        return "\u2013"
    return f"{value:.0f}" if metric in COUNTS else f"{value:.1f}" if metric == "faf" else f"{value:.3f}"


def comparison_table(runs: Mapping[str, Json]) -> str:
    """All runs side by side, a row a metric: the best of each bold, with differences to the first run."""
    body = []
    for metric, title in OVERALL.items():
        values = [value_of(metrics, metric) for metrics in runs.values()]
        if all(value != value for value in values):
            continue
        best = _best(metric, values)
        cells = [
            _comparison_cell(metric, value, values[0] if number else None, value == best)
            for number, value in enumerate(values)
        ]
        body.append(f'<tr><th scope="row">{title}</th>{"".join(cells)}</tr>')
    return _table("metrics", runs, body)


def class_table(metrics: Json) -> str:
    """Every class of one run, a row a class."""
    labels: Mapping[str, Mapping[str, float | None]] = metrics["label_metrics"]
    shown = [metric for metric in PER_CLASS if metric in labels]
    body = []
    for name in labels["amota"]:
        values = {metric: labels[metric].get(name) for metric in shown}
        cells = "".join(
            f"<td>{cell_text(metric, float('nan') if value is None else float(value))}</td>"
            for metric, value in values.items()
        )
        body.append(f'<tr><th scope="row">{escape(name.replace("_", " "))}</th>{cells}</tr>')
    overall = {metric: value_of(metrics, metric) for metric in shown}
    # The official summary has the mean here, which no reader expects under a count.
    objects = [value for value in labels.get("gt", {}).values() if value is not None and value == value]
    overall["gt"] = float(sum(objects))
    means = "".join(f"<td>{cell_text(metric, overall[metric])}</td>" for metric in shown)
    body.append(f'<tr class="all"><th scope="row">all</th>{means}</tr>')
    return _table("classes", map(str.upper, shown), body)


def headings_table(runs: Mapping[str, HeadingErrors]) -> str:
    """Heading errors of vehicles along the ego vehicle's axis and of turned ones, two rows a run."""
    heads = ("found", "median error (\u00b0)", "within 10\u00b0", "half turns")
    body = []
    for run, errors in runs.items():
        for words, group in (("aligned", errors.aligned), ("turned", errors.turned)):
            cells = "<td>\u2013</td>" * 3
            if group.count:
                figures = (f"{group.median_deg:.1f}", f"{group.near_share:.0%}", str(group.half_turns))
                cells = "".join(f"<td>{figure}</td>" for figure in figures)
            body.append(f'<tr><th scope="row">{escape(run)}, {words}</th><td>{group.count}</td>{cells}</tr>')
    return _table("headings", heads, body)


def causes_table(kind: str, runs: Mapping[str, CauseCounts]) -> str:
    """Failures of one kind by cause, all runs side by side: counts and shares of the run's own.

    A cause that a run cannot tell, for want of detections or since it has them, is a dash.
    """
    body = []
    for cause in next(iter(runs.values())).causes:
        found = [counts.by_cause[cause] for counts in runs.values()]
        if any(found):
            cells = "".join(
                f'<td>{count} <span class="soft">{100 * count / max(1, counts.total):.0f} %</span></td>'
                if counts.tells(cause)
                else "<td>\u2013</td>"
                for count, counts in zip(found, runs.values(), strict=True)
            )
            body.append(f'<tr><th scope="row">{escape(cause.replace("_", " "))}</th>{cells}</tr>')
    totals = "".join(f"<td>{counts.total}</td>" for counts in runs.values())
    body.append(f'<tr class="all"><th scope="row">all</th>{totals}</tr>')
    return _table(f"causes {kind}", runs, body)


def settings_table(rows: Mapping[str, Mapping[str, str]]) -> str:
    """Settings of all runs side by side: run -> label -> text. Rows in which runs differ are marked."""
    labels = list(dict.fromkeys(label for of_run in rows.values() for label in of_run))
    body = []
    for label in labels:
        values = [of_run.get(label, "not recorded") for of_run in rows.values()]
        differs = ' class="differs"' if len(set(values)) > 1 else ""
        cells = "".join(f"<td>{escape(value)}</td>" for value in values)
        body.append(f'<tr{differs}><th scope="row">{escape(label)}</th>{cells}</tr>')
    return _table("settings", rows, body)


def _comparison_cell(metric: str, value: float, first: float | None, best: bool) -> str:
    text = cell_text(metric, value)
    text = f"<b>{text}</b>" if best else text
    if first is None or first != first or value != value:
        return f"<td>{text}</td>"
    change = value - first
    sign = "\u2212" if change < 0 else "+"
    amount = cell_text(metric, abs(change))
    if not float(amount):
        return f"<td>{text} <small>\u00b10</small></td>"
    better = (change < 0) == (metric in _LESS_IS_BETTER)
    return f'<td>{text} <small class="{"better" if better else "worse"}">{sign}{amount}</small></td>'


def _best(metric: str, values: Sequence[float]) -> float | None:
    known = [value for value in values if value == value]
    if len(known) < 2 or len(set(known)) == 1:
        return None
    return min(known) if metric in _LESS_IS_BETTER else max(known)


def _table(kind: str, columns: Iterable[str], body: Sequence[str]) -> str:
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in columns)
    rows = "\n".join(body)
    return (
        f'<div class="scroll" tabindex="0"><table class="{kind}">'
        f"<thead><tr><th></th>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"
    )
