"""What a configuration does for whoever runs an exported step of its detector, without weights.

What such a step is told beyond every step's inputs its detector names (`Detector.told_inputs`).
"""

from typing import Protocol, runtime_checkable

from torch import Tensor

from syncl.detectors.passed import DetectorMemory
from syncl.structures import Frame, Objects


@runtime_checkable
class Precomputing(Protocol):
    """A configuration that can say without weights what its detector's steps are told."""

    def precomputed(self, frame: Frame, memory: DetectorMemory | None) -> dict[str, Tensor]:
        """See `Detector.precomputed`."""
        ...


@runtime_checkable
class Settling(Protocol):
    """A configuration whose detector's steps of fixed shapes leave a choice among objects to the host."""

    def settled(self, objects: Objects, most: int) -> Objects:
        """The objects [B, N] of a step that stay, at most so many, best first."""
        ...
