"""What `syncl train` does: recipe, data, run folder, training, model file."""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import cast

import torch
from rich.console import Console
from torch import Tensor

from syncl.checkpoints.class_rows import ClassRows
from syncl.checkpoints.model_file import (
    InitialisationReport,
    initialise_from,
    model_classes,
    read_views,
    save_model,
)
from syncl.data.nuscenes.clips.annotation_choice import count_learnable
from syncl.data.nuscenes.clips.dataset import choose_cameras
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.nuscenes.lidar import lidar_remark
from syncl.data.nuscenes.odometry import can_bus_remark
from syncl.data.nuscenes.past.sources import check_sweep_images, has_sweeps
from syncl.data.nuscenes.splits import own_split
from syncl.data.views import cameras_by_view, index_rigs, index_views
from syncl.detectors.seen_rigs import SeenRigs
from syncl.errors import SynclError
from syncl.own_code import options_for
from syncl.progress import plain_console
from syncl.recipes import Recipe
from syncl.recipes.listing import recipe_entries
from syncl.recipes.recipe import own_types, recipe_to_json
from syncl.recipes.resolving import StrategyName, resolve_recipe
from syncl.runs.processes import part_at_exit, partings_said
from syncl.runs.provenance import commit, hardware
from syncl.runs.threads import use_threads
from syncl.runs.train.clips import annotation_options, check_frame_times, training_clips
from syncl.runs.train.feature_cache import cached_features, check_cacheable
from syncl.runs.train.loggers import Logger, check_loggers, start_loggers
from syncl.runs.train.own_classes import class_rows, with_own_cameras, with_own_classes
from syncl.runs.train.picture import draw_training
from syncl.runs.train.run_folder import carried_on, earlier_notes, run_folder, run_origin, start_anew
from syncl.runs.train.validation import Validation
from syncl.trackers import SingleFrameConfig
from syncl.trackers.compiling import compile_parts
from syncl.training.loop import make_accelerator, run_training
from syncl.wording import counted


@dataclass(frozen=True)
class TrainingSummary:
    """What a training run came to.

    Attributes:
        model: the model file.
        recipe: what was trained, with everything changed about it.
        step: optimiser steps done.
        losses: of the last log entry.
        seconds: wall time of this call.
    """

    model: Path
    recipe: Recipe
    step: int
    losses: dict[str, float]
    seconds: float


