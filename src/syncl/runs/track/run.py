"""What `syncl track` does: a model over scenes of a dataset, results to a submission file."""

import hashlib
import platform
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Literal

import orjson
import torch

from syncl.checkpoints.model_file import LoadedModel
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.past.sources import check_sweep_images, has_sweeps
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission
from syncl.dataset_description import DatasetDescription
from syncl.deployment.compiled import compiled
from syncl.deployment.exported import ExportedLooks, ExportedTracker
from syncl.errors import SynclError, system_errors_named
from syncl.runs.processes import Processes
from syncl.runs.track.reports import ALONE, Reports, TrackingSummary
from syncl.runs.track.scenes import cameras_seen, track_scene
from syncl.structures import Objects
from syncl.trackers import Cc3dtConfig, GreedyConfig, SingleFrame, SingleFrameConfig, Tracker
from syncl.trackers.cc_3dt import cc_3dt_plus_plus
from syncl.trackers.inference import Precision, for_inference, usable_device

Task = Literal["tracking", "detection"]
TrackerChoice = Literal["model", "greedy", "greedy-observed", "cc-3dt", "cc-3dt++"]
# Trackers that need no training, by their choice: they tie anybody's detections of tracked classes together.
BY_DETECTION: dict[str, Callable[[tuple[str, ...]], GreedyConfig | Cc3dtConfig]] = {
    "greedy": lambda tracked: GreedyConfig(classes=tracked),
    "greedy-observed": lambda tracked: GreedyConfig(motion="observed", coasting="elapsed", classes=tracked),
    "cc-3dt": lambda _: Cc3dtConfig(),
    "cc-3dt++": lambda _: cc_3dt_plus_plus(),
}


def choose_device(name: str, processes: Processes = ALONE) -> torch.device:
    """The device of this name; `auto` takes a GPU where there is one, and of several processes each its own.

    Raises:
        SynclError: if torch does not know the device or cannot use it.
    """
    if processes.device is not None and name in ("auto", processes.device.type):
        return processes.device
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return usable_device(name)


def track_to_file(
    model: LoadedModel,
    index: NuScenesIndex,
    scenes: tuple[str, ...],
    reports: Reports,
    *,
    task: Task = "tracking",
    tracker: TrackerChoice = "model",
    device: str = "auto",
    precision: Precision = "auto",
    compile: bool = False,
) -> TrackingSummary:
    """Track scenes and write one results file, which appears only when all is done.

    Args:
        model: a loaded model.
        index: the dataset.
        scenes: names of the scenes.
        reports: what of them is written, and where.
        task: see `syncl.commands.track.track`.
        tracker: the same.
        device: the same; of several processes, each on a GPU takes its own.
        precision: the same.
        compile: the same.

    Raises:
        SynclError: on unusable input, or if the model only detects and tracks were asked for, or does not
            forecast and forecasts were.
    """
    chosen = choose_device(device, reports.processes)
    check_classes_known(model.tracker, index.dataset)
    stepping = choose_tracker(model, task, tracker, index.dataset.tracked).eval().to(chosen)
    stepping = for_inference(stepping, precision)
    stepping = compiled(stepping) if compile else stepping
    if reports.forecasts and stepping.forecast_step_s is None:
        raise SynclError("--forecasts: this tracker does not forecast; PF-Track with future reasoning does")
    index = index.with_vehicle_frame(model.config.input.vehicle_frame)
    seen = cameras_seen(model.config.input, model.tracker.detector, index, scenes)
    tokens = [index.sample_token(row) for scene in scenes for row in index.scene_samples(scene)]
    submission: TrackingSubmission | DetectionSubmission
    if task == "tracking":
        submission = TrackingSubmission(
            tokens,
            dataset=index.dataset,
            forecast_step_s=stepping.forecast_step_s if reports.forecasts else None,
        )
    else:
        submission = DetectionSubmission(tokens, dataset=index.dataset)
    return reports.write(
        lambda scene: track_scene(stepping, seen, index, scene, chosen), index, scenes, submission
    )


