"""What `syncl track` does: a model over scenes of a dataset, results to a submission file."""

import hashlib
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import torch

from syncl.checkpoints.model_file import LoadedModel
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.past.sources import check_sweep_images, has_sweeps
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission
from syncl.data.nuscenes.samples import Sample
from syncl.data.own_results import own_layout
from syncl.deployment.compiled import compiled
from syncl.deployment.exported import ExportedDetections, ExportedTracker
from syncl.errors import SynclError, system_errors_named
from syncl.progress import progress_bar
from syncl.runs.processes import Processes
from syncl.runs.track.parts import SceneParts
from syncl.runs.track.scenes import cameras_seen, track_scene
from syncl.trackers import Cc3dtConfig, GreedyConfig, SingleFrame, SingleFrameConfig, Tracker
from syncl.trackers.cc_3dt import cc_3dt_plus_plus
from syncl.trackers.inference import Precision, for_inference

Task = Literal["tracking", "detection"]
TrackerChoice = Literal["model", "greedy", "greedy-observed", "cc-3dt", "cc-3dt++"]
ALONE = Processes()
# Trackers that need no training, by their choice: they tie anybody's detections together.
BY_DETECTION: dict[str, Callable[[], GreedyConfig | Cc3dtConfig]] = {
    "greedy": GreedyConfig,
    "greedy-observed": lambda: GreedyConfig(motion="observed", coasting="elapsed"),
    "cc-3dt": Cc3dtConfig,
    "cc-3dt++": cc_3dt_plus_plus,
}


@dataclass(frozen=True)
class TrackingSummary:
    """How a tracking run went.

    Attributes:
        files: that were written.
        frames: frames tracked.
        seconds: wall time, reading images included.
        scenes: of a dataset that were tracked; none of a recording.
        remarks: what was odd about the input and accepted.
        earlier_frames: how many of the frames an earlier call had tracked.
    """

    files: tuple[Path, ...]
    frames: int
    seconds: float
    scenes: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    earlier_frames: int = 0

    @property
    def seconds_per_frame(self) -> float:
        """Mean time of a frame of this call."""
        return self.seconds / max(self.frames - self.earlier_frames, 1)


def choose_device(name: str, processes: Processes = ALONE) -> torch.device:
    """The device of this name; `auto` takes a GPU where there is one, and of several processes each its own.

    Raises:
        SynclError: if torch does not know the device or cannot use it.
    """
    if processes.device is not None and name in ("auto", processes.device.type):
        return processes.device
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise SynclError(f"--device {name}: cannot be used here ({error})") from error
    return device


def track_to_file(
    model: LoadedModel,
    index: NuScenesIndex,
    scenes: tuple[str, ...],
    output: Path,
    *,
    task: Task = "tracking",
    tracker: TrackerChoice = "model",
    forecasts: bool = False,
    device: str = "auto",
    min_score: float | None = None,
    classes: tuple[str, ...] = (),
    precision: Precision = "auto",
    compile: bool = False,
    overwrite: bool = False,
    quiet: bool = False,
    processes: Processes = ALONE,
    parts: SceneParts | None = None,
) -> TrackingSummary:
    """Track scenes and write one results file, which appears only when all is done.

    Args:
        model: a loaded model.
        index: the dataset.
        scenes: names of the scenes.
        output: results file.
        task: see `syncl.commands.track.track`.
        tracker: the same.
        forecasts: the same.
        device: the same; of several processes, each on a GPU takes its own.
        min_score: the same.
        classes: the same.
        precision: the same.
        compile: the same.
        overwrite: replace an existing file.
        quiet: no progress bar.
        processes: those that share the work, whole scenes each. Process 0 writes the file, which is the one a
            single process would write.
        parts: where finished scenes are found and kept; the file then says what it was made with.

    Raises:
        SynclError: on unusable input, or if the model only detects and tracks were asked for, or does not
            forecast and forecasts were.
    """
    chosen = choose_device(device, processes)
    stepping = for_inference(choose_tracker(model, task, tracker).eval().to(chosen), precision)
    stepping = compiled(stepping) if compile else stepping
    if forecasts and stepping.forecast_step_s is None:
        raise SynclError("--forecasts: this tracker does not forecast; PF-Track with future reasoning does")
    index = index.with_vehicle_frame(model.config.input.vehicle_frame)
    seen = cameras_seen(model.config.input, model.tracker.detector, index, scenes)
    tokens = [index.sample_token(row) for scene in scenes for row in index.scene_samples(scene)]
    submission: TrackingSubmission | DetectionSubmission
    if task == "tracking":
        submission = TrackingSubmission(
            tokens, dataset=index.dataset, forecast_step_s=stepping.forecast_step_s if forecasts else None
        )
    else:
        submission = DetectionSubmission(tokens, dataset=index.dataset)
    return write_reports(
        lambda scene: track_scene(stepping, seen, index, scene, chosen),
        index,
        scenes,
        submission,
        output,
        forecasts=forecasts,
        min_score=min_score,
        classes=classes,
        overwrite=overwrite,
        quiet=quiet,
        processes=processes,
        parts=parts,
    )


