"""Baseline and SynCL at ten times the budget of docs/evidence.md: python tools/evidence/series.py WORK

Worlds, encoder, detectors, then every pairing, strategy and seed: trained, tracked on scenes that chose
nothing, and scored, beside greedy association of the detector's own boxes. All in slices: a call works for
`--minutes`, then stops in good order with status 75; call it again until the status is 0. `results.jsonl` has
a line a run, and the end of the output paired differences.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

UNFINISHED = 75
_CHECKPOINT_S = 45.0  # A training that is asked to stop finishes its step and writes a checkpoint first.

ENCODER_PARTS = {
    "detr3d_synthetic_plain": ("detector.image_encoder", "detector.layers", "detector.class_branches"),
    "petr_synthetic_plain": ("detector.image_encoder", "detector.proposal_head"),
}

# Association of the detector's own boxes; the better one counts.
YARDSTICKS = ("greedy", "greedy-observed")


@dataclass(frozen=True)
class Pairing:
    """Recipes of a tracker and of the detector that it starts from."""

    tracker: str
    detector: str


PAIRINGS = {
    "mutr3d_detr3d": Pairing("mutr3d_detr3d_synthetic_plain", "detr3d_synthetic_plain"),
    "pf-track_petr": Pairing("pf-track_petr_synthetic_plain", "petr_synthetic_plain"),
}


@dataclass(frozen=True)
class Budget:
    """How much of everything; `full` is ten times what docs/evidence.md tells of."""

    train_scenes: int
    report_scenes: int
    keyframes: tuple[int, int]
    encoder_steps: int
    detector_steps: int
    tracker_steps: int
    seeds: tuple[int, ...]
    changes: tuple[str, ...] = ()
    version: str = "v1.0-trainval"
    splits: tuple[str, str] = ("train", "val")

    def of(self, world: Path, split: int) -> list[str]:
        """Options that name the training (0) or validation (1) split of a world."""
        return ["--data", str(world), "--version", self.version, "--split", self.splits[split]]


BUDGETS = {
    "full": Budget(700, 16, (20, 40), 12_000, 127_000, 30_000, (0, 1, 2)),
    "tiny": Budget(
        train_scenes=1,
        report_scenes=1,
        keyframes=(5, 5),
        encoder_steps=1,
        detector_steps=1,
        tracker_steps=2,
        seeds=(0,),
        changes=(
            "training.checkpoint_every=1",
            "training.data.batch_size=1",
            "model.input.image_size=[64,96]",
        ),
        version="v1.0-mini",
        splits=("mini_train", "mini_val"),
    ),
}


@dataclass(frozen=True)
class Job:
    """One command, and the file that is there when it is done."""

    done: Path
    command: tuple[str, ...]


def jobs(work: Path, budget: Budget) -> Iterator[Job]:
    """All there is to do, in order."""
    cores = str(os.cpu_count() or 1)
    worlds = {"train": (11, budget.train_scenes, 0), "report": (31, 0, budget.report_scenes)}
    for (name, (seed, train, validation)), keyframes in zip(worlds.items(), budget.keyframes, strict=True):
        world = work / name
        scenes = ("--train-scenes", str(train), "--val-scenes", str(validation))
        rest = ("--keyframes", str(keyframes), "--seed", str(seed), "--workers", cores)
        yield Job(world / "world.json", ("generate", str(world), *scenes, *rest))

    def training(name: str, recipe: str, start: str | None, steps: int, *changes: str) -> Job:
        run = work / "runs" / name
        command = ["train", recipe, *budget.of(work / "train", 0), "--output", str(run)]
        if start is not None:
            command += ["--init", str(work / "runs" / start / "model.safetensors")]
            command += ["--cache-features", str(work / "features")]
        if start == "encoder":
            command += ["--init-parts", *ENCODER_PARTS[recipe]]
        command += ["--set", f"training.steps={steps}", *changes, *budget.changes]
        return Job(run / "model.safetensors", tuple(command))

    yield training("encoder", "detr3d_synthetic", None, budget.encoder_steps, "training.data.batch_size=4")
    for name, pairing in PAIRINGS.items():
        detector = f"{name}_detector"
        yield training(detector, pairing.detector, "encoder", budget.detector_steps)
        for yardstick in YARDSTICKS:
            yield from _scored(work, budget, detector, yardstick)
        for seed in budget.seeds:
            for strategy in ("baseline", "syncl"):
                arm = f"{name}_{strategy}_seed{seed}"
                recipe = f"{pairing.tracker}_syncl" if strategy == "syncl" else pairing.tracker
                yield training(arm, recipe, detector, budget.tracker_steps, f"training.seed={seed}")
                yield from _scored(work, budget, arm, "model")


def _scored(work: Path, budget: Budget, run: str, tracker: str) -> Iterator[Job]:
    """A run's tracks on the reporting world, by the tracker it has or a yardstick, and their metrics."""
    folder, world = work / "runs" / run, budget.of(work / "report", 1)
    results, metrics = folder / f"results-{tracker}.json", folder / f"metrics-{tracker}.json"
    track = ("track", str(folder / "model.safetensors"), *world, "--output", str(results))
    yield Job(results, (*track, "--tracker", tracker))
    yield Job(metrics, ("evaluate", str(results), *world, "--output", str(metrics)))


