"""Ground truth of frames, and clips of consecutive frames with theirs."""

from dataclasses import dataclass

from torch import Tensor

from syncl.structures.frame import Frame
from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class Trajectories(TensorStructure):
    """Where annotated objects are now and at the next F frames.

    Attributes:
        centres: [B, M, F + 1, 3] float32 metres, all in the vehicle frame of the present frame; entry 0 is
            now.
        valid: [B, M, F + 1] bool; False where the object is not annotated at that frame.
    """

    centres: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Annotations(TensorStructure):
    """Annotated objects of B frames, padded to M.

    Attributes:
        boxes: [B, M, 9] float32 in the box layout (`geometry.boxes`), vehicle frame; unknown velocities
            are 0.
        labels: [B, M] int64 class index.
        identities: [B, M] int64, one number an object for its whole life, unique in the dataset; -1 =
            padding.
        valid: [B, M] bool; False = padding.
        trajectories: of the same objects, for trackers that forecast; None where nobody asked for them.
        depths: [B, C, H, W] float32 metres, the nearest that a lidar measured in each cell of the images, 0
            where it measured none; None where nobody asked for them.
    """

    boxes: Tensor
    labels: Tensor
    identities: Tensor
    valid: Tensor
    trajectories: Trajectories | None = None
    depths: Tensor | None = None


@dataclass(frozen=True)
class Clip(TensorStructure):
    """T consecutive frames of B streams with their annotations; frames of one stream never change scene."""

    frames: tuple[Frame, ...]
    annotations: tuple[Annotations, ...]

    @property
    def length(self) -> int:
        """Number of frames T."""
        return len(self.frames)
