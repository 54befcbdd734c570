"""One page that needs nothing else: style, charts, pictures and (unless too large) videos are inside."""

import importlib.resources
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from syncl.evaluation.headings import HeadingErrors
from syncl.files import atomic_write
from syncl.rendering.report.gallery import Gallery
from syncl.rendering.report.scoring import ScoredRun
from syncl.rendering.report.sections import (
    cards,
    causes_section,
    classes_section,
    curves_section,
    failures_section,
    headings_section,
    metrics_section,
    settings_section,
    training_section,
    video_section,
)

# Nothing may be loaded from elsewhere; a page that would is broken rather than unsafe.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:; media-src data: file: 'self'"

_MARKS = (
    "White corners: the box in question. Thin white boxes: annotated objects that were found. Coloured "
    "boxes: tracks, a colour an identity. Red boxes: missed objects. Red crosses: false positives. Tracks "
    "count whose mean score reaches {counted}; they are right if the official matching (same class, centres "
    "less than {reach_m:g} m apart) gives them an object."
)


@dataclass(frozen=True)
class PageNotes:
    """What a page says of itself.

    Attributes:
        title: heading.
        lead: the sentence below it: data set, split, scenes.
        remarks: what a reader has to know before the figures.
        made_by: program and moment, for the foot of the page.
    """

    title: str
    lead: str
    remarks: tuple[str, ...]
    made_by: str


def write_report(
    runs: Sequence[ScoredRun],
    output: Path,
    notes: PageNotes,
    galleries: Mapping[str, Gallery],
    headings: Mapping[str, HeadingErrors],
    embed_mb: float = 24.0,
) -> None:
    """Write a report.

    Args:
        runs: at least one.
        output: the .html file; it appears only when complete.
        notes: what the page says of itself.
        galleries: run -> its failures, for the runs that have pictures.
        headings: run -> its heading errors, for the runs that have results.
        embed_mb: larger videos (megabytes) are not put into the page, which then looks for them beside it.
    """
    parts = [("metrics", "Metrics", metrics_section(runs))]
    parts.append(("curves", "Curves", curves_section(runs)))
    parts.append(("classes", "Classes", classes_section(runs)))
    if headings:
        parts.append(("headings", "Headings of vehicles", headings_section(runs, headings)))
    parts.append(("causes", "Causes", causes_section(runs)))
    parts.append(("failures", "Failures", _failures(runs, galleries)))
    filmed = [scored for scored in runs if "video" in scored.run.files]
    if filmed:
        videos = "".join(video_section(scored, output, embed_mb * 1e6) for scored in filmed)
        parts.append(("video", "Video", videos))
    if any(scored.run.log for scored in runs):
        parts.append(("training", "Training", training_section(runs)))
    parts.append(("settings", "Settings", settings_section(runs)))
    links = "".join(f'<li><a href="#{name}">{title}</a></li>' for name, title, _ in parts)
    remarks = "".join(
        f'<p class="remark">{escape(remark)}</p>' for remark in (*notes.remarks, *_remarks(runs))
    )
    style = importlib.resources.files("syncl.rendering.report").joinpath("page.css").read_text()
    body = "\n".join(f'<section id="{name}"><h2>{title}</h2>{text}</section>' for name, title, text in parts)
    page = f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{_POLICY}">
<link rel="icon" href="data:,">
<title>{escape(notes.title)}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{escape(notes.title)}</h1>
<p class="lead">{escape(notes.lead)}</p>
{remarks}
<nav aria-label="sections"><ul>{links}</ul></nav>
</header>
<main>
{cards(runs)}
{body}
</main>
<footer>{escape(notes.made_by)}</footer>
</body>
</html>
"""
    atomic_write(output, page.encode())


def _failures(runs: Sequence[ScoredRun], galleries: Mapping[str, Gallery]) -> str:
    if not galleries:
        return (
            "<p>No pictures: failures are found by comparing results.json with the data set, which this "
            "report was made without (syncl report --data), or were not asked for.</p>"
        )
    (first, *_) = (scored for scored in runs if scored.run.name in galleries)
    marks = _MARKS.format(counted=first.counted, reach_m=first.reach_m)
    text = f'<p class="soft">{marks}</p>'
    for scored in runs:
        if scored.run.name in galleries:
            text += failures_section(scored.run.name, galleries[scored.run.name])
        else:
            text += f"<h3>{escape(scored.run.name)}</h3><p>No pictures: the run has no results.json.</p>"
    return text


def _remarks(runs: Sequence[ScoredRun]) -> list[str]:
    """What makes figures doubtful."""
    remarks = [f"{scored.run.name}: {remark}." for scored in runs for remark in scored.remarks]
    counts = {
        tuple(sorted(objects.items()))
        for scored in runs
        if (objects := scored.metrics["label_metrics"].get("gt"))
        and all(value is not None for value in objects.values())
    }
    comparable = {tuple((name, value) for name, value in entry if value == value) for entry in counts}
    if len({scored.reach_m for scored in runs}) > 1:
        remarks.insert(
            0, "These runs were evaluated by different distances: their figures cannot be compared."
        )
    if len(comparable) > 1:
        remarks.insert(
            0,
            "These runs were evaluated on different annotations (their numbers of objects differ): their "
            "figures cannot be compared.",
        )
    return remarks
