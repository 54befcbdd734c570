"""What `syncl track` does: a model over scenes of a dataset, results to a submission file."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import torch

from syncl.checkpoints.model_file import LoadedModel
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.submission import DetectionSubmission, TrackingSubmission
from syncl.errors import SynclError
from syncl.progress import track as progress
from syncl.trackers import SingleFrame, SingleFrameConfig, Tracker
from syncl.trackers.scenes import SampleObjects, track_scene


@dataclass(frozen=True)
class TrackingReport:
    """How a tracking run went.

    Attributes:
        frames: frames tracked.
        seconds: wall time, reading images included.
    """

    frames: int
    seconds: float

    @property
    def seconds_per_frame(self) -> float:
        """Mean time of a frame."""
        return self.seconds / max(self.frames, 1)


def choose_device(name: str) -> torch.device:
    """The device of this name; `auto` takes a GPU where there is one.

    Raises:
        SynclError: if torch does not know the device or cannot use it.
    """
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
    task: Literal["tracking", "detection"] = "tracking",
    device: str = "auto",
    overwrite: bool = False,
    quiet: bool = False,
) -> TrackingReport:
    """Track scenes and write one results file, which appears only when all is done; `quiet` without a bar.

    Raises:
        SynclError: on unusable input, or if the model only detects and tracks were asked for.
    """
    chosen = choose_device(device)
    tracker: Tracker = model.tracker
    if task == "tracking" and isinstance(tracker, SingleFrame):
        raise SynclError(
            "this model detects in single frames and cannot track; use --task detection, or train a "
            "tracker from it"
        )
    if task == "detection" and not isinstance(tracker, SingleFrame):
        tracker = SingleFrame(tracker.detector, SingleFrameConfig())
    tracker = tracker.eval().to(chosen)
    index = index.with_vehicle_frame(model.config.input.vehicle_frame)
    tokens = [index.sample(int(row)).token for scene in scenes for row in index.scene_samples(scene)]
    tracks, detections = TrackingSubmission(tokens), DetectionSubmission(tokens)
    started = time.perf_counter()
    samples = (
        sample
        for scene in scenes
        for sample in track_scene(tracker, model.config.input, index, scene, chosen)
    )
    for sample in samples if quiet else progress(samples, "tracking", total=len(tokens)):
        if task == "tracking":
            add_tracks(tracks, sample)
        else:
            detections.add(
                sample.sample,
                sample.boxes.astype(float),
                sample.classes,
                sample.scores.astype(float),
                sample.global_from_vehicle,
                sample.global_from_ego,
            )
    seconds = time.perf_counter() - started
    (tracks if task == "tracking" else detections).save(output, overwrite)
    return TrackingReport(len(tokens), seconds)


def add_tracks(submission: TrackingSubmission, sample: SampleObjects) -> None:
    """Add a tracked sample to a submission."""
    submission.add(
        sample.sample,
        sample.boxes.astype(float),
        sample.classes,
        sample.scores.astype(float),
        sample.identities,
        sample.global_from_vehicle,
        sample.global_from_ego,
    )
