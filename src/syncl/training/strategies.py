"""Strategies: how one frame's predictions and annotations become assignments and losses."""

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

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
from syncl.training.one_stage import one_stage_assignment


@dataclass(frozen=True)
class FrameOutcome:
    """What a strategy makes of a frame.

    Attributes:
        losses: scalars by name, weights included.
        identities: [B, Q] annotation identity each query is tied to after the frame, -1 = none.
        targets: [B, Q] int64 object of the frame that each query holds by the standard decoder's last layer,
            -1 = none.
    """

    losses: dict[str, Tensor]
    identities: Tensor
    targets: Tensor


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


@runtime_checkable
class StrategyConfig(Protocol):
    """What is asked of a strategy's configuration: a frozen dataclass of plain values that has this."""

    def build(self, dim: int) -> Strategy:
        """The strategy for queries of `dim` channels."""
        ...


@dataclass(frozen=True)
class BaselineConfig:
    """Tracking by attention as published: one decoder, one-to-one matching.

    Attributes:
        cost: matching cost.
        loss: loss weights.
        release_m: a query whose predicted centre ends a frame farther than this from its object lets go of
            it, so that the object is new-born in the next frame; 0 = never, as published. Small models,
            whose queries often end far off, learn from it that a track without its object has a low score.
    """

    cost: CostConfig = field(default_factory=CostConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    release_m: float = 0.0

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
        identities = self.identities(predictions[0], assignment, annotations, track_identities)
        return FrameOutcome(losses, identities, assignment.targets[-1])

    def identities(
        self,
        predictions: Predictions,
        assignment: Assignment,
        annotations: Annotations,
        track_identities: Tensor,
    ) -> Tensor:
        """Identity [B, Q] every query holds after the frame, -1 = none or released."""
        identities = identities_after(assignment, track_identities, annotations)
        if self.config.release_m <= 0 or annotations.labels.shape[1] == 0:
            return identities
        target = assignment.targets[-1]
        centres = annotations.boxes[..., :2].gather(1, target.clamp(min=0)[..., None].expand(-1, -1, 2))
        distance = (predictions.codes[-1, ..., :2].detach() - centres).norm(dim=-1)
        return identities.masked_fill((target >= 0) & (distance > self.config.release_m), -1)

    def assign(
        self, predictions: Predictions, annotations: Annotations, track_identities: Tensor
    ) -> tuple[Assignment, Tensor]:
        """The standard decoder's assignment, and the object [B, N] each track query holds (-1 = none)."""
        track_valid = predictions.valid[:, predictions.object_count :]
        ties = tie_by_identity(track_identities, track_valid, annotations)
        if predictions.detection_logits is not None:
            config = self.config.cost
            return one_stage_assignment(predictions, ties, track_identities, annotations, config), ties
        cost = matching_cost(predictions, annotations, self.config.cost)
        assignment = standard_assignment(cost, ties, track_identities, predictions.valid, annotations)
        return assignment, ties
