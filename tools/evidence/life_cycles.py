"""Which life cycle suits a tracker: python tools/evidence/life_cycles.py MODEL WORLD --features DIR --grid

Every life cycle of one small grid, the same for all trackers, is scored on a world's scenes, all of them
side by side and from stored features of the frozen encoder, so that a scoring takes seconds. Without --grid
one is scored, the model's own or that of --set, or with --tracker a tracker that needs no training.
"""

import argparse
import json
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path

import torch

from syncl.checkpoints.model_file import LoadedModel, load_model
from syncl.data.loading import collate_frames
from syncl.data.nuscenes.clips.dataset import ClipDataset
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.nuscenes.results.submission import TrackingSubmission
from syncl.dataset_description import NUSCENES
from syncl.errors import SynclError
from syncl.evaluation import evaluate_tracking
from syncl.recipes import find_recipe
from syncl.recipes.changes import apply_changes
from syncl.recipes.resolving import resolve_recipe
from syncl.runs.track.run import BY_DETECTION, choose_tracker
from syncl.runs.track.scenes import image_options, report_objects
from syncl.runs.train.clips import annotation_options
from syncl.runs.train.feature_cache import cached_features
from syncl.structures import Frame
from syncl.trackers import Tracker
from syncl.training.loop import make_accelerator

# Birth, keep and tolerance. Not every tracker has a score below which a track counts as missed.
GRID = tuple(product((0.3, 0.35, 0.4), (0.3,), (1, 2)))
KEEP = ("keep_score", "record_score", "detection_score")
FIGURES = ("amota", "amotp", "recall", "mota", "ids", "fp", "fn")


def life_cycles(config: object) -> Iterator[dict[str, float]]:
    """The grid in the names of a tracker's settings."""
    for birth, keep, tolerance in GRID:
        named = {"birth_score": birth, "output_score": 0.2, "miss_tolerance": tolerance}
        named |= dict.fromkeys(KEEP, keep)
        yield {name: value for name, value in named.items() if hasattr(config, name)}


def with_settings(model: LoadedModel, changes: tuple[str, ...]) -> Tracker:
    """The model's tracker with other settings and the same weights."""
    tracker = apply_changes(model.config.tracker, changes).build(model.tracker.detector)
    tracker.load_state_dict(model.tracker.state_dict())
    return tracker.eval()


def frames(
    model: LoadedModel, index: NuScenesIndex, scenes: tuple[str, ...], features: Path
) -> Iterator[tuple[list[int], Frame]]:
    """Sample rows and frame of each moment of all scenes side by side, features instead of images."""
    recipe = replace(find_recipe("mutr3d_detr3d_synthetic"), model=model.config, strategies={})
    recipe = resolve_recipe(recipe, None, True, ("training.data.augmentation=null",))
    accelerator = make_accelerator(recipe.training)
    store = cached_features(features, recipe, index, scenes, model.tracker, accelerator)
    rows = [index.scene_samples(scene) for scene in scenes]
    length = len(rows[0])
    if any(len(others) != length for others in rows):
        raise SynclError("scenes of one length are scored side by side; these differ")
    clips = ClipDataset(
        index,
        scenes,
        clip_length=1,
        images=image_options(model.config.input),
        annotations=annotation_options(recipe),
        features=store,
    )
    for moment in range(length):
        single = [clips[0, scene * length + moment].frames[0] for scene in range(len(scenes))]
        frame = collate_frames(single)
        yield (
            [int(scene[moment]) for scene in rows],
            replace(frame, levels=tuple(level.float() for level in frame.levels)),
        )


@torch.no_grad()
def score(
    model: LoadedModel, tracker: Tracker, data: Path, version: str, split: str, features: Path
) -> dict[str, float]:
    """Track all scenes of a split and score them by the official definitions."""
    index = open_nuscenes(data, version, vehicle_frame=model.config.input.vehicle_frame)
    scenes = index.split_scenes(split)
    submission = TrackingSubmission(
        [index.sample_token(row) for scene in scenes for row in index.scene_samples(scene)]
    )
    state = tracker.initial_state(len(scenes))
    for rows, frame in frames(model, index, scenes, features):
        objects, state = tracker.step(frame, state)
        objects = replace(objects, forecasts=None)
        for stream, row in enumerate(rows):
            sample = index.sample(row)
            own = objects.map(lambda values, stream=stream: values[stream : stream + 1])
            report = report_objects(sample.token, own, tracker.detector.classes)
            submission.add(sample.token, report, sample.global_from_vehicle, sample.global_from_ego)
    with tempfile.TemporaryDirectory() as folder:
        results = Path(folder) / "results.json"
        submission.save(results, True)
        metrics = evaluate_tracking(results, data, version, split)
    return {name: round(metrics.overall(name), 3) for name in FIGURES}


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--features", type=Path, required=True, help="folder for the features of a world")
    parser.add_argument("--version", default="v1.0-trainval")
    parser.add_argument("--split", default="val")
    parser.add_argument("--tracker", choices=("model", *BY_DETECTION), default="model")
    parser.add_argument("--grid", action="store_true", help="all life cycles of the grid")
    parser.add_argument(
        "--set", nargs="*", default=(), help="settings of the tracker, such as birth_score=0.3"
    )
    parser.add_argument("--name", help="of the run, in the output")
    parser.add_argument("--output", type=Path, help="file of JSON lines to append to")
    options = parser.parse_args()
    torch.set_num_threads(1)
    model = load_model(options.model)
    wanted = [tuple(options.set)]
    if options.grid:
        cycles = life_cycles(model.config.tracker)
        wanted = [tuple(f"{name}={value}" for name, value in one.items()) for one in cycles]
    for changes in dict.fromkeys(wanted):
        if options.tracker == "model":
            tracker = with_settings(model, changes)
        else:
            tracker = choose_tracker(model, "tracking", options.tracker, NUSCENES.tracked).eval()
        figures = score(model, tracker, options.data, options.version, options.split, options.features)
        name = options.name or (options.model.stem if options.tracker == "model" else options.tracker)
        line = json.dumps({"run": name, "scenes": options.data.name, "settings": list(changes), **figures})
        print(line, flush=True)
        if options.output is not None:
            with options.output.open("a") as file:
                file.write(line + "\n")


if __name__ == "__main__":
    main()
