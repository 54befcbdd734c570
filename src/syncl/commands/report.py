"""`syncl report`."""

from dataclasses import dataclass
from pathlib import Path

_MOST_FAILURES = 50


@dataclass(frozen=True)
class ReportPage:
    """A page that was written: the file, the names of the runs on it, and the file's size."""

    path: Path
    runs: tuple[str, ...]
    size_bytes: int


def report(
    runs: tuple[str, ...],
    /,
    *,
    output: Path,
    data: Path | None = None,
    version: str = "v1.0-mini",
    dataset: Path | None = None,
    split: str | None = None,
    scenes: tuple[str, ...] = (),
    title: str = "Tracking report",
    failures: int = 6,
    min_score: float | None = None,
    classes: tuple[str, ...] = (),
    embed_mb: float = 24.0,
    overwrite: bool = False,
) -> ReportPage:
    """Make one self-contained page of runs: metrics, curves, failures with pictures, video, settings.

    The page loads nothing from anywhere and reads well in light and dark, on paper and on a phone.

    Args:
        runs: [NAME=]PATH[,PATH...]: a run folder (results.json, metrics.json, details.json, recipe.json,
            log.jsonl, model.safetensors, notes.json, a video: whatever is there), or such files by
            themselves, for example results.json,metrics.json (docs/reports.md). With detections.json
            (syncl track --task detection), causes of failures tell detector and tracker apart.
        output: page (.html) to write.
        data: folder of the nuScenes-format dataset. With it, results are scored anew and the worst failures
            are shown with pictures; without it, metrics are those on file.
        version: nuScenes version folder inside data.
        dataset: file of classes, ranges and thresholds of your own (docs/own-data.md); default: dataset.yaml
            beside the tables, where there is one.
        split: which scenes were tracked (default: the version's own validation split).
        scenes: names of some of its scenes, where results cover a part of the split only.
        title: heading of the page.
        failures: how many of each kind are shown of each run; 0 shows none.
        min_score: for failures and their causes, least mean score of the tracks that count. Without it, each
            class is taken at its score of best MOTA, as in the official counts.
        classes: show failures of these only, such as car pedestrian; all if none is named.
        embed_mb: a larger video (megabytes) is not put into the page, which then looks for it beside itself.
        overwrite: replace an existing page.

    Returns:
        Path and size of the page, and the names of its runs.
    """
    import sys
    import time

    from syncl import __version__
    from syncl.classes import check_classes, check_min_score
    from syncl.data.nuscenes.index import open_nuscenes
    from syncl.data.nuscenes.splits import own_split
    from syncl.errors import SynclError
    from syncl.evaluation.headings import HeadingErrors
    from syncl.files import check_output
    from syncl.progress import progress_bar
    from syncl.rendering.report.gallery import Gallery
    from syncl.rendering.report.page import PageNotes, write_report
    from syncl.rendering.report.run_files import read_runs
    from syncl.rendering.report.scoring import run_galleries, run_headings, score_runs, without_data

    if output.suffix.lower() not in (".html", ".htm"):
        raise SynclError(f"output: {output}; a report is written as HTML, name it so")
    if not 0 <= failures <= _MOST_FAILURES:
        raise SynclError(f"failures: {failures}; choose between 0 and {_MOST_FAILURES} of each kind")
    if not embed_mb >= 0:
        raise SynclError(f"embed_mb: {embed_mb}; must not be negative")
    check_min_score(min_score)
    if (min_score is not None or classes) and data is None:
        raise SynclError("--min-score, --classes: choose failures, which need --data")
    of_data = {"version": version != "v1.0-mini", "dataset": dataset, "split": split, "scenes": scenes}
    if data is None and (named := [f"--{name}" for name, value in of_data.items() if value]):
        raise SynclError(f"{', '.join(named)}: without --data, the data set that is scored, would do nothing")
    check_output(output, overwrite)
    found = read_runs(runs)
    galleries: dict[str, Gallery] = {}
    headings: dict[str, HeadingErrors] = {}
    if data is None:
        scored = [without_data(run) for run in found]
        lead = "Metrics as they were on file; the data set was not at hand."
    else:
        index = open_nuscenes(data, version, dataset=dataset)
        check_classes(classes, index.dataset.tracked)
        split = split or own_split(version, data)
        shown = index.choose_scenes(split, scenes)
        bar = progress_bar([run.name for run in found], "evaluating")
        scored = score_runs(
            found, data, version, split, scenes, lambda _: next(bar, None), min_score, index.dataset
        )
        next(bar, None)
        headings = run_headings(scored, index)
        if failures:
            galleries = run_galleries(scored, index, failures, classes)
        many = f"{len(shown)} scene{'' if len(shown) == 1 else 's'}"
        lead = f"{many} of split {split} of {version} in {data.resolve().name}."
        lead += f" Failures of {', '.join(classes)} are shown." if classes else ""
        lead += "" if min_score is None else f" Tracks of a mean score of {min_score:g} on count in failures."
    remarks: tuple[str, ...] = ()
    if (data is not None and (data / "world.json").is_file()) or any(
        run.record.get("synthetic") for run in found
    ):
        remarks = ("The data is a synthetic world: these figures say nothing about nuScenes.",)
    made_by = f"syncl {__version__} report, {time.strftime('%Y-%m-%d %H:%M')}"
    notes = PageNotes(title, lead, remarks, made_by)
    write_report(scored, output, notes, galleries, headings, embed_mb)
    page = ReportPage(output, tuple(run.name for run in found), output.stat().st_size)
    count = len(page.runs)
    sys.stdout.write(f"{output}: {count} run{'' if count == 1 else 's'}, {page.size_bytes / 1e6:.1f} MB\n")
    return page
