"""The SynCL strategy: the baseline plus a cross-attention decoder that is supervised its own way."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from syncl.layers.decoder import PARALLEL
from syncl.structures import Annotations, Predictions
from syncl.training.assignment import (
    Assignment,
    CostConfig,
    held_objects,
    matching_cost,
)
from syncl.training.losses import LossConfig, set_losses
from syncl.training.strategies import Baseline, BaselineConfig, FrameOutcome
from syncl.training.syncl.contrastive import ContrastiveConfig, InstanceContrast
from syncl.training.syncl.hybrid_matching import Candidates, one_to_many
from syncl.training.syncl.query_filtering import mixture_threshold


@dataclass(frozen=True)
class SynclConfig:
    """SynCL's settings; the defaults are the paper's where it gives them.

    Attributes:
        cost: matching cost of both decoders.
        loss: losses of both decoders.
        queries_per_object: K, object queries an object may have (table 6).
        cross_weight: weight of the cross-attention decoder's losses.
        contrastive: instance-aware contrastive learning.
        release_m: see `BaselineConfig`.
    """

    cost: CostConfig = field(default_factory=CostConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    queries_per_object: int = 5
    cross_weight: float = 1.0
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    release_m: float = 0.0

    def build(self, dim: int) -> "SynCL":
        """Build the strategy for queries of `dim` channels."""
        return SynCL(self, dim)


class SynCL(Baseline):
    """Section 3 of the method. The standard decoder is trained exactly as `Baseline` does."""

    groups = PARALLEL

    def __init__(self, config: SynclConfig, dim: int) -> None:
        super().__init__(BaselineConfig(config.cost, config.loss, config.release_m))
        self.syncl = config
        self.contrast = InstanceContrast(dim, config.contrastive)

    def forward(
        self, predictions: tuple[Predictions, ...], annotations: Annotations, track_identities: Tensor
    ) -> FrameOutcome:
        """See `Strategy.forward`; `predictions` are the standard and the cross-attention decoder's."""
        standard, cross = predictions
        assignment, ties = self.assign(standard, annotations, track_identities)
        losses = set_losses(standard, assignment, annotations, self.config.loss)

        objects = annotations.labels.shape[1]
        persistent = held_objects(ties, objects) & annotations.valid
        candidates = self.reliable_pairs(cross, annotations, persistent)
        hybrid = hybrid_assignment(cross, candidates, ties, assignment, persistent)
        for name, value in set_losses(cross, hybrid, annotations, self.config.loss).items():
            losses[f"cross_{name}"] = self.syncl.cross_weight * value
        losses["contrast"] = self._contrast(cross, candidates, ties)
        return FrameOutcome(losses, self.identities(standard, assignment, annotations, track_identities))

    def reliable_pairs(self, cross: Predictions, annotations: Annotations, persistent: Tensor) -> Candidates:
        """One-to-many candidates of the cross-attention decoder that survive the filter."""
        cost = matching_cost(cross, annotations, self.config.cost)[:, :, : cross.object_count]
        candidates = one_to_many(cost, persistent, self.syncl.queries_per_object)
        threshold = mixture_threshold(candidates.costs.flatten(2), candidates.valid.flatten(2))
        return candidates.keep(candidates.costs <= threshold[..., None, None])

    def _contrast(self, cross: Predictions, candidates: Candidates, ties: Tensor) -> Tensor:
        """Contrastive loss of the kept pairs, in the last layer or in all."""
        first = 0 if self.syncl.contrastive.all_layers else cross.logits.shape[0] - 1
        embeddings = cross.embeddings[first:]
        layers, _, _, dim = embeddings.shape
        rows = candidates.rows[first:].flatten(2)
        objects = embeddings.gather(2, rows[..., None].expand(-1, -1, -1, dim))
        tracks = embeddings[:, :, cross.object_count :]
        holder = track_of_object(ties, candidates.rows.shape[2])
        per_pair = candidates.rows.shape[3]
        positives = holder.repeat_interleave(per_pair, dim=1).expand(layers, -1, -1)
        pair_valid = candidates.valid[first:].flatten(2) & (positives >= 0)
        track_valid = cross.valid[:, cross.object_count :].expand(layers, -1, -1)
        loss: Tensor = self.contrast(objects, tracks, positives.clamp(min=0), pair_valid, track_valid)
        return loss


def track_of_object(ties: Tensor, objects: int) -> Tensor:
    """[B, M] int64: the track query that holds each object, -1 = none; the inverse of ties [B, N]."""
    holder = torch.full((ties.shape[0], objects + 1), -1, dtype=torch.int64, device=ties.device)
    index = torch.arange(ties.shape[1], device=ties.device).expand_as(ties)
    holder.scatter_(1, torch.where(ties >= 0, ties, objects), index)
    return holder[:, :objects]


def hybrid_assignment(
    cross: Predictions, candidates: Candidates, ties: Tensor, standard: Assignment, persistent: Tensor
) -> Assignment:
    """Targets of the cross-attention decoder.

    Object queries have the candidates' targets, track queries their own objects, all others background. Two
    kinds of rows carry no loss here: object queries which the standard decoder ties to a new-born object (the
    shared heads would be told opposite things of them), and whole streams that hold no persistent object,
    such as a clip's first frame.
    """
    layers = cross.logits.shape[0]
    object_targets = candidates.targets(cross.object_count)
    targets = torch.cat([object_targets, ties.expand(layers, -1, -1)], dim=2)
    new_born = (standard.targets >= 0) & (targets < 0)
    supervised = cross.valid & persistent.any(1, keepdim=True)
    return Assignment(targets, supervised.expand(layers, -1, -1) & ~new_born)
