"""What is drawn of one moment, as plain arrays and names."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.data.frame_objects import FrameObjects
from syncl.errors import SynclError

Image = NDArray[np.uint8]
Floats = NDArray[np.float64]


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
        detections: whether objects are detections, which are called so in frames without any as well.
        counted: [N] bool; False = the object is neither right nor wrong where errors are marked, such as one
            beyond the range of its class or a bicycle in a rack. None: all count.
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
    detections: bool = False
    counted: NDArray[np.bool_] | None = None

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
        for name, expected in (("image_from_vehicle", (count, 4, 4)), ("global_from_vehicle", (4, 4))):
            if (shape := getattr(self, name).shape) != expected:
                raise SynclError(f"RenderFrame.{name}: shape {shape}, expected {expected}")
        if self.counted is not None and self.counted.shape != (self.objects.count,):
            raise SynclError(
                f"RenderFrame.counted: shape {self.counted.shape}, expected ({self.objects.count},)"
            )
        for name, image in zip(self.cameras, self.images):
            if image is not None and (
                image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0
            ):
                raise SynclError(
                    f"RenderFrame.images: {name} has dtype {image.dtype} and shape {image.shape}, "
                    "expected uint8 (H, W, 3)"
                )