def write_reports(
    follow: Callable[[str], Iterator[tuple[Sample, FrameObjects]]],
    index: NuScenesIndex,
    scenes: tuple[str, ...],
    submission: TrackingSubmission | DetectionSubmission,
    output: Path,
    *,
    forecasts: bool = False,
    min_score: float | None = None,
    classes: tuple[str, ...] = (),
    overwrite: bool = False,
    quiet: bool = False,
    processes: Processes = ALONE,
    parts: SceneParts | None = None,
) -> TrackingSummary:
    """Follow every scene and write what is reported; see `track_to_file` for the arguments it has, too.

    Args:
        follow: from a scene to its samples and what is reported of each, in the vehicle frame of the index.
        index: the dataset.
        scenes: names of the scenes.
        submission: an empty one of these scenes.
        output: results file.
        forecasts: keep forecasts.
        min_score: keep what scores as much; None keeps all.
        classes: keep these; all if none is named.
        overwrite: replace an existing file.
        quiet: no progress bar.
        processes: those that share the work.
        parts: where finished scenes are found and kept.
    """
    tokens = {scene: [index.sample_token(row) for row in index.scene_samples(scene)] for scene in scenes}
    own = processes.deal(scenes)
    found = {scene: parts.read(scene, tokens[scene]) for scene in own} if parts is not None else {}
    pending = [scene for scene in own if found.get(scene) is None]
    finished = [(len(boxes), boxes) for boxes in found.values() if boxes is not None]
    started = time.perf_counter()

    def followed() -> Iterator[None]:
        for scene in pending:
            part = submission.part(tokens[scene])
            for sample, objects in follow(scene):
                kept = objects.chosen(min_score, classes)
                reported = kept if forecasts else replace(kept, forecasts=None)
                part.add(sample.token, reported, sample.global_from_vehicle, sample.global_from_ego)
                yield
            finished.append((0, part.written))
            if parts is not None:
                parts.write(scene, part.written)

    total = sum(len(tokens[scene]) for scene in pending)
    hidden = quiet or not processes.is_main
    for _ in followed() if hidden else progress_bar(followed(), "tracking", total=total):
        pass
    earlier = 0
    for count, boxes in processes.gather(finished) or ():
        submission.take(boxes)
        earlier += count
    seconds = time.perf_counter() - started
    if processes.is_main:
        if parts is not None:
            submission.made_with(parts.made_with)
        layout = own_layout(index.dataroot, output)
        if layout is None:
            submission.save(output, overwrite)
        else:
            layout.write(index, submission.written, output, overwrite)
    frames = sum(map(len, tokens.values()))
    return TrackingSummary((output,), frames, seconds, tuple(scenes), earlier_frames=earlier)


def tracking_origin(
    files: Mapping[str, Path | None], index: NuScenesIndex, device: str, processes: Processes
) -> dict[str, object]:
    """What, beside its options, the bytes of a results file follow from: model, detections, data and machine.

    Args:
        files: read for it, by what they are.
        index: the dataset.
        device: see `syncl.commands.track.track`.
        processes: that share the work.

    Raises:
        SynclError: a file cannot be read.
    """
    made: dict[str, object] = {"version": index.version}
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


def choose_tracker(model: LoadedModel, task: Task, choice: TrackerChoice) -> Tracker:
    """The tracker that does what was asked for, around the model's detector.

    Raises:
        SynclError: if the options contradict each other or the model.
    """
    own = model.tracker
    if task == "detection":
        if choice != "model":
            raise SynclError(f"--task detection has no tracks for --tracker {choice}; leave one out")
        if own.detects_only:
            return own
        check_parts(own, "--task detection")
        return SingleFrame(own.detector, SingleFrameConfig())
    if choice != "model":
        check_parts(own, f"--tracker {choice}")
        return BY_DETECTION[choice]().build(own.detector)
    if own.detects_only:
        raise SynclError(
            "this model detects in single frames and cannot track; use --task detection, tie its detections "
            "together with --tracker greedy, or train a tracker from it"
        )
    return own


def check_parts(tracker: Tracker, option: str) -> None:
    """Refuse an exported folder where a model's detector is wanted alone.

    Raises:
        SynclError: naming the folder.
    """
    if isinstance(tracker, ExportedTracker | ExportedDetections):
        raise SynclError(
            f"{option}: {tracker.source} is one exported step, whose detector nobody can ask alone; take the "
            "model file it was made of"
        )