def train_recipe(
    recipe: str | Recipe,
    *,
    data: Path,
    output: Path,
    version: str = "v1.0-mini",
    dataset: Path | None = None,
    split: str | None = None,
    validation_split: str | None = None,
    init: Path | None = None,
    init_parts: tuple[str, ...] = (),
    strategy: StrategyName | None = None,
    freeze_encoder: bool = False,
    changes: tuple[str, ...] = (),
    resume: bool = False,
    overwrite: bool = False,
    threads: int | None = None,
    compile: bool = False,
    cache_features: Path | None = None,
    log_with: tuple[Logger, ...] = (),
) -> TrainingSummary:
    """Train a recipe, by name or one of your own; see `syncl.commands.train.train` for the arguments.

    Raises:
        SynclError: before any work on bad input, or from training.
    """
    use_threads(threads)
    recipe = resolve_recipe(recipe, strategy, freeze_encoder, changes)
    index = open_nuscenes(data, version, vehicle_frame=recipe.model.input.vehicle_frame, dataset=dataset)
    scenes = index.split_scenes(split or own_split(version, data, training=True))
    scenes = scenes[: recipe.training.data.scenes or None]
    index.check_images(scenes)
    if cache_features is not None:
        check_cacheable(recipe)
    between = recipe.model.input.past is not None and has_sweeps(index, scenes)
    if between:
        check_sweep_images(index, scenes)
    recipe = with_own_classes(recipe, index.dataset)
    own_data = not index.dataset.official
    if own_data:
        recipe = with_own_cameras(recipe, index.camera_names)
    recipe, views = _with_views(recipe, index, scenes, init)
    validate = None
    if recipe.training.validate_every:
        validate = _validation(recipe, index, validation_split or own_split(version, data), output)
    check_loggers(log_with)
    # Tensorboard's files are the journal's own, which a resumed run goes on with.
    accelerator = make_accelerator(recipe.training, [name for name in log_with if name != "tensorboard"])
    part_at_exit()
    console = plain_console(stderr=True, quiet=not accelerator.is_main_process)
    stored = cache_features is not None
    origin = run_origin(recipe, index, scenes, init, init_parts, stored, accelerator.mixed_precision)
    together = partings_said(accelerator.num_processes)
    with together, run_folder(output, accelerator, origin, resume, overwrite):
        torch.manual_seed(recipe.training.seed)
        tracker = recipe.model.build()
        tracker.detector.views = views
        given = recipe.model.input
        seen = index_rigs(index, scenes, choose_cameras(index, given.cameras), given.image_size)
        tracker.detector.rigs = None if seen is None else SeenRigs(*seen)
        check_frame_times(index, scenes, tracker.forecast_step_s)
        fresh = tuple(name for name, _ in tracker.named_parameters())
        if init is not None:
            rows = class_rows(recipe, index.dataset) if own_data else None
            report = initialise_from(tracker, init, init_parts, rows)
            fresh = report.fresh
            _report(report, init, console)
            if rows is not None:
                _report_classes(rows, init, console)
        _warn_of_frozen(recipe, fresh, console)
        features = None
        if cache_features is not None:
            features = cached_features(cache_features, recipe, index, scenes, tracker, accelerator)
        if compile:
            compile_parts(tracker.detector, accelerator.device)
            console.print("compiling: the first steps wait for it")
        clips = training_clips(index, scenes, recipe, features, tracker.future_frames)
        if recipe.model.input.past is not None and not between:
            console.print("no images between key frames in these data: the past is made of key frames")
        if recipe.model.input.odometry:
            console.print(can_bus_remark(index, scenes))
        if remark := count_learnable(index, scenes, annotation_options(recipe)).remark:
            console.print(remark)
        if recipe.training.data.depth_stride:
            console.print(lidar_remark(index, scenes))
        console.print(
            f"{recipe.name}: {sum(p.numel() for p in tracker.parameters()) / 1e6:.2f} M parameters, "
            f"{counted(len(clips), 'clip')} of {recipe.training.data.clip_length} from "
            f"{counted(len(scenes), 'scene')}, "
            f"{counted(recipe.training.steps, 'step')} on {accelerator.num_processes} x {accelerator.device}"
        )
        if own_data:
            learned = ", ".join(recipe.model.detector.classes)
            console.print(f"classes of {index.dataset.name}: {learned}")
        earlier = earlier_notes(output) if resume else {}
        if accelerator.is_main_process and not resume:
            start_anew(output, recipe)
        started, code = time.time(), commit()
        machine = ", ".join(f"{name} {value}" for name, value in hardware().items() if name != "torch")

        def write_model(path: Path, weights: Mapping[str, Tensor]) -> None:
            notes = {
                "data": f"{data.name}, {version}, {counted(len(scenes), 'scene')}",
                "minutes": f"{(time.time() - started) / 60:.1f}",
                "initialised_from": "" if init is None else str(init.name),
                "torch": torch.__version__,
                "commit": code,
                "hardware": machine,
                "threads": str(torch.get_num_threads()),
            }
            kept = carried_on(earlier, notes)
            detector = tracker.detector
            save_model(
                path, weights, recipe.model, recipe_to_json(recipe), kept, detector.views, detector.rigs
            )

        start_loggers(accelerator, output, cast(dict[str, object], recipe_to_json(recipe)), resume=resume)
        result = run_training(
            accelerator,
            tracker,
            clips,
            recipe.training,
            output,
            resume=resume,
            save_model=write_model,
            validate=validate,
            origin=origin,
            validated=partial(draw_training, output),
        )
        for logger in accelerator.trackers:
            logger.finish()
        model = output / "model.safetensors"
        console.print(f"wrote {model} after {result.seconds / 60:.1f} min")
        where = f"--data {data}" + ("" if version == "v1.0-mini" else f" --version {version}")
        where += "" if dataset is None else f" --dataset {dataset}"
        console.print(f"next: {next_steps(recipe, output, where)}")
        return TrainingSummary(model, recipe, result.step, result.losses, result.seconds)


