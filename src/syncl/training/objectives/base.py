"""The contract of objectives."""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from torch import Tensor

from syncl.detectors import Detector
from syncl.structures import Annotations, Outcome, Queries
from syncl.trackers.look import Decoded


class Objective(ABC):
    """Losses of a frame beside those of the strategy.

    Objectives that reduce over processes do so in every frame, whatever it holds: a process that left one out
    would keep the others waiting for ever.
    """

    def further_queries(self, _detector: Detector, _annotations: Annotations, /) -> Queries | None:
        """Queries [B, F, ...] to decode beside the frame's own (`Decoded.further`); None = no others."""
        return None

    @abstractmethod
    def __call__(self, decoded: Decoded, outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        """Losses by name, weights included; none where the frame has nothing of what they are about.

        Args:
            decoded: the frame.
            outcome: what the strategy made of it.
            annotations: of the frame.
        """


@runtime_checkable
class ObjectiveConfig(Protocol):
    """What is asked of an objective's configuration: a frozen dataclass of plain values that has this."""

    def build(self) -> Objective:
        """The objective."""
        ...
