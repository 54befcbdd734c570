"""The baseline: tracking by attention as published."""

from dataclasses import dataclass, field

from torch import Tensor

from syncl.structures import Annotations, Outcome
from syncl.trackers.base import Decoded
from syncl.training.assignment import (
    Assignment,
    CostConfig,
    identities_after,
    matching_cost,
    standard_assignment,
    tie_by_identity,
)
from syncl.training.losses import LossConfig, set_losses
from syncl.training.strategies.base import Strategy
from syncl.training.strategies.one_stage import one_stage_assignment


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

    def build(self, _dim: int, /) -> "Baseline":
        """Build the strategy, which has no parameters and so needs no channels."""
        return Baseline(self)


class Baseline(Strategy):
    """Section 2 of the method: identities for tracks, Hungarian matching for the new-born."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config

    def forward(self, decoded: Decoded, annotations: Annotations) -> Outcome:
        """See `Strategy.forward`."""
        assignment, _ = self.assign(decoded, annotations)
        losses = set_losses(decoded.standard, assignment, annotations, self.config.loss)
        return Outcome(losses, self.identities(decoded, assignment, annotations), assignment.targets[-1])

    def identities(self, decoded: Decoded, assignment: Assignment, annotations: Annotations) -> Tensor:
        """Identity [B, Q] every query holds after the frame, -1 = none or released."""
        predictions = decoded.standard
        identities = identities_after(assignment, decoded.track_identities, annotations)
        if self.config.release_m <= 0 or annotations.labels.shape[1] == 0:
            return identities
        target = assignment.targets[-1]
        centres = annotations.boxes[..., :2].gather(1, target.clamp(min=0)[..., None].expand(-1, -1, 2))
        distance = (predictions.codes[-1, ..., :2].detach() - centres).norm(dim=-1)
        return identities.masked_fill((target >= 0) & (distance > self.config.release_m), -1)

    def assign(self, decoded: Decoded, annotations: Annotations) -> tuple[Assignment, Tensor]:
        """The standard decoder's assignment, and the object [B, N] each track query holds (-1 = none)."""
        predictions, track_identities = decoded.standard, decoded.track_identities
        track_valid = predictions.valid[:, predictions.object_count :]
        ties = tie_by_identity(track_identities, track_valid, annotations)
        if predictions.detection_logits is not None:
            config = self.config.cost
            return one_stage_assignment(predictions, ties, track_identities, annotations, config), ties
        cost = matching_cost(predictions, annotations, self.config.cost)
        assignment = standard_assignment(cost, ties, track_identities, predictions.valid, annotations)
        return assignment, ties
