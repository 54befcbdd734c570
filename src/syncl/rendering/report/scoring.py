"""Runs with their figures: those on file, or computed from results where the data set is at hand."""

import dataclasses
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.splits import OFFICIAL_SPLITS
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError
from syncl.evaluation import (
    CauseTable,
    GroundTruth,
    find_causes,
    read_ground_truth,
    read_results,
    tracking_metrics,
)
from syncl.evaluation.constants import tracking_config
from syncl.evaluation.headings import HeadingErrors, heading_errors
from syncl.evaluation.outcomes import Outcomes, track_outcomes
from syncl.evaluation.result_arrays import read_detections
from syncl.geometry.poses import yaw_from_quaternion
from syncl.progress import progress_bar
from syncl.rendering.report.crops import Photographer
from syncl.rendering.report.gallery import Gallery, make_gallery
from syncl.rendering.report.run_files import Json, Run

_AGREE = 1e-6
# What of a summary's configuration changes its figures.
_PROTOCOL = ("class_range", "dist_th_tp", "min_recall")


@dataclass(frozen=True)
class ScoredRun:
    """A run and what its results are worth.

    Attributes:
        run: the run; its metrics and details are filled in where they could be computed.
        outcomes: what became of every box; None without the data set or without results.
        identities: the tracking ids that `outcomes.found.identity` numbers.
        thresholds: class -> score threshold at which failures are looked at.
        causes: why boxes were missed, false and switched; None where outcomes are.
        min_score: least mean score of the tracks that count in them; None = each class's of best MOTA.
        remarks: what a reader has to know.
    """

    run: Run
    outcomes: Outcomes | None = None
    identities: tuple[str, ...] = ()
    thresholds: dict[str, float] = dataclasses.field(default_factory=dict)
    causes: CauseTable | None = None
    min_score: float | None = None
    remarks: tuple[str, ...] = ()

    @property
    def metrics(self) -> Json:
        """The official summary."""
        assert self.run.metrics is not None
        return self.run.metrics

    @property
    def official(self) -> bool:
        """Whether classes, ranges and thresholds are those of the official protocol, as the summary says."""
        ours = self.metrics.get("cfg") or tracking_config(NUSCENES)
        return all(ours.get(name) == tracking_config(NUSCENES)[name] for name in _PROTOCOL)

    @property
    def reach_m(self) -> float:
        """Below which distance of centres a track can hold an object."""
        config: Json = self.metrics.get("cfg") or {}
        return float(config.get("dist_th_tp", NUSCENES.measures.track_distance_m))

    @property
    def counted(self) -> str:
        """Which score tracks reach that count in failures."""
        return "the class's score of best MOTA" if self.min_score is None else f"{self.min_score:g}"


def without_data(run: Run) -> ScoredRun:
    """A run as its files tell it.

    Raises:
        SynclError: if it has no metrics.
    """
    if run.metrics is None:
        raise SynclError(
            f"{run.name}: has results and no metrics; pass --data (with --version and --split) to compute "
            "them, or write them with syncl evaluate --output"
        )
    return ScoredRun(run)


def score_runs(
    runs: Sequence[Run],
    data: Path,
    version: str,
    split: str,
    scenes: Collection[str] = (),
    progress: Callable[[str], object] = lambda _: None,
    min_score: float | None = None,
    dataset: DatasetDescription | Path | None = None,
) -> list[ScoredRun]:
    """Score the results of runs; those without results stay as their files tell them.

    Args:
        runs: the runs.
        data: folder of the nuScenes-format data set.
        version: its version folder.
        split: the split that was tracked.
        scenes: names of the scenes to look at, where results cover a part of the split only.
        progress: called with the name of each run as it begins.
        min_score: least mean score of the tracks that count in failures; None = each class's of best MOTA.
        dataset: file of classes and measures; see `evaluate_tracking`.

    Raises:
        SynclError: if tables or results cannot be used, or metrics on file are of other results.
    """
    truth = read_ground_truth(data, version, split, scenes or None, velocities=False, dataset=dataset)
    scored = []
    for run in runs:
        progress(run.name)
        if "results" in run.files:
            custom = split not in OFFICIAL_SPLITS or bool(scenes)
            scored.append(_score(run, run.files["results"], truth, custom, min_score))
        else:
            scored.append(without_data(run))
    return scored


def _score(run: Run, results: Path, truth: GroundTruth, custom: bool, min_score: float | None) -> ScoredRun:
    read = read_results(results, truth.samples, "tracking", truth.dataset, allow_other_samples=custom)
    metrics = tracking_metrics(read.boxes, truth)
    filed = None if run.metrics is None else run.metrics.get("amota")
    if isinstance(filed, float) and abs(filed - metrics.amota) > _AGREE:
        raise SynclError(
            f"{run.name}: the metrics on file say AMOTA {filed:.6f}, its results give {metrics.amota:.6f} "
            f"here; they are of other results, scenes or another split. Name the scenes with --scenes, or "
            f"evaluate {results} again"
        )
    thresholds = {
        name: curve.operating_threshold if min_score is None else min_score
        for name, curve in metrics.curves.items()
    }
    detections = None
    if "detections" in run.files:
        detections = read_detections(run.files["detections"], truth.samples, truth.dataset, custom)
    return ScoredRun(
        run=dataclasses.replace(run, metrics=metrics.summary(), details=metrics.details()),
        outcomes=track_outcomes(read.boxes, truth, thresholds),
        identities=read.identities,
        thresholds=thresholds,
        causes=find_causes(read.boxes, truth, thresholds, detections),
        min_score=min_score,
        remarks=read.remarks,
    )


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


def run_galleries(
    scored: Sequence[ScoredRun], index: NuScenesIndex, failures: int, classes: Collection[str] = ()
) -> dict[str, Gallery]:
    """Pictures of the worst failures (of the classes that are named), so many a kind, by name of the run."""
    galleries = {}
    for run in scored:
        if run.outcomes is not None:
            photographer = Photographer(index, run.outcomes, run.identities)
            progress = partial(progress_bar, description=f"pictures of {run.run.name}")
            galleries[run.run.name] = make_gallery(photographer, failures, progress, classes)
    return galleries
