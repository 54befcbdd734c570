"""Tracking whole scenes of a dataset, frame by frame in order."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from syncl.data.frame_objects import FrameObjects
from syncl.data.images import ResizeMethod
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.samples import Sample
from syncl.data.views import cameras_by_view, index_views
from syncl.detectors.base import Detector
from syncl.errors import SynclError
from syncl.structures import Objects
from syncl.trackers.base import Tracker
from syncl.trackers.model import InputConfig


def image_options(config: InputConfig) -> ImageOptions:
    """How a model's images are read."""
    resize: ResizeMethod = "exact" if config.exact_resize else "fast"
    return ImageOptions(config.image_size, config.cameras, resize, past=config.past, odometry=config.odometry)


def cameras_seen(
    config: InputConfig, detector: Detector, index: NuScenesIndex, scenes: Sequence[str]
) -> InputConfig:
    """A model's input with a dataset's cameras in the order of its weights, if it has some for each."""
    if detector.views is None:
        return config
    names = index.camera_names
    order = config.cameras if config.cameras and set(config.cameras) <= set(names) else names
    source = str(index.dataroot / index.version)
    return replace(
        config, cameras=cameras_by_view(detector.views, index_views(index, scenes, names), order, source)
    )


def track_scene(
    tracker: Tracker, config: InputConfig, index: NuScenesIndex, scene: str, device: torch.device | str
) -> Iterator[tuple[Sample, FrameObjects]]:
    """Track one scene from its first sample; the state starts empty and ends with it.

    Yields:
        Each sample, and what is reported of it, in the vehicle frame of the index.
    """
    state = tracker.initial_state()
    stream = SceneStream(index, scene, image_options(config))
    for row, frame in zip(stream.rows, stream):
        objects, state = tracker.step(frame.to(device), state)
        yield index.sample(row), report_objects(frame.samples[0], objects, tracker.detector.classes)


def report_objects(frame: str, objects: Objects, classes: Sequence[str]) -> FrameObjects:
    """What a tracker reports of a frame of one stream, on the host.

    Raises:
        SynclError: it reports boxes that are none; the frame is named.
    """
    try:
        return FrameObjects.of(objects, classes)
    except SynclError as error:
        raise SynclError(f"sample '{frame}': the model reports what is no box: {error}") from error
