"""`syncl experiment`."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.runs.experiment.summary import ExperimentSummary


def experiment(
    plan: Path,
    /,
    *,
    data: Path,
    output: Path,
    dataset: Path | None = None,
    jobs: int = 1,
    report_only: bool = False,
) -> "ExperimentSummary":
    """Run a plan of paired trainings (recipe, strategy, seed) under one budget and compare them.

    What is done is skipped, what was stopped goes on from its last checkpoint: start it again after a kill.
    Stopped or killed, it takes the training under way with it, after a checkpoint, and starts no other.
    Metrics go to OUTPUT/results/ARM_seedN.json with the run's exact recipe, seed, commit, hardware, time
    and memory; OUTPUT/results.jsonl is the table of them all, which can stand for the files. report.md and
    report.png compare the arms with the plan's reference, seed by seed.

    Args:
        plan: JSON file; `syncl.runs.experiment.plan` says what is in it.
        data: folder of a nuScenes-format dataset.
        output: folder of the experiment: runs, results, report.
        dataset: file of classes, ranges and thresholds of your own (docs/own-data.md); default: dataset.yaml
            beside the tables, where there is one.
        jobs: runs at the same time.
        report_only: write the report of what is there and train nothing.

    Returns:
        The results of all runs, by arm and seed, and where the report is.
    """
    from syncl.files import check_output
    from syncl.locks import only_one
    from syncl.progress import plain_console
    from syncl.runs.experiment.plan import read_plan
    from syncl.runs.experiment.run import run_plan
    from syncl.runs.experiment.summary import write_summary

    settings = read_plan(plan, to_run=not report_only, data=data)
    check_output(output, True, "folder")
    with only_one(output):
        if not report_only:
            run_plan(settings, data, output, jobs, dataset)
        summary = write_summary(settings, output)
    console = plain_console()
    for path in (summary.table, summary.report, summary.picture):
        console.print(f"wrote {path}")
    return summary
