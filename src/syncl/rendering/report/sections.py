"""The parts of a report, each a piece of HTML."""

import base64
import json
import os
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from urllib.parse import quote

import numpy as np

from syncl.evaluation.headings import HeadingErrors
from syncl.rendering.report.charts import COLOURS, Line, bars, legend, line_chart
from syncl.rendering.report.gallery import Failure, Gallery, Picture
from syncl.rendering.report.html_tables import (
    causes_table,
    cell_text,
    class_table,
    comparison_table,
    headings_table,
    settings_table,
    value_of,
)
from syncl.rendering.report.run_files import Json, settings_of
from syncl.rendering.report.scoring import ScoredRun


def cards(runs: Sequence[ScoredRun]) -> str:
    """The headline figures of each run."""
    made = []
    for number, scored in enumerate(runs):
        rest = "".join(
            f"<div><dt>{title}</dt><dd>{cell_text(metric, value_of(scored.metrics, metric))}</dd></div>"
            for metric, title in (("amotp", "AMOTP (m)"), ("recall", "recall"), ("ids", "switches"))
        )
        made.append(
            f'<div class="card" style="--card:var(--run-{number % COLOURS})">'
            f"<span>{escape(scored.run.name)}</span>"
            f"<b>{cell_text('amota', value_of(scored.metrics, 'amota'))}</b><small>AMOTA</small>"
            f"<dl>{rest}</dl></div>"
        )
    return f'<div class="cards">{"".join(made)}</div>'


def metrics_section(runs: Sequence[ScoredRun]) -> str:
    """All runs side by side."""
    text = "<p>Official nuScenes tracking metrics"
    if not all(scored.official for scored in runs):
        text = "<p>Tracking metrics as nuScenes defines them, not with its classes, ranges and distances"
    text += (
        ", all runs side by side; the best is bold, and small figures are differences to the first run.</p>"
        if len(runs) > 1
        else ".</p>"
    )
    if any(value_of(scored.metrics, "hota") == value_of(scored.metrics, "hota") for scored in runs):
        text += (
            '<p class="soft">HOTA is not part of the official set. Counts are at each class\u2019s score of '
            "best MOTA.</p>"
        )
    return text + comparison_table({scored.run.name: scored.metrics for scored in runs})


def curves_section(runs: Sequence[ScoredRun]) -> str:
    """MOTA and MOTAR over recall, a panel a class."""
    details = {scored.run.name: scored.run.details for scored in runs if scored.run.details is not None}
    missing = [scored.run.name for scored in runs if scored.run.details is None]
    if not details:
        return (
            "<p>No curves: no run has details.json (syncl evaluate --details), and without --data they "
            "cannot be computed.</p>"
        )
    numbers = {scored.run.name: number for number, scored in enumerate(runs)}
    classes = list(dict.fromkeys(name for of_run in details.values() for name in of_run))
    text = legend([scored.run.name for scored in runs])
    if missing:
        text += (
            f"<p class=remark>Without details.json, and so without curves: {escape(', '.join(missing))}.</p>"
        )
    for metric, words in (
        ("mota", "MOTA over recall; the dot is the highest recall achieved."),
        ("motar", "MOTAR over recall; AMOTA is its mean height over 40 recalls, 0 where it has ended."),
    ):
        panels = "".join(
            line_chart(
                name.replace("_", " "),
                {run: _curve(of_run.get(name, {}), metric) for run, of_run in details.items()},
                numbers,
                "recall",
                (0.0, 1.0),
                (0.0, 1.0),
            )
            for name in classes
        )
        text += f'<p class="soft">{words}</p><div class="panels">{panels}</div>'
    return text


