"""What is drawn of one moment, as plain arrays and names."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.errors import SynclError

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]


@dataclass(frozen=True)
class FrameObjects:
    """N boxes with their classes, scores and identities.

    Attributes:
        boxes: [N, 9] float64 (x, y, z, l, w, h, yaw, vx, vy), vehicle frame, metres, radians, m/s. Velocities
            may be nan (unknown).
        labels: N class names.
        scores: [N] float64 in [0, 1].
        identities: N names; equal names in different frames of a scene are the same object. Empty for plain
            detections.
        forecasts: [N, F, 2] float64 centres in the ground plane that are expected next, in time order,
            vehicle frame of this moment, metres; nan where none is known. None: nobody forecasts.
    """

    boxes: Floats
    labels: tuple[str, ...]
    scores: Floats
    identities: tuple[str, ...]
    forecasts: Floats | None = None

    def __post_init__(self) -> None:
        boxes = np.asarray(self.boxes, np.float64)
        if boxes.size == 0:
            boxes = boxes.reshape(0, 9)
        scores = np.asarray(self.scores, np.float64).reshape(-1)
        if boxes.ndim != 2 or boxes.shape[1] != 9:
            raise SynclError(f"FrameObjects.boxes: shape {boxes.shape}, expected (N, 9)")
        counts = (len(boxes), len(self.labels), len(scores), len(self.identities))
        if len(set(counts)) > 1:
            raise SynclError(f"FrameObjects: boxes, labels, scores and identities differ in number: {counts}")
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
        object.__setattr__(self, "labels", tuple(self.labels))
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
            labels=tuple(self.labels[row] for row in rows),
            scores=self.scores[rows],
            identities=tuple(self.identities[row] for row in rows),
            forecasts=None if self.forecasts is None else self.forecasts[rows],
        )

    @staticmethod
    def empty() -> "FrameObjects":
        """No boxes."""
        return FrameObjects(np.zeros((0, 9)), (), np.zeros(0), ())


@dataclass(frozen=True)
class RenderFrame:
    """One moment to draw.

    Attributes:
        images: C uint8 RGB images [H, W, 3] of any sizes; None where a camera delivered nothing.
        cameras: C camera names.
        image_from_vehicle: [C, 4, 4] float64: (u d, v d, d, 1) = M (x, y, z, 1), in pixels of `images`.
        global_from_vehicle: [4, 4] float64 ego pose.
        timestamp_s: seconds, in the same clock for all frames of a scene.
        objects: the tracks or detections.
        ground_truth: the annotated objects, or None where there are none to show.
        scene: name shown in the title bar.
        title: what is shown, such as the model's name (title bar); may be empty.
        number: position of this frame in its scene, from 1; 0 = unknown.
        total: frames in the scene; 0 = unknown.
        elapsed_s: seconds since the scene began.
    """

    images: tuple[Image | None, ...]
    cameras: tuple[str, ...]
    image_from_vehicle: Floats
    global_from_vehicle: Floats
    timestamp_s: float
    objects: FrameObjects
    ground_truth: FrameObjects | None = None
    scene: str = ""
    title: str = ""
    number: int = 0
    total: int = 0
    elapsed_s: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "images", tuple(self.images))
        object.__setattr__(self, "cameras", tuple(self.cameras))
        object.__setattr__(self, "image_from_vehicle", np.asarray(self.image_from_vehicle, np.float64))
        object.__setattr__(self, "global_from_vehicle", np.asarray(self.global_from_vehicle, np.float64))
        count = len(self.cameras)
        if count == 0:
            raise SynclError("RenderFrame.cameras: no camera; at least one is needed")
        if len(set(self.cameras)) < count:
            raise SynclError(f"RenderFrame.cameras: a name occurs twice: {', '.join(self.cameras)}")
        if len(self.images) != count:
            raise SynclError(f"RenderFrame.images: {len(self.images)} images for {count} cameras")
        if self.image_from_vehicle.shape != (count, 4, 4):
            shape = self.image_from_vehicle.shape
            raise SynclError(f"RenderFrame.image_from_vehicle: shape {shape}, expected ({count}, 4, 4)")
        if self.global_from_vehicle.shape != (4, 4):
            shape = self.global_from_vehicle.shape
            raise SynclError(f"RenderFrame.global_from_vehicle: shape {shape}, expected (4, 4)")
        for name, image in zip(self.cameras, self.images):
            if image is None:
                continue
            if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
                raise SynclError(
                    f"RenderFrame.images: {name} has dtype {image.dtype} and shape {image.shape}, "
                    "expected uint8 (H, W, 3)"
                )
