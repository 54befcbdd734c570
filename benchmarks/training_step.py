"""Frames a CPU second of training the small recipes, and the ratio against another source tree.

    python benchmarks/training_step.py                              # two recipes, with and without SynCL
    python benchmarks/training_step.py --against ../before/src      # paired with the sources of `before`
    python benchmarks/training_step.py pf-track_petr_synthetic --against ../before/src --pairs 10 --images
    python benchmarks/training_step.py --against src --compile      # compiled, against the same as it is

Each tree trains in a process of its own, on one thread, and the processes take turns at a few steps each, so
that other load on the machine disturbs both alike; ratios are medians of pairs that follow each other. A step
is everything of a step of `syncl train`: reading, losses, gradients, optimiser, average of weights. Times are
CPU seconds of the process. The image encoder is frozen and its features come from disk, unless `--images`
reads images and trains it. Every query that holds an object is carried on (`carry_score` 0), since fresh
weights' scores would carry none.

`--compile` compiles what `syncl train --compile` does, in this tree alone, before anything is timed: at
least eight steps of warming up, in which numbers of tracks change.

`--profile` prints where the time goes instead. `--losses` prints the losses of the first steps in float32 of
both trees, which must agree.
"""

import argparse
import importlib.util
import inspect
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

RECIPES = ("mutr3d_detr3d_synthetic", "pf-track_petr_synthetic")
OWN_SOURCES = Path(__file__).resolve().parents[1] / "src"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("recipes", nargs="*", default=list(RECIPES), help="names of recipes")
    parser.add_argument("--against", type=Path, help="`src` folder of another version")
    parser.add_argument("--strategies", nargs="+", default=["baseline", "syncl"])
    parser.add_argument("--batch", type=int, default=8, help="clips a step")
    parser.add_argument("--steps", type=int, default=2, help="steps a turn")
    parser.add_argument("--pairs", type=int, default=6, help="turns of each process")
    parser.add_argument("--warm-up", type=int, default=2, help="steps of each process before the first turn")
    parser.add_argument("--images", action="store_true", help="train the image encoder too")
    parser.add_argument("--compile", action="store_true", help="compile this tree's parts")
    parser.add_argument("--profile", action="store_true", help="operators by their own CPU time")
    parser.add_argument("--losses", action="store_true", help="losses of the first steps in float32")
    parser.add_argument("--world", type=Path, help="a v1.0-mini data root; one is generated where it is not")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work(arguments.recipes[0], arguments.strategies[0], arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        world = arguments.world or Path(folder) / "world"
        if not world.exists():
            generate(world)
        for recipe in arguments.recipes:
            for strategy in arguments.strategies:
                compare(recipe, strategy, world, Path(folder), arguments)


def generate(world: Path) -> None:
    """Eight scenes of ten key frames."""
    from syncl.data.synthetic.generation import generate_world
    from syncl.data.synthetic.world import WorldConfig

    generate_world(world, WorldConfig(train_scenes=8, val_scenes=1, keyframes=10))


def compare(recipe: str, strategy: str, world: Path, folder: Path, arguments: argparse.Namespace) -> None:
    """Let one process a tree take turns, and print a line."""
    trees = [OWN_SOURCES] if arguments.against is None else [arguments.against.resolve(), OWN_SOURCES]
    label = f"{recipe} {strategy} {'images' if arguments.images else 'features'}"
    sides = [
        Side(tree, recipe, strategy, world, folder, arguments, arguments.compile and number == len(trees) - 1)
        for number, tree in enumerate(trees)
    ]
    if arguments.losses:
        found = [side.turn() for side in sides]
        same = all(one["losses"] == found[0]["losses"] for one in found)
        print(
            f"{label:<52}{'the same' if same else 'DIFFERENT'}: {[one['losses'] for one in found]}",
            flush=True,
        )
    elif not arguments.profile:
        turns: list[list[float]] = [[] for _ in sides]
        for pair in range(arguments.pairs):
            for number in sorted(range(len(sides)), reverse=bool(pair % 2)):
                turns[number].append(sides[number].turn()["frames_per_s"])
        medians = [statistics.median(side) for side in turns]
        line = f"{label:<52}{medians[-1]:>7.1f} frames a CPU s"
        if len(sides) > 1:
            ratios = [new / old for old, new in zip(*turns)]
            line += f"   before {medians[0]:>6.1f}   ratio {statistics.median(ratios):.2f}"
            line += f" ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} pairs)"
        print(line, flush=True)
    for side in sides:
        side.close()


class Side:
    """A process that trains with the package of one tree."""

    def __init__(
        self,
        tree: Path,
        recipe: str,
        strategy: str,
        world: Path,
        folder: Path,
        arguments: argparse.Namespace,
        compiled: bool = False,
    ) -> None:
        given = ["--compile"] if compiled else []
        given += [recipe, "--strategies", strategy, "--work", str(folder / f"features-{tree.parent.name}")]
        given += ["--world", str(world), "--batch", str(arguments.batch), "--steps", str(arguments.steps)]
        given += ["--warm-up", str(max(arguments.warm_up, 8) if compiled else arguments.warm_up)]
        given += [f"--{name}" for name in ("images", "profile", "losses") if getattr(arguments, name)]
        self._process = subprocess.Popen(
            [sys.executable, __file__, *given],
            env={**os.environ, "PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"},
            stdin=subprocess.PIPE,
            stdout=None if arguments.profile else subprocess.PIPE,
            text=True,
        )
        if not arguments.profile:
            self._read()

    def turn(self) -> dict[str, float]:
        """A few steps."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise SystemExit("a training process ended; its message is above")
        found: dict[str, float] = json.loads(line)
        return found

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def work(name: str, strategy: str, arguments: argparse.Namespace) -> None:
    """Train, a few steps for every line read."""
    if importlib.util.find_spec("syncl.allocation"):  # What the command itself does, where a tree has it.
        from syncl.allocation import keep_freed_memory

        keep_freed_memory()
    import torch

    from syncl.data.nuscenes.index import open_nuscenes
    from syncl.training.loop import clips, make_accelerator
    from syncl.training.optimiser import WeightAverage, build_optimiser
    from syncl.training.unroll import ClipTraining

    carry_score = "model.tracker.noise.carry_score"
    try:
        from syncl.recipes.resolving import resolve_recipe
        from syncl.runs.train.clips import training_clips
        from syncl.runs.train.feature_cache import cached_features
    except ModuleNotFoundError:  # Trees from before 27 November have all of this elsewhere.
        from syncl.commands.feature_cache import cached_features
        from syncl.commands.training_run import resolve_recipe, training_clips

        carry_score = "model.tracker.carry_score"

    torch.set_num_threads(1)
    changes = [f"training.data.batch_size={arguments.batch}", f"{carry_score}=0"]
    if not arguments.images:
        changes.append("training.data.augmentation=null")
    if arguments.losses:
        changes.append("training.precision=fp32")
    recipe = resolve_recipe(name, strategy, not arguments.images, tuple(changes))
    training = recipe.training
    index = open_nuscenes(arguments.world, "v1.0-mini", vehicle_frame=recipe.model.input.vehicle_frame)
    scenes = index.split_scenes("mini_train")
    accelerator = make_accelerator(training)
    torch.manual_seed(0)
    tracker = recipe.model.build()
    features = None
    if not arguments.images:
        features = cached_features(Path(arguments.work), recipe, index, scenes, tracker, accelerator)
    # Those trees asked the recipe how far the tracker looks ahead.
    given = (index, scenes, recipe, features, getattr(tracker, "future_frames", 0))
    dataset = training_clips(*given[: len(inspect.signature(training_clips).parameters)])
    torch.manual_seed(0)
    module = ClipTraining(tracker, training.strategy.build(tracker.detector.dim), training.unroll)
    optimiser = build_optimiser(module, training.optimiser)
    if arguments.compile:
        from syncl.trackers.compiling import compile_parts

        compile_parts(tracker.detector, accelerator.device)
    wrapped, optimiser = accelerator.prepare(module, optimiser)
    average = WeightAverage(tracker, training.ema)
    batches = clips(accelerator, dataset, training, 0)

    def step() -> dict[str, float]:
        values = wrapped(next(batches))
        accelerator.backward(values["total"])
        accelerator.clip_grad_norm_(wrapped.parameters(), training.optimiser.clip_norm)
        optimiser.step()
        optimiser.zero_grad()
        average.update(tracker)
        return {name: float(value.detach()) for name, value in values.items()}

    if arguments.losses:
        print("{}", flush=True)
        for _ in lines():
            print(json.dumps({"losses": [step()["total"] for _ in range(arguments.steps)]}), flush=True)
        return
    for _ in range(arguments.warm_up):
        step()
    if arguments.profile:
        with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]) as profiled:
            for _ in range(arguments.steps):
                step()
        print(profiled.key_averages().table(sort_by="self_cpu_time_total", row_limit=32), flush=True)
        return
    print("{}", flush=True)
    frames = arguments.steps * arguments.batch * training.data.clip_length
    for _ in lines():
        began = time.process_time()
        for _ in range(arguments.steps):
            step()
        print(json.dumps({"frames_per_s": frames / (time.process_time() - began)}), flush=True)


def lines() -> Iterator[str]:
    """Lines from the parent, as they come."""
    while line := sys.stdin.readline():
        yield line


if __name__ == "__main__":
    main()