def tracking_origin(
    files: Mapping[str, Path | None], index: NuScenesIndex, device: str, processes: Processes
) -> dict[str, object]:
    """What, beside its options, the bytes of a results file follow from: files, data, classes and machine.

    Args:
        files: read for it, by what they are.
        index: the dataset.
        device: see `syncl.commands.track.track`.
        processes: that share the work.

    Raises:
        SynclError: a file cannot be read.
    """
    made: dict[str, object] = {"version": index.version}
    if not index.dataset.official:
        made["dataset"] = hashlib.sha256(orjson.dumps(index.dataset)).hexdigest()
    for name, path in files.items():
        if path is not None and path.is_file():
            with system_errors_named(path), path.open("rb") as file:
                made[name] = hashlib.file_digest(file, "sha256").hexdigest()
    samples = hashlib.sha256(index.columns.sample_tokens.tobytes())
    samples.update(index.columns.sample_timestamps_us.tobytes())
    chosen = choose_device(device, processes)
    name = torch.cuda.get_device_name(chosen) if chosen.type == "cuda" else platform.machine()
    machine = {
        "device": f"{chosen.type}, {name}",
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return made | {"samples": samples.hexdigest()} | machine


def without_past_images(model: LoadedModel) -> LoadedModel:
    """The model, remembering key frames instead of reading images between them."""
    config = replace(model.config, input=replace(model.config.input, past=None))
    return replace(model, config=config)


def check_past_images(model: LoadedModel, index: NuScenesIndex, scenes: tuple[str, ...]) -> None:
    """Make sure that images between key frames exist, where the model looks at them and the tables have any.

    Raises:
        SynclError: naming the first missing file, and what to do without them.
    """
    if model.config.input.past is not None:
        check_sweep_images(index, [scene for scene in scenes if has_sweeps(index, [scene])])


def check_classes_known(tracker: Tracker, dataset: DatasetDescription) -> None:
    """Refuse a model that knows none of a dataset's classes.

    Raises:
        SynclError: saying which each has.
    """
    if not set(tracker.classes) & set(dataset.classes):
        raise SynclError(
            f"this model knows {', '.join(tracker.classes)}; the data ({dataset.name}) have "
            f"{', '.join(dataset.classes)}: no class in common. Train a model on them (syncl train), or give "
            "the description that fits the model (--dataset)"
        )


def choose_tracker(
    model: LoadedModel, task: Task, choice: TrackerChoice, tracked: tuple[str, ...]
) -> Tracker:
    """The tracker that does what was asked for, around the model's detector.

    Args:
        model: a loaded model.
        task: see `syncl.commands.track.track`.
        choice: the same.
        tracked: classes that a tracker by detection is to track.

    Raises:
        SynclError: if the options contradict each other or the model.
    """
    own = model.tracker
    program = _detecting_program(own)
    if task == "detection":
        if choice != "model":
            raise SynclError(f"--task detection has no tracks for --tracker {choice}; leave one out")
        if own.detects_only or program is not None:
            return program or own
        check_parts(own, "--task detection")
        return SingleFrame(own.detector, SingleFrameConfig())
    if choice != "model":
        rules = BY_DETECTION[choice](tracked)
        if program is not None:
            return ExportedLooks(program, rules.build(program.detector))
        check_parts(own, f"--tracker {choice}")
        return rules.build(own.detector)
    if own.detects_only:
        raise SynclError(
            "this model detects in single frames and cannot track; tie its detections together with "
            "--tracker greedy, write them with --task detection, or train a tracker from it"
        )
    return own


def _detecting_program(tracker: Tracker) -> ExportedTracker | None:
    """The program of an exported folder, where it tells plain detections of single frames."""
    if isinstance(tracker, ExportedLooks) and tracker.tracker.pairs is Objects:
        tracker = tracker.program
    return tracker if isinstance(tracker, ExportedTracker) and tracker.detects_only else None


def check_parts(tracker: Tracker, option: str) -> None:
    """Refuse an exported folder where a model's detector is wanted alone.

    Raises:
        SynclError: naming the folder.
    """
    if isinstance(tracker, ExportedTracker | ExportedLooks):
        raise SynclError(
            f"{option}: {tracker.source} is one exported step, whose detector nobody can ask alone; take the "
            "model file it was made of"
        )
