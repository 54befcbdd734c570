"""Ground truth of frames, and clips of consecutive frames with theirs."""

from dataclasses import dataclass

from torch import Tensor

from syncl.structures.frame import Frame
from syncl.structures.tensors import TensorStructure


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
    """

    boxes: Tensor
    labels: Tensor
    identities: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Clip(TensorStructure):
    """T consecutive frames of B streams with their annotations; frames of one stream never change scene."""

    frames: tuple[Frame, ...]
    annotations: tuple[Annotations, ...]

    @property
    def length(self) -> int:
        """Number of frames T."""
        return len(self.frames)
