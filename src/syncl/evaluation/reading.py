"""What an evaluation reads: annotations and results, telling a progress bar how far it has come."""

import warnings
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

from syncl.data.nuscenes.splits import OFFICIAL_SPLITS
from syncl.data.own_results import as_json
from syncl.dataset_description import DatasetDescription
from syncl.evaluation.arrays import GroundTruth
from syncl.evaluation.constants import Task
from syncl.evaluation.ground_truth import read_ground_truth
from syncl.evaluation.result_arrays import Results, read_results

Progress = Callable[[str], None]
"""Called with the name of each step as it begins: `STEPS`, then every class."""

STEPS = ("annotations", "results")


def no_progress(step: str) -> None:
    """Shows nothing."""
    del step


def read_evaluated(
    task: Task,
    results: Path,
    dataroot: Path,
    version: str,
    split: str,
    scenes: Collection[str] | None = None,
    progress: Progress = no_progress,
    dataset: DatasetDescription | Path | None = None,
) -> tuple[Results, GroundTruth]:
    """Results and what they are compared with; see `evaluate_tracking` for the arguments.

    Raises:
        SynclError: if tables or results cannot be used; it names file, sample and field.

    Warns:
        UserWarning: once for each kind of oddity in the results that is accepted, with its count.
    """
    progress(STEPS[0])
    truth = read_ground_truth(
        dataroot, version, split, scenes, velocities=task == "detection", dataset=dataset
    )
    progress(STEPS[1])
    partial = split not in OFFICIAL_SPLITS or scenes is not None
    with as_json(results, dataroot, split, truth.dataset) as readable:
        read = read_results(readable, truth.samples, task, truth.dataset, allow_other_samples=partial)
    read = replace(read, remarks=(*truth.remarks, *read.remarks))
    for remark in read.remarks:
        warnings.warn(f"{results}: {remark}", stacklevel=3)
    return read, truth
