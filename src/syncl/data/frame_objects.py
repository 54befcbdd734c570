"""What is reported of one moment: the one form of it that results, recordings and pictures share."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from syncl.errors import SynclError
from syncl.geometry.poses import move_boxes, move_places

if TYPE_CHECKING:
    # Reading results and evaluating them must not need torch.
    from syncl.structures import Objects

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FrameObjects:
    """What is reported of N objects at one moment, on the host.

    Attributes:
        boxes: [N, 9] float64 box layout (`geometry.boxes`): the vehicle frame of the moment unless whoever
            gives them says otherwise. Velocities may be nan (unknown).
        classes: N class names.
        scores: [N] float64.
        identities: N names; equal names in different frames of a scene are the same object. Empty for plain
            detections.
        forecasts: [N, F, 2] float64 centres in the ground plane that are expected next, in time order,
            frame of the boxes, metres; nan where none is known. None: nobody forecasts.

    Raises:
        SynclError: numbers that do not fit together, positions, sizes or headings that are not finite, or
            sizes that are not positive; the row is named.
    """

    boxes: Array
    classes: tuple[str, ...]
    scores: Array
    identities: tuple[str, ...]
    forecasts: Array | None = None

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float64)
        if boxes.size == 0:
            boxes = boxes.reshape(0, 9)
        scores = np.asarray(self.scores, np.float64).reshape(-1)
        if boxes.ndim != 2 or boxes.shape[1] != 9:
            raise SynclError(f"FrameObjects.boxes: shape {boxes.shape}, expected (N, 9)")
        counts = (len(boxes), len(self.classes), len(scores), len(self.identities))
        if len(set(counts)) > 1:
            raise SynclError(f"FrameObjects: boxes, classes, scores, identities differ in number: {counts}")
        if not np.isfinite(boxes[:, :7]).all():
            row = int(np.argmin(np.isfinite(boxes[:, :7]).all(axis=1)))
            raise SynclError(f"FrameObjects.boxes: row {row} is not finite: {boxes[row].tolist()}")
        if (boxes[:, 3:6] <= 0).any():
            row = int(np.argmax((boxes[:, 3:6] <= 0).any(axis=1)))
            raise SynclError(
                f"FrameObjects.boxes: row {row} has size {boxes[row, 3:6].tolist()}; sizes must be positive"
            )
        if self.forecasts is not None:
            forecasts = np.asarray(self.forecasts, np.float64)
            if forecasts.ndim != 3 or forecasts.shape[::2] != (len(boxes), 2):
                raise SynclError(
                    f"FrameObjects.forecasts: shape {forecasts.shape}, expected ({len(boxes)}, F, 2)"
                )
            object.__setattr__(self, "forecasts", forecasts)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "classes", tuple(self.classes))
        object.__setattr__(self, "identities", tuple(self.identities))

    @property
    def count(self) -> int:
        """Number of boxes N."""
        return len(self.boxes)

    def select(self, keep: NDArray[np.bool_]) -> "FrameObjects":
        """The rows where `keep` [N] is true."""
        rows = np.flatnonzero(keep)
        return FrameObjects(
            boxes=self.boxes[rows],
            classes=tuple(self.classes[row] for row in rows),
            scores=self.scores[rows],
            identities=tuple(self.identities[row] for row in rows),
            forecasts=None if self.forecasts is None else self.forecasts[rows],
        )

    def chosen(self, min_score: float | None, classes: Sequence[str] = ()) -> "FrameObjects":
        """Those of some classes (all if none is named) that reach a score.

        Args:
            min_score: least score; None takes all.
            classes: names.
        """
        if min_score is None and not classes:
            return self
        of_class = np.array([not classes or name in classes for name in self.classes], np.bool_)
        return self.select(of_class & (self.scores >= (-np.inf if min_score is None else min_score)))

    def moved(self, destination_from_source: Array) -> "FrameObjects":
        """The same objects in another frame, by a rigid transform [4, 4]."""
        ahead = self.forecasts
        if ahead is not None:
            ahead = move_places(destination_from_source, ahead, self.boxes[:, 2])
        boxes = move_boxes(destination_from_source, self.boxes)
        return dataclasses.replace(self, boxes=boxes, forecasts=ahead)

    @staticmethod
    def of(objects: "Objects", classes: Sequence[str], stream: int = 0) -> "FrameObjects":
        """What a tracker reported of one stream, without padding.

        Args:
            objects: on any device.
            classes: names of the model's classes.
            stream: which of its B streams.
        """
        host = objects.to("cpu")
        valid = host.valid[stream]
        numbers = host.identities[stream, valid].tolist()
        return FrameObjects(
            boxes=host.boxes[stream, valid].double().numpy(),
            classes=tuple(classes[label] for label in host.labels[stream, valid].tolist()),
            scores=host.scores[stream, valid].double().numpy(),
            identities=tuple("" if number < 0 else str(number) for number in numbers),
            forecasts=None if host.forecasts is None else host.forecasts[stream, valid].double().numpy(),
        )

    @staticmethod
    def empty() -> "FrameObjects":
        """No boxes."""
        return FrameObjects(np.zeros((0, 9)), (), np.zeros(0), ())
