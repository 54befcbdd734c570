"""What `syncl report` does: read runs, score them, photograph their failures, write the page."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from syncl import __version__
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.errors import SynclError
from syncl.evaluation.arrays import Floats, Samples
from syncl.evaluation.headings import HeadingErrors, heading_errors
from syncl.files import refuse_to_overwrite
from syncl.geometry.poses import yaw_from_quaternion
from syncl.progress import progress_bar
from syncl.rendering.report.crops import Photographer
from syncl.rendering.report.gallery import Gallery, make_gallery
from syncl.rendering.report.page import PageNotes, write_report
from syncl.rendering.report.runs import read_runs
from syncl.rendering.report.scoring import ScoredRun, score_runs, without_data

MOST_FAILURES = 50


@dataclass(frozen=True)
class ReportPage:
    """A page that was written.

    Attributes:
        path: of the page.
        runs: names of the runs on it.
        size_bytes: of the file.
    """

    path: Path
    runs: tuple[str, ...]
    size_bytes: int


def make_report(
    texts: Sequence[str],
    output: Path,
    *,
    data: Path | None,
    version: str,
    split: str,
    scenes: tuple[str, ...],
    title: str,
    failures: int,
    embed_mb: float,
    overwrite: bool,
) -> ReportPage:
    """Make a report; see `syncl.commands.report.report` for the arguments.

    Raises:
        SynclError: before any work on bad input.
    """
    if output.suffix.lower() not in (".html", ".htm"):
        raise SynclError(f"output: {output}; a report is written as HTML, name it so")
    if not 0 <= failures <= MOST_FAILURES:
        raise SynclError(f"failures: {failures}; choose between 0 and {MOST_FAILURES} of each kind")
    if not embed_mb >= 0:
        raise SynclError(f"embed_mb: {embed_mb}; must not be negative")
    if scenes and data is None:
        raise SynclError("--scenes: needs --data, the data set they are scenes of")
    refuse_to_overwrite(output, overwrite)
    runs = read_runs(texts)
    galleries: dict[str, Gallery] = {}
    headings: dict[str, HeadingErrors] = {}
    if data is None:
        scored = [without_data(run) for run in runs]
        lead = "Metrics as they were on file; the data set was not at hand."
    else:
        index = open_nuscenes(data, version)
        shown = scenes or index.split_scenes(split)
        bar = progress_bar([run.name for run in runs], "evaluating")
        scored = score_runs(runs, data, version, split, scenes, lambda _: next(bar, None))
        next(bar, None)
        headings = {
            run.run.name: heading_errors(run.outcomes, _ego_yaw_rad(index, run.outcomes.samples))
            for run in scored
            if run.outcomes is not None
        }
        if failures:
            galleries = _galleries(scored, index, failures)
        many = f"{len(shown)} scene{'' if len(shown) == 1 else 's'}"
        lead = f"{many} of split {split} of {version} in {data.resolve().name}."
    remarks = []
    if (data is not None and (data / "world.json").is_file()) or any(
        run.record.get("synthetic") for run in runs
    ):
        remarks.append("The data is a synthetic world: these figures say nothing about nuScenes.")
    made_by = f"syncl {__version__} report, {time.strftime('%Y-%m-%d %H:%M')}"
    notes = PageNotes(title, lead, tuple(remarks), made_by)
    write_report(scored, output, notes, galleries, headings, embed_mb)
    return ReportPage(output, tuple(run.name for run in runs), output.stat().st_size)


def _ego_yaw_rad(index: NuScenesIndex, samples: Samples) -> Floats:
    """Heading [S] of the ego vehicle in each sample, global frame."""
    row_of = {token.decode(): row for row, token in enumerate(index.columns.sample_tokens.tolist())}
    rows = [row_of[token] for token in samples.tokens]
    return yaw_from_quaternion(index.columns.sample_poses[rows, 3:])


def _galleries(scored: Sequence[ScoredRun], index: NuScenesIndex, failures: int) -> dict[str, Gallery]:
    galleries = {}
    for run in scored:
        if run.outcomes is not None:
            photographer = Photographer(index, run.outcomes, run.identities)
            progress = partial(progress_bar, description=f"pictures of {run.run.name}")
            galleries[run.run.name] = make_gallery(photographer, failures, progress)
    return galleries
