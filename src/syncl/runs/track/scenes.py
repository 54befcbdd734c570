"""Tracking whole scenes of a dataset, frame by frame in order."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from syncl.data.images import ResizeMethod
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.structures import Frame, Objects
from syncl.trackers.base import Tracker
from syncl.trackers.model import InputConfig


@dataclass(frozen=True)
class SampleObjects:
    """The objects of one sample, as numpy arrays.

    Attributes:
        sample: sample token.
        scene: scene name.
        boxes: [N, 9] float32 in the box layout, vehicle frame.
        classes: N class names.
        scores: [N] float32.
        identities: [N] int64, -1 for plain detections.
        global_from_vehicle: [4, 4] float64.
        global_from_ego: [4, 4] float64; differs where the model's vehicle frame is the lidar's.
        forecasts: [N, F, 2] float32 as in `Objects`, vehicle frame; None from trackers that do not forecast.
    """

    sample: str
    scene: str
    boxes: NDArray[np.float32]
    classes: tuple[str, ...]
    scores: NDArray[np.float32]
    identities: NDArray[np.int64]
    global_from_vehicle: NDArray[np.float64]
    global_from_ego: NDArray[np.float64]
    forecasts: NDArray[np.float32] | None = None


def image_options(config: InputConfig) -> ImageOptions:
    """How a model's images are read."""
    resize: ResizeMethod = "exact" if config.exact_resize else "fast"
    return ImageOptions(config.image_size, config.cameras, resize, past=config.past)


def track_scene(
    tracker: Tracker, config: InputConfig, index: NuScenesIndex, scene: str, device: torch.device | str
) -> Iterator[SampleObjects]:
    """Track one scene from its first sample; the state starts empty and ends with it."""
    state = tracker.initial_state()
    stream = SceneStream(index, scene, image_options(config))
    for row, frame in zip(stream.rows, stream):
        objects, state = tracker.step(frame.to(device), state)
        yield to_sample(frame, objects, tracker.detector.classes, index.sample(row).global_from_ego)


def to_sample(
    frame: Frame, objects: Objects, classes: tuple[str, ...], global_from_ego: NDArray[np.float64]
) -> SampleObjects:
    """The reported objects of a frame of one stream, without padding, on the host."""
    host = objects.to("cpu")
    valid = host.valid[0]
    return SampleObjects(
        sample=frame.samples[0],
        scene=frame.scenes[0],
        boxes=host.boxes[0, valid].numpy(),
        classes=tuple(classes[label] for label in host.labels[0, valid].tolist()),
        scores=host.scores[0, valid].numpy(),
        identities=host.identities[0, valid].numpy(),
        global_from_vehicle=frame.global_from_vehicle[0].cpu().numpy(),
        global_from_ego=global_from_ego,
        forecasts=None if host.forecasts is None else host.forecasts[0, valid].numpy(),
    )