def classes_section(runs: Sequence[ScoredRun]) -> str:
    """Bars a class for the metrics one looks at first, and the tables behind them."""
    labels = {scored.run.name: scored.metrics["label_metrics"] for scored in runs}
    classes = list(dict.fromkeys(name for of_run in labels.values() for name in of_run["amota"]))
    text = legend([scored.run.name for scored in runs]) if len(runs) > 1 else ""
    panels = ""
    for metric, title, digits in (
        ("amota", "AMOTA", 3),
        ("recall", "recall", 3),
        ("ids", "identity switches", 0),
    ):
        values = {
            run: {name: _float(value) for name, value in of_run.get(metric, {}).items()}
            for run, of_run in labels.items()
        }
        known = [value for of_run in values.values() for value in of_run.values() if value == value]
        panels += bars(title, values, classes, digits, 1.0 if digits else max([*known, 1.0]))
    text += f'<div class="panels">{panels}</div>'
    for scored in runs:
        text += f"<h3>{escape(scored.run.name)}</h3>{class_table(scored.metrics)}"
    return text


def headings_section(runs: Sequence[ScoredRun], headings: Mapping[str, HeadingErrors]) -> str:
    """Heading errors of vehicles by how they stand to the ego vehicle."""
    numbers = {scored.run.name: number for number, scored in enumerate(runs)}
    courses = {run: errors.course() for run, errors in headings.items()}
    highest = max([30.0, *(float(medians.max(initial=0.0)) for _, medians in courses.values())])
    chart = line_chart(
        "median heading error (\u00b0)",
        courses,
        numbers,
        "off the ego vehicle\u2019s axis (\u00b0)",
        (0, 90),
        (0, highest),
    )
    vehicles = "Cars, trucks, buses and trailers"
    reach_m = next(scored.reach_m for scored in runs if scored.run.name in headings)
    if not all(scored.official for scored in runs):
        vehicles = "Objects of the classes that do not look the same from both sides,"
    return (
        f"<p>{vehicles} that were found (centres less than {reach_m:g} m apart), by the angle "
        "between their heading and the ego vehicle\u2019s axis: aligned up to 30\u00b0, turned beyond.</p>"
        '<p class="soft">Most vehicles are aligned, so a mean over all hides headings that were never '
        "learned. Half turns are errors above 90\u00b0; they count in the medians.</p>"
        f'{legend(list(numbers))}<div class="panels">{chart}</div>{headings_table(headings)}'
    )


def causes_section(runs: Sequence[ScoredRun]) -> str:
    """Why objects were missed, boxes false and identities switched, all runs side by side."""
    tables = {scored.run.name: scored.causes for scored in runs if scored.causes is not None}
    if not tables:
        return (
            "<p>Causes are found by comparing results.json with the data set, which this report was made "
            "without (syncl report --data).</p>"
        )
    (first, *_) = (scored for scored in runs if scored.causes is not None)
    text = (
        f'<p class="soft">Every failure has one cause, of tracks whose mean score reaches {first.counted}; '
        "syncl evaluate --causes says what each means, and sorts them by class, distance, speed and "
        "visibility.</p>"
    )
    without = [name for name, table in tables.items() if table.detection_thresholds is None]
    if without:
        text += (
            f"<p>{escape(', '.join(without))}: without detections.json (syncl track --task detection), so "
            "objects that the detector did not find and objects that no track was born for are counted "
            "together: never held, not held yet.</p>"
        )
    kinds = (("Missed", "misses"), ("False boxes", "false_boxes"), ("Identity switches", "switches"))
    for title, kind in kinds:
        counts = {name: getattr(table, kind) for name, table in tables.items()}
        text += f"<h4>{title}</h4>{causes_table(kind, counts)}"
    return text


def failures_section(name: str, gallery: Gallery) -> str:
    """The worst failures of a run."""
    kinds = (
        ("Identity switches that lasted", "switches", gallery.switches, gallery.counts[0], " pairs"),
        ("Objects missed longest", "runs of misses", gallery.misses, gallery.counts[1], ""),
        ("False tracks that lived longest", "false tracks", gallery.false, gallery.counts[2], ""),
    )
    text = f"<h3>{escape(name)}</h3>"
    for title, what, failures, count, layout in kinds:
        shown = f"{len(failures)} of {count} {what}" if count else f"no {what}"
        text += f'<h4>{title} <span class="soft">({shown})</span></h4>'
        text += f'<div class="failures{layout}">{"".join(map(_failure, failures))}</div>'
    return text