def _validation(recipe: Recipe, index: NuScenesIndex, split: str, output: Path) -> Validation:
    """How a run is validated; a figure to choose by that this does not give is refused."""
    chosen = index.split_scenes(split)
    chosen = chosen[: recipe.training.validation_scenes or None]
    index.check_images(chosen)
    validate = Validation(index, split, chosen, recipe.model, output)
    if recipe.training.best_by not in ("auto", *validate.figures):
        raise SynclError(
            f"training.best_by: {recipe.training.best_by}; validation of this model gives "
            f"{', '.join(validate.figures)}"
        )
    return validate


def next_steps(recipe: Recipe, output: Path, where: str) -> str:
    """What to run behind a training, in words; `where` are the options that name its data."""
    own = own_types(recipe.model)
    options = options_for(own)
    if options is None:
        model = f"Path({str(output / 'model.safetensors')!r})"
        names = ", ".join(cls.__name__ for cls in own)
        return (
            f"in Python, load_model({model}, types=({names},)) and track_to_file, as docs/add-tracker.md has "
            "it: commands know classes of your own where a file has them"
        )
    syncl = " ".join(("syncl", *options))
    if not isinstance(recipe.model.tracker, SingleFrameConfig):
        results = output / "results.json"
        return (
            f"{syncl} track {output} {where} --output {results}; then {syncl} evaluate {results} {where}, "
            f"{syncl} render {results} {where} --output {output / 'tracks.mp4'}"
        )
    trackers = [entry.name for entry in recipe_entries() if entry.starts_from == recipe.name]
    if trackers:
        return f"{syncl} train {trackers[0]} {where} --init {output} --output RUN"
    return f"{syncl} track {output} {where} --tracker greedy --output {output / 'results.json'}"


def _with_views(
    recipe: Recipe, index: NuScenesIndex, scenes: tuple[str, ...], init: Path | None
) -> tuple[Recipe, tuple[float, ...] | None]:
    """Where the cameras look that a detector gets weights for, and a recipe that has them in this order.

    Starting from another model keeps its order.
    """
    count = getattr(recipe.model.detector, "cameras", None)
    if count is None:
        return recipe, None
    order = choose_cameras(index, recipe.model.input.cameras)
    found = index_views(index, scenes, index.camera_names)
    known = read_views(init, recipe.model) if init is not None and init.is_file() else None
    if known is not None:
        chosen = cameras_by_view(known, found, order, str(index.dataroot / index.version))
        if chosen != order:
            order, seen = chosen, replace(recipe.model.input, cameras=chosen)
            recipe = replace(recipe, model=replace(recipe.model, input=seen))
    views = tuple(round(found[name], 1) for name in order if name in found)
    return recipe, views if len(views) == count else None


def _report(report: InitialisationReport, init: Path, console: Console) -> None:
    fresh = sorted({name.rsplit(".", 2)[0] for name in report.fresh})
    console.print(f"from {init}: {len(report.filled)} entries taken over")
    if fresh:
        console.print(f"  new: {len(report.fresh)} entries in {', '.join(fresh[:8])}")
    if report.unused:
        console.print(f"  not used: {len(report.unused)} entries")


def _warn_of_frozen(recipe: Recipe, fresh: tuple[str, ...], console: Console) -> None:
    """Say so where what nothing will train is not taken from anywhere either."""
    frozen = recipe.training.unroll.frozen
    parts = [part for part in frozen if any(name.startswith(f"{part}.") for name in fresh)]
    if parts:
        start = f"; this recipe starts from {recipe.starts_from}" if recipe.starts_from else ""
        console.print(
            f"warning: {', '.join(parts)}: frozen (training.unroll.frozen), with random weights that nothing "
            f"trains: give --init FILE{start}"
        )


def _report_classes(rows: ClassRows, init: Path, console: Console) -> None:
    given = model_classes(init)
    found = {rows.classes[number]: given[source] for number, source in rows.sources(given).items()}
    said = [f"{name} from {found[name]}" if name in found else f"{name} anew" for name in rows.classes]
    console.print(f"  classes: {', '.join(said)}")
