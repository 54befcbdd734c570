"""Looks at frames whose predictions a test makes up."""

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest.mock import patch

import torch

from syncl.detectors.base import Detector
from syncl.detectors.passed import Features
from syncl.structures import Frame, Predictions, Queries, object_queries
from syncl.trackers import Decoded, Tracker, TrackState


@contextmanager
def decoding(detector: Detector, predict: Callable[[Queries], Predictions], objects: int) -> Iterator[None]:
    """A detector that sees nothing, asks `objects` empty object queries and predicts what it is told."""

    def encode(frame: Frame, _memory: object = None) -> Features:
        return Features(frame.rig.image_from_vehicle, frame.camera_valid, frame.image_size, ())

    def initial_queries(features: Features) -> Queries:
        nothing = torch.zeros(len(features.camera_valid), objects, detector.dim)
        return object_queries(nothing, nothing, nothing[..., :3])

    def decode(queries: Queries, *_: object) -> tuple[Predictions, ...]:
        return (predict(queries),)

    with (
        patch.object(detector, "encode", encode),
        patch.object(detector, "initial_queries", initial_queries),
        patch.object(detector, "decode", decode),
    ):
        yield


def look_with(
    tracker: Tracker,
    frame: Frame,
    state: TrackState,
    predict: Callable[[Queries], Predictions],
    objects: int,
) -> Decoded:
    """A tracker's look at a frame in which its detector's decoder says what `predict` makes up."""
    with decoding(tracker.detector, predict, objects):
        return tracker.look(frame, state)


def entered(tracker: Tracker, frame: Frame, state: TrackState) -> TrackState:
    """The state at a frame, before the frame is looked at."""
    return tracker.arrive(frame, state)


def same(first: object, second: object) -> bool:
    """Whether two structures are equal to the last bit, with all that is in them."""
    if isinstance(first, torch.Tensor):
        return isinstance(second, torch.Tensor) and torch.equal(first, second)
    if dataclasses.is_dataclass(first):
        names = [field.name for field in dataclasses.fields(first)]
        return type(first) is type(second) and all(
            same(getattr(first, name), getattr(second, name)) for name in names
        )
    if isinstance(first, tuple) and isinstance(second, tuple):
        return len(first) == len(second) and all(map(same, first, second))
    return first == second
