"""The contract of strategies: how one decoded frame and its annotations become assignments and losses."""

from abc import ABC, abstractmethod
from typing import Protocol, runtime_checkable

from torch import nn

from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import Annotations, Outcome
from syncl.trackers.look import Decoded, Guide


class Strategy(nn.Module, ABC):
    """Base of training strategies. Their parameters exist in training only.

    Attributes:
        groups: the decoders that have to run.
        progress: how much of the training is done, in [0, 1); the loop says so before every step.
    """

    groups: Groups = STANDARD
    progress: float = 0.0

    def guide(self, annotations: Annotations) -> Guide | None:  # noqa: ARG002
        """What a tracker is told in the middle of a look at an annotated frame; None = nothing."""
        return None

    @abstractmethod
    def forward(self, decoded: Decoded, annotations: Annotations) -> Outcome:
        """Losses and assignments of one frame.

        Args:
            decoded: the frame, with predictions of each of `groups`.
            annotations: of the frame.
        """


@runtime_checkable
class StrategyConfig(Protocol):
    """What is asked of a strategy's configuration: a frozen dataclass of plain values that has this."""

    def build(self, dim: int, /) -> Strategy:
        """The strategy for queries of `dim` channels."""
        ...