def video_section(scored: ScoredRun, output: Path, embed_bytes: float) -> str:
    """A run's video: inside the page, or beside it if it is too large for that."""
    path = scored.run.files["video"]
    size = path.stat().st_size
    if size <= embed_bytes:
        source, note = f"data:video/mp4;base64,{base64.b64encode(path.read_bytes()).decode()}", ""
    else:
        relative = os.path.relpath(path.resolve(), output.resolve().parent)
        source = quote(Path(relative).as_posix())
        note = (
            f'<p class="soft">The video ({size / 1e6:.1f} MB) is too large to be part of this page, which '
            f"looks for it at {escape(relative)}: keep the two together.</p>"
        )
    return (
        f"<h3>{escape(scored.run.name)}</h3>"
        f'<video controls muted playsinline preload="metadata" src="{source}"></video>{note}'
    )


def training_section(runs: Sequence[ScoredRun]) -> str:
    """Losses, and figures on held-out scenes where training was validated, over steps."""
    numbers = {scored.run.name: number for number, scored in enumerate(runs)}
    panels = ""
    for group, metric, title in (
        ("train", "total", "loss"),
        ("train", "class", "classification loss"),
        ("train", "box", "box loss"),
        ("validation", "amota", "AMOTA on held-out scenes"),
        ("validation", "ids", "identity switches on held-out scenes"),
        ("train", "learning_rate", "learning rate"),
    ):
        lines = {scored.run.name: _logged(scored.run.log, group, metric) for scored in runs}
        if any(len(steps) > 1 for steps, _ in lines.values()):
            panels += line_chart(title, lines, numbers, "step")
    return legend([scored.run.name for scored in runs]) + f'<div class="panels">{panels}</div>'


def settings_section(runs: Sequence[ScoredRun]) -> str:
    """Settings side by side, and the whole recipes to unfold."""
    text = (
        "<p>As far as the runs\u2019 files tell; rows in which runs differ are marked.</p>"
        if len(runs) > 1
        else ""
    )
    text += settings_table({scored.run.name: settings_of(scored.run) for scored in runs})
    for scored in runs:
        if scored.run.recipe:
            recipe = escape(json.dumps(scored.run.recipe, indent=2))
            name = escape(scored.run.name)
            text += f"<details><summary>Recipe of {name}</summary><pre>{recipe}</pre></details>"
    return text


def _failure(failure: Failure) -> str:
    pictures = "".join(_picture(picture, failure.title) for picture in failure.pictures)
    return (
        f'<article><div class="pictures">{pictures}</div>'
        f"<h4>{escape(failure.title)}</h4><p>{escape(failure.text)}</p></article>"
    )


def _picture(picture: Picture, title: str) -> str:
    data = base64.b64encode(picture.jpeg).decode()
    alt = escape(f"{title}, {picture.caption}")
    return (
        f'<figure><img src="data:image/jpeg;base64,{data}" width="560" height="350" alt="{alt}">'
        f"<figcaption>{escape(picture.caption)}</figcaption></figure>"
    )


def _curve(columns: Mapping[str, Sequence[float]], metric: str) -> Line:
    recall, values = (
        np.array([_float(value) for value in columns.get(name, ())], np.float64)
        for name in ("recall_hypo", metric)
    )
    if len(recall) != len(values):
        return np.zeros(0), np.zeros(0)
    known = np.isfinite(recall) & np.isfinite(values)
    order = np.argsort(recall[known], kind="stable")
    return recall[known][order], values[known][order]


def _logged(log: Sequence[Json], group: str, metric: str) -> Line:
    rows = {
        int(entry["step"]): _float(entry[metric])
        for entry in log
        if entry["group"] == group and metric in entry
    }
    steps = sorted(step for step, value in rows.items() if np.isfinite(value))
    return np.array(steps, np.float64), np.array([rows[step] for step in steps], np.float64)


def _float(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
