"""Strategies: how one frame's predictions and annotations become assignments and losses."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field

from torch import Tensor, nn

from syncl.layers.decoder import STANDARD, Groups
from syncl.structures import Annotations, Predictions
from syncl.training.assignment import (
    Assignment,
    CostConfig,
    identities_after,
    matching_cost,
    standard_assignment,
    tie_by_identity,
)
from syncl.training.losses import LossConfig, set_losses


@dataclass(frozen=True)
class FrameOutcome:
    """What a strategy makes of a frame.

    Attributes:
        losses: scalars by name, weights included.
        identities: [B, Q] annotation identity each query is tied to after the frame, -1 = none.
    """

    losses: dict[str, Tensor]
    identities: Tensor


class Strategy(nn.Module, ABC):
    """Base of training strategies. Their parameters exist in training only.

    Attributes:
        groups: the decoders that have to run.
    """

    groups: Groups = STANDARD

    @abstractmethod
    def forward(
        self, predictions: tuple[Predictions, ...], annotations: Annotations, track_identities: Tensor
    ) -> FrameOutcome:
        """Losses and assignments of one frame.

        Args:
            predictions: one for each of `groups`.
            annotations: of the frame.
            track_identities: [B, N] annotation identity of each track query, -1 = none.
        """


@dataclass(frozen=True)
class BaselineConfig:
    """Tracking by attention as published: one decoder, one-to-one matching."""

    cost: CostConfig = field(default_factory=CostConfig)
    loss: LossConfig = field(default_factory=LossConfig)

    def build(self, dim: int) -> "Baseline":  # noqa: ARG002
        """Build the strategy for queries of `dim` channels."""
        return Baseline(self)


class Baseline(Strategy):
    """Section 2 of the method: identities for tracks, Hungarian matching for the new-born."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config

    def forward(
        self, predictions: tuple[Predictions, ...], annotations: Annotations, track_identities: Tensor
    ) -> FrameOutcome:
        """See `Strategy.forward`."""
        assignment, _ = self.assign(predictions[0], annotations, track_identities)
        losses = set_losses(predictions[0], assignment, annotations, self.config.loss)
        return FrameOutcome(losses, identities_after(assignment, track_identities, annotations))

    def assign(
        self, predictions: Predictions, annotations: Annotations, track_identities: Tensor
    ) -> tuple[Assignment, Tensor]:
        """The standard decoder's assignment, and the object [B, N] each track query holds (-1 = none)."""
        cost = matching_cost(predictions, annotations, self.config.cost)
        track_valid = predictions.valid[:, predictions.object_count :]
        ties = tie_by_identity(track_identities, track_valid, annotations)
        assignment = standard_assignment(cost, ties, track_identities, predictions.valid, annotations)
        return assignment, ties
