"""The baseline: tracking by attention as published."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.structures import Annotations, Outcome, Predictions, Queries
from syncl.trackers.ada_track.association import Affinities
from syncl.trackers.look import Decoded, Guide
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
from syncl.training.strategies.decoupled import decoupled_assignment, decoupled_losses
from syncl.training.strategies.one_stage import one_stage_assignment
from syncl.training.strategies.one_track.coordination import Polarity, coordinated_losses
from syncl.training.strategies.one_track.two_tasks import TwoTasksConfig, two_task_assignment


@dataclass(frozen=True)
class BaselineConfig:
    """Tracking by attention as published: one decoder, one-to-one matching.

    Attributes:
        cost: matching cost.
        loss: loss weights.
        release_m: a query whose predicted centre ends a frame farther than this from its object lets go of
            it, so that the object is new-born in the next frame; 0 = never, as published. Small models,
            whose queries often end far off, learn from it that a track without its object has a low score.
        two_tasks: OneTrack's supervision of two class heads; None = SynCL's reproduction of it (table 8)
            where the tracker has two.
    """

    cost: CostConfig = field(default_factory=CostConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    release_m: float = 0.0
    two_tasks: TwoTasksConfig | None = None

    def check(self) -> None:
        """Refuse settings that contradict one another.

        Raises:
            SynclError: with the reason.
        """
        if self.two_tasks is not None:
            self.two_tasks.check()

    def build(self, _dim: int, /) -> "Baseline":
        """Build the strategy, which has no parameters and so needs no channels."""
        return Baseline(self)


class Baseline(Strategy):
    """Section 2 of the method: identities for tracks, Hungarian matching for the new-born."""

    def __init__(self, config: BaselineConfig) -> None:
        super().__init__()
        self.config = config

    def guide(self, _annotations: Annotations) -> Guide | None:
        """OneTrack's mask groups queries by their assignment, while its settings say so."""
        tasks = self.config.two_tasks
        if tasks is None or tasks.is_predicted(self.progress):
            return None
        return _AssignedPolarity(self, _annotations)

    def forward(self, decoded: Decoded, annotations: Annotations) -> Outcome:
        """See `Strategy.forward`."""
        assignment, _ = self.assign(decoded, annotations)
        losses = self.losses(decoded, assignment, annotations)
        return Outcome(losses, self.identities(decoded, assignment, annotations), assignment.targets)

    def losses(self, decoded: Decoded, assignment: Assignment, annotations: Annotations) -> dict[str, Tensor]:
        """The standard decoder's losses."""
        config, tasks = self.config.loss, self.config.two_tasks
        if isinstance(decoded.reasoned, Affinities):
            return decoupled_losses(decoded.standard, assignment, annotations, config)
        if tasks is None:
            return set_losses(decoded.standard, assignment, annotations, config)
        return coordinated_losses(
            decoded.standard, assignment, annotations, config, tasks.coordination, decoded.reasoned
        )

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
        predictions, identities = decoded.standard, decoded.track_identities
        if isinstance(decoded.reasoned, Affinities) and self.config.two_tasks is None:
            return decoupled_assignment(predictions, identities, annotations, self.config.cost)
        return self.match(predictions, identities, annotations)

    def match(
        self, predictions: Predictions, track_identities: Tensor, annotations: Annotations
    ) -> tuple[Assignment, Tensor]:
        """The same of predictions whose last N queries are tracks with these identities [B, N].

        Raises:
            SynclError: if OneTrack's supervision is asked for and the tracker has one class head.
        """
        config, tasks = self.config.cost, self.config.two_tasks
        track_valid = predictions.valid[:, predictions.object_count :]
        ties = tie_by_identity(track_identities, track_valid, annotations)
        if predictions.detection_logits is None:
            if tasks is not None:
                raise SynclError(
                    "strategy: two_tasks needs a tracker with two class heads; choose OneTrack or set "
                    "model.tracker.tracking_head=true"
                )
            cost = matching_cost(predictions, annotations, config)
            assignment = standard_assignment(cost, ties, track_identities, predictions.valid, annotations)
            return assignment, ties
        if tasks is None or tasks.detects == "object_queries":
            return one_stage_assignment(predictions, ties, track_identities, annotations, config), ties
        assignment = two_task_assignment(
            predictions, ties, track_identities, annotations, config, tasks, self.progress
        )
        return assignment, ties


class _AssignedPolarity:
    """What supervision makes of a decoder layer (`Guide`)."""

    def __init__(self, strategy: Baseline, annotations: Annotations) -> None:
        self._strategy = strategy
        self._annotations = annotations

    def polarity(self, predictions: Predictions, queries: Queries, /) -> tuple[Tensor, Tensor]:
        """See `Guide.polarity`."""
        tracks = queries.identities[:, queries.object_count :]
        with torch.autocast(tracks.device.type, enabled=False):
            assignment, _ = self._strategy.match(predictions, tracks, self._annotations)
        groups = Polarity.of(assignment)
        return (groups.both | groups.detected)[0], (groups.both | groups.tracked)[0]
