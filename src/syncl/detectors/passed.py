"""What passes between a detector and its callers: features of a frame, and memory of those before.

Letters: B batch, C cameras.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Self, TypeVar

from torch import Tensor, nn

from syncl.errors import SynclError
from syncl.structures import Frame
from syncl.structures.tensors import TensorStructure

Structure = TypeVar("Structure", bound=TensorStructure)


@dataclass(frozen=True)
class Features(TensorStructure):
    """What decoding needs of a frame. Each detector adds its own fields.

    Attributes:
        image_from_vehicle: [B, C, 4, 4] float64 pixel projections.
        camera_valid: [B, C] bool.
        image_size: (H, W) of the images in pixels, padding included.
        auxiliary: what auxiliary heads say of the images, one structure a head; losses look for theirs.
    """

    image_from_vehicle: Tensor
    camera_valid: Tensor
    image_size: tuple[int, int]
    auxiliary: tuple[TensorStructure, ...]

    def found(self, kind: type[Structure]) -> Structure | None:
        """The auxiliary head's output of this kind; None where there is no such head."""
        return next((part for part in self.auxiliary if isinstance(part, kind)), None)


class DetectorMemory(TensorStructure, ABC):
    """What a temporal detector remembers of earlier frames. Each adds its own fields, all [B, ...].

    Attributes:
        kept_by_caller: fields in float64 that no exported step is told.
    """

    kept_by_caller: ClassVar[tuple[str, ...]] = ()

    @abstractmethod
    def keep(self, streams: Tensor) -> Self:
        """This memory with the streams emptied where `streams` [B] bool is False."""

    def rebased(self, new_from_global: Tensor, start_s: Tensor) -> Self:  # noqa: ARG002
        """The same memory, with its places in another global frame and its times by another clock.

        So that what is exported can do with float32: metres from the vehicle, and seconds ago.

        Args:
            new_from_global: [B, 4, 4] float64.
            start_s: [B] float64 what the new clock calls 0.

        Raises:
            SynclError: if it depends on the global frame itself. So it is here.
        """
        raise SynclError(f"{type(self).__name__} is tied to its global frame, and cannot be exported")

    def left_at(self, frame: Frame) -> Self:  # noqa: ARG002
        """The memory behind a frame of a step that was told what it needs of the map
        (`Detector.precomputed`), and so could not remember it.
        """
        return self


def own(kind: type[Structure], value: object, owner: nn.Module) -> Structure:
    """A detector's own kind of features or memory, which callers know by its base class only.

    Raises:
        TypeError: if it is another detector's.
    """
    if not isinstance(value, kind):
        raise TypeError(f"{type(owner).__name__} takes {kind.__name__}, got {type(value).__name__}")
    return value
