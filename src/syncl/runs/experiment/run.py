"""Running a plan of paired trainings: what is done is skipped, what was stopped goes on."""

import hashlib
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import orjson

from syncl.data.dataset_file import find_description
from syncl.data.dataset_sources import find_source
from syncl.data.nuscenes.index import open_nuscenes, open_scene_columns
from syncl.errors import SynclError
from syncl.files import atomic_write, parse_json
from syncl.interrupts import Interrupted, StopRequest, finishing_first, name_of
from syncl.progress import plain_console, progress_bar
from syncl.recipes.recipe import recipe_to_json
from syncl.runs.experiment.child_commands import Commands
from syncl.runs.experiment.plan import Arm, Plan
from syncl.runs.experiment.run_records import read_records, record_path, table_path
from syncl.runs.provenance import commit, hardware
from syncl.runs.track.parts import finished_scenes
from syncl.training.resuming import checkpoint_folders
from syncl.wording import counted

# Seconds between looks for a signal.
_OFTEN_S = 0.2


def run_plan(plan: Plan, data: Path, output: Path, jobs: int, dataset: Path | None = None) -> None:
    """Run what is not done yet, `jobs` runs at a time.

    Args:
        plan: read with `data`.
        data: folder of the dataset.
        output: of the experiment.
        jobs: how many runs at a time.
        dataset: file of classes and measures of one's own; None = the data's.

    Raises:
        SynclError: before any work, if a result is there that was made with other settings; afterwards,
            naming the runs that failed, with all others done.
        Interrupted: asked to stop; trainings under way have written a checkpoint.
    """
    if jobs < 1:
        raise SynclError(f"--jobs {jobs}: must be at least 1")
    pending = []
    records = read_records(output)
    for arm, seed in plan.runs:
        digest = run_digest(plan, arm, seed, data, dataset)
        done = records.get((arm.name, seed))
        if done is None:
            pending.append((arm, seed, digest))
        elif done["digest"] != digest:
            raise SynclError(
                f"{output}: {arm.name}, seed {seed}: made with other settings or data than the plan has now; "
                f"choose another --output, or, to make it anew, remove {_folder(output, arm, seed)}, "
                f"{record_path(output, arm.name, seed)} and its line in {table_path(output)}"
            )
    total = len(plan.runs)
    console = plain_console(stderr=True)
    console.print(f"{plan.name}: {counted(total, 'run')}, {total - len(pending)} done already")
    failures: list[str] = []
    commands, source = Commands(), Source(data, dataset)
    try:
        with finishing_first() as asked, ThreadPoolExecutor(jobs) as pool, commands:
            futures = [
                (arm, seed, pool.submit(_run, plan, arm, seed, digest, source, output, commands))
                for arm, seed, digest in pending
            ]
            for arm, seed, future in progress_bar(futures, plan.name, total=len(futures)):
                try:
                    amota = _awaited(future, asked)
                    console.print(f"{arm.name} seed {seed}: AMOTA {amota:.3f}")
                except SynclError as error:
                    failures.append(f"{arm.name} seed {seed}: {error}")
                    console.print(f"failed: {failures[-1]}")
    except Interrupted as error:
        stopped = f"{output}: stopped by {name_of(error.signal)}; the same command goes on where it was"
        raise Interrupted(error.signal, stopped) from None
    if failures:
        raise SynclError(
            f"{len(failures)} of {counted(len(pending), 'run')} failed; the first: {failures[0]}. The same "
            "command tries them again, with --report-only it reports what is there"
        )


def run_digest(plan: Plan, arm: Arm, seed: int, data: Path, dataset: Path | None = None) -> str:
    """What a run's outcome depends on, as a hash: recipe, start, data and evaluation."""
    start = "" if arm.init is None else hashlib.sha256(arm.init.read_bytes()).hexdigest()
    worlds = _world(data, plan.version, dataset, "--data a folder")
    if plan.evaluation_data is not None:
        worlds += _world(plan.evaluation_data, plan.version, dataset, "the plan's evaluation_data")
    recipe = recipe_to_json(plan.resolved(arm, seed))
    asked = [recipe, start, worlds[0], plan.version, plan.train_split, plan.split, plan.scenes, *worlds[1:]]
    return hashlib.sha256(orjson.dumps(asked)).hexdigest()


