"""What `syncl report` shows of runs beside their metrics: errors of headings and pictures of failures."""

from collections.abc import Sequence
from functools import partial

from syncl.data.nuscenes.index import NuScenesIndex
from syncl.evaluation.headings import HeadingErrors, heading_errors
from syncl.geometry.poses import yaw_from_quaternion
from syncl.progress import progress_bar
from syncl.rendering.report.crops import Photographer
from syncl.rendering.report.gallery import Gallery, make_gallery
from syncl.rendering.report.scoring import ScoredRun


def run_headings(scored: Sequence[ScoredRun], index: NuScenesIndex) -> dict[str, HeadingErrors]:
    """Errors of headings against the ego vehicle's own, by name of the run."""
    row_of = {token.decode(): row for row, token in enumerate(index.columns.sample_tokens.tolist())}
    found = {}
    for run in scored:
        if run.outcomes is not None:
            rows = [row_of[token] for token in run.outcomes.samples.tokens]
            ego_yaw_rad = yaw_from_quaternion(index.columns.sample_poses[rows, 3:])
            found[run.run.name] = heading_errors(run.outcomes, ego_yaw_rad)
    return found


def run_galleries(scored: Sequence[ScoredRun], index: NuScenesIndex, failures: int) -> dict[str, Gallery]:
    """Pictures of the worst failures, so many of each kind, by name of the run."""
    galleries = {}
    for run in scored:
        if run.outcomes is not None:
            photographer = Photographer(index, run.outcomes, run.identities)
            progress = partial(progress_bar, description=f"pictures of {run.run.name}")
            galleries[run.run.name] = make_gallery(photographer, failures, progress)
    return galleries