def run(job: Job, deadline: float) -> bool:
    """Do a job, or as much of it as there is time for; whether it is done.

    Raises:
        subprocess.CalledProcessError: it failed.
    """
    resumes = job.command[0] == "train" and any(job.done.parent.glob("checkpoints/step_*"))
    command = [sys.executable, "-m", "syncl", *job.command]
    if job.command[0] != "evaluate":
        at = command.index("--set") if "--set" in command else len(command)
        command.insert(at, "--resume" if resumes else "--overwrite")
    print(" ".join(command[2:]), flush=True)
    process = subprocess.Popen(command)
    try:
        status = process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGTERM)
        process.wait()
        return job.done.exists()
    if status:
        raise subprocess.CalledProcessError(status, command)
    return True


def summary(work: Path, budget: Budget) -> None:
    """Write `results.jsonl` and print what the arms came to."""
    names = ("amota", "amotp", "recall", "mota", "ids", "fp", "fn")
    lines, found = [], {}
    for path in sorted((work / "runs").glob("*/metrics-*.json")):
        metrics = json.loads(path.read_text())
        run, tracker = path.parent.name, path.stem.removeprefix("metrics-")
        found[run, tracker] = metrics["amota"]
        line = {"run": run, "tracker": tracker, "synthetic": True, **{n: metrics[n] for n in names}}
        lines.append(json.dumps(line))
    (work / "results.jsonl").write_text("\n".join(lines) + "\n")
    for name in PAIRINGS:
        arms = {
            strategy: [found[f"{name}_{strategy}_seed{seed}", "model"] for seed in budget.seeds]
            for strategy in ("baseline", "syncl")
        }
        differences = [syncl - base for base, syncl in zip(arms["baseline"], arms["syncl"], strict=True)]
        greedy = max(found[f"{name}_detector", yardstick] for yardstick in YARDSTICKS)
        print(
            f"{name}: AMOTA greedy {greedy:.3f}, "
            + ", ".join(f"{strategy} {statistics.mean(values):.3f}" for strategy, values in arms.items())
            + f"; SynCL less baseline by seed {', '.join(f'{value:+.3f}' for value in differences)}"
        )


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("work", type=Path, help="where worlds and runs go")
    parser.add_argument("--minutes", type=float, default=9.0, help="how long this call may take")
    parser.add_argument("--budget", choices=BUDGETS, default="full")
    options = parser.parse_args()
    budget: Budget = BUDGETS[options.budget]
    deadline = time.monotonic() + 60 * options.minutes - (_CHECKPOINT_S if options.budget == "full" else 0)
    for job in jobs(options.work, budget):
        if job.done.exists():
            continue
        if time.monotonic() >= deadline or not run(job, deadline):
            print(f"unfinished: {job.done}; call again")
            return UNFINISHED
    summary(options.work, budget)
    return 0


if __name__ == "__main__":
    sys.exit(main())