def _world(data: Path, version: str, dataset: Path | None, words: str) -> list[str]:
    """Hashes of a dataset's moments, and of its classes and measures where they are one's own."""
    if find_source(data, version) is None:
        samples = data / version / "sample.json"
        if not samples.is_file():
            raise SynclError(f"{samples}: no such file; is {words} in the nuScenes format?")
        moments, description = samples.read_bytes(), find_description(data, version, dataset)
    else:
        columns, description = open_scene_columns(data, version, dataset=dataset)
        moments = np.ascontiguousarray(columns.sample_tokens).tobytes()
    parts = [moments] if description.official else [moments, orjson.dumps(description)]
    return [hashlib.sha256(part).hexdigest() for part in parts]


@dataclass(frozen=True)
class Source:
    """Where a series' data are, and the file that describes their classes, if any does."""

    data: Path
    dataset: Path | None = None

    def options(self, version: str, split: str | None, elsewhere: Path | None = None) -> list[str]:
        """The options by which commands take them, or other data of their kind."""
        options = ["--data", str(elsewhere or self.data), "--version", version]
        options += [] if split is None else ["--split", split]
        return options + ([] if self.dataset is None else ["--dataset", str(self.dataset)])


def _run(
    plan: Plan, arm: Arm, seed: int, digest: str, source: Source, output: Path, commands: Commands
) -> float:
    """Train, track and evaluate; returns AMOTA."""
    run = _folder(output, arm, seed)
    train = ["train", arm.recipe, *source.options(plan.version, plan.train_split), "--output", str(run)]
    if arm.strategy is not None:
        train += ["--strategy", arm.strategy]
    resumes = bool(checkpoint_folders(run))
    train += ["--resume"] if resumes else ["--overwrite"]
    if arm.init is not None:
        train += ["--init", str(arm.init)]
    if plan.features is not None:
        train += ["--cache-features", str(plan.features)]
    train += ["--threads", "1", "--set", f"training.seed={seed}", *plan.changes, *arm.changes]
    training = commands.run(train, run / "train.txt")

    held_out = source.options(plan.version, plan.split, plan.evaluation_data)
    results, metrics = run / "results.json", run / "metrics.json"
    scenes, frames = _scenes(plan, source)
    chosen = ("--scenes", *scenes) if plan.scenes else ()
    begun = finished_scenes(results) > 0
    track = ["track", str(run / "model.safetensors"), *held_out, "--output", str(results)]
    tracking = commands.run([*track, "--overwrite", "--resume", "--threads", "1", *chosen], run / "track.txt")
    evaluate = ["evaluate", str(results), *held_out, "--output", str(metrics), "--overwrite"]
    commands.run([*evaluate, *chosen], run / "evaluate.txt")
    steps = plan.resolved(arm, seed).training.steps
    scores = cast(dict[str, float], parse_json(metrics, nan=True))
    record = {
        "experiment": plan.name,
        "arm": arm.name,
        "seed": seed,
        "digest": digest,
        "synthetic": (source.data / "world.json").is_file(),
        "metrics": scores,
        "training": {**training.__dict__, "steps": steps, "resumed": resumes},
        "tracking": {**tracking.__dict__, "frames": frames, "resumed": begun},
        # As it was run: data with classes of their own change the model's.
        "recipe": parse_json(run / "recipe.json"),
        "commit": commit(),
        "hardware": hardware(),
        "finished": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }
    atomic_write(record_path(output, arm.name, seed), orjson.dumps(record, option=orjson.OPT_INDENT_2))
    return float(scores["amota"])


def _awaited(future: Future[float], asked: StopRequest) -> float:
    """A run's result, once it is there.

    Signals are noted, and obeyed between waits: raised in the midst of one, they may leave the future locked,
    and the thread that runs it waits for ever.

    Raises:
        Interrupted: asked to stop.
        SynclError: the run's own.
    """
    while not (wait([future], _OFTEN_S).done or asked.signal):
        pass
    if asked.signal:
        raise Interrupted(asked.signal)
    return future.result()


def _folder(output: Path, arm: Arm, seed: int) -> Path:
    return output / "runs" / f"{arm.name}_seed{seed}"


def _scenes(plan: Plan, source: Source) -> tuple[tuple[str, ...], int]:
    """The scenes that are evaluated and how many frames they have."""
    index = open_nuscenes(plan.evaluation_data or source.data, plan.version, dataset=source.dataset)
    scenes = index.split_scenes(plan.split)[: plan.scenes or None]
    return scenes, sum(len(index.scene_samples(scene)) for scene in scenes)
