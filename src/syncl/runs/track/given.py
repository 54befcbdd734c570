"""What `syncl track --detections` does: tracks made of anybody's detections, a nuScenes results file."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from syncl.checkpoints.model_file import LoadedModel
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.clips.dataset import SceneStream, choose_cameras
from syncl.data.nuscenes.clips.frames import blind_frame
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.results.submission import TrackingSubmission
from syncl.data.nuscenes.samples import Sample
from syncl.dataset_description import DatasetDescription
from syncl.errors import SynclError
from syncl.evaluation.arrays import EvaluationBoxes, Samples
from syncl.evaluation.result_arrays import read_results
from syncl.geometry.poses import invert_pose, move_boxes, rotation_from_quaternion
from syncl.runs.track.reports import Reports, TrackingSummary
from syncl.runs.track.run import BY_DETECTION, TrackerChoice, choose_device
from syncl.runs.track.scenes import cameras_seen, image_options, report_objects
from syncl.structures import Frame, Objects
from syncl.trackers.by_detection import ByDetection, NoDetector
from syncl.wording import counted

_LARGEST = 1e9


class DetectionFile:
    """The boxes of a nuScenes detection results file, sample by sample.

    Args:
        path: the file.
        index: the dataset.
        scenes: whose samples it must have.
        others: whether it may have further samples.

    Attributes:
        remarks: oddities that were accepted, with their counts.

    Raises:
        SynclError: as the evaluation refuses results: a sample that is missing, repeated or unknown, values
            that are nan, unknown classes, more than 500 boxes; file, sample and field are named.
    """

    def __init__(
        self, path: Path, index: NuScenesIndex, scenes: tuple[str, ...], others: bool = False
    ) -> None:
        rows = [row for scene in scenes for row in index.scene_samples(scene)]
        tokens = tuple(index.sample_token(row) for row in rows)
        counts = [len(index.scene_samples(scene)) for scene in scenes]
        nowhere = np.zeros((len(rows), 2))
        samples = Samples(
            tokens, np.repeat(np.arange(len(scenes)), counts), np.zeros(len(rows), np.int64), nowhere
        )
        try:
            results = read_results(path, samples, "detection", index.dataset, others, allow_repeated=False)
        except SynclError as error:
            raise SynclError(f"--detections: {error}") from error
        boxes, usable = results.boxes, _usable(results.boxes)
        lost = counted(int((~usable).sum()), "box")
        remark = f"{lost} that no tracker can hold, too large or too small (left out)"
        self.remarks = results.remarks + (() if usable.all() else (remark,))
        boxes = boxes.select(np.flatnonzero(usable))
        order = np.lexsort((-boxes.score, boxes.sample))
        self._dataset = index.dataset
        self._boxes: EvaluationBoxes = boxes.select(order)
        self._sample = {token: number for number, token in enumerate(tokens)}

    def of(self, sample: Sample, classes: tuple[str, ...]) -> Objects:
        """The detections [1, D] of a sample in its vehicle frame, best first.

        Args:
            sample: one of those the file was opened for.
            classes: which names labels number; boxes of others are left out.
        """
        boxes = self._boxes
        ends = np.searchsorted(boxes.sample, self._sample[sample.token] + np.array([0, 1]))
        boxes = boxes.select(np.arange(*ends))
        number = np.array([classes.index(name) if name in classes else -1 for name in self._dataset.classes])
        boxes = boxes.select(number[boxes.label] >= 0)
        unknown = np.zeros((len(boxes), 1))
        flat = np.concatenate([boxes.centre, boxes.size[:, [1, 0, 2]], unknown, boxes.velocity], 1)
        moved = move_boxes(
            invert_pose(sample.global_from_vehicle), flat, rotation_from_quaternion(boxes.rotation)
        )
        labels = torch.from_numpy(number[boxes.label])[None]
        return Objects(
            boxes=torch.from_numpy(moved).float()[None],
            labels=labels,
            scores=torch.from_numpy(boxes.score).float()[None],
            identities=torch.full_like(labels, -1),
            valid=torch.ones_like(labels, dtype=torch.bool),
        )


def _usable(boxes: EvaluationBoxes) -> NDArray[np.bool_]:
    """[N] whether the numbers of a box are such that float32 holds them and their squares."""
    numbers = np.concatenate([boxes.centre, boxes.size, boxes.score[:, None]], 1)
    usable: NDArray[np.bool_] = (np.abs(numbers) < _LARGEST).all(1) & (boxes.size > 1 / _LARGEST).all(1)
    steepest = np.abs(boxes.rotation).max(1, initial=0.0)
    usable &= (steepest < _LARGEST) & (steepest > 1 / _LARGEST)
    return usable


def track_given(
    detections: Path,
    index: NuScenesIndex,
    scenes: tuple[str, ...],
    reports: Reports,
    *,
    model: LoadedModel | None = None,
    tracker: TrackerChoice = "greedy",
    others: bool = False,
    device: str = "auto",
) -> TrackingSummary:
    """Track a file's detections through scenes and write one results file.

    Args:
        detections: a nuScenes detection results file.
        index: the dataset.
        scenes: names of the scenes.
        reports: what of them is written, and where.
        model: whose tracker is used, with its weights; None = one that needs none.
        tracker: which, where there is no model.
        others: whether the file may have further samples, of scenes that are not tracked.
        device: see `syncl.commands.track.track`.

    Raises:
        SynclError: on unusable input, naming what is wrong.
    """
    chosen = choose_device(device, reports.processes)
    stepping = _tracker(model, tracker, index.dataset).eval().to(chosen)
    if model is not None:
        index = index.with_vehicle_frame(model.config.input.vehicle_frame)
    file = DetectionFile(detections, index, scenes, others)
    remarks = [f"{detections}: {remark}" for remark in file.remarks]
    looked_at = model if stepping.looks else None
    if looked_at is not None and index.missing_images(scenes):
        remarks.append(f"{index.dataroot}: has not all images of these scenes; tracked without appearance")
        looked_at = None
        stepping.close_eyes()

    def follow(scene: str) -> Iterator[tuple[Sample, FrameObjects]]:
        state = stepping.initial_state()
        for sample, frame in _frames(index, scene, looked_at):
            objects, state = stepping.step_given(
                frame.to(chosen), state, file.of(sample, stepping.classes).to(chosen)
            )
            yield sample, report_objects(sample.token, objects, stepping.classes)

    tokens = [index.sample_token(row) for scene in scenes for row in index.scene_samples(scene)]
    done = reports.write(follow, index, scenes, TrackingSubmission(tokens, dataset=index.dataset))
    return replace(done, remarks=tuple(remarks))


def _tracker(model: LoadedModel | None, choice: TrackerChoice, dataset: DatasetDescription) -> ByDetection:
    if choice != "model":
        return BY_DETECTION[choice](dataset.tracked).build(NoDetector(dataset.classes))
    if model is None or not isinstance(model.tracker, ByDetection):
        kind = "no model" if model is None else type(model.tracker).__name__
        raise SynclError(
            f"--detections: the model's tracker is to tie them together, but there is {kind}; give a CC-3DT "
            f"model, or choose --tracker {', '.join(BY_DETECTION)}"
        )
    return model.tracker


def _frames(index: NuScenesIndex, scene: str, model: LoadedModel | None) -> Iterator[tuple[Sample, Frame]]:
    """A scene's samples and frames; images are read only where a model looks at them."""
    if model is not None:
        seen = cameras_seen(model.config.input, model.tracker.detector, index, [scene])
        stream = SceneStream(index, scene, image_options(seen))
        yield from ((index.sample(row), frame) for row, frame in zip(stream.rows, stream))
        return
    cameras = choose_cameras(index, None)
    for row in index.scene_samples(scene):
        sample = index.sample(row)
        yield sample, blind_frame(sample, cameras)
