"""The SynCL strategy: the baseline plus a cross-attention decoder that is supervised its own way.

Its settings have every switch of the paper's ablations among them.
"""

from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.layers.decoder import PARALLEL, STANDARD
from syncl.structures import Annotations, Outcome, Predictions
from syncl.trackers.look import Decoded
from syncl.training.assignment import Assignment, CostConfig, held_objects, matching_cost
from syncl.training.losses import LossConfig, set_losses
from syncl.training.strategies import Baseline, BaselineConfig
from syncl.training.strategies.one_track import TwoTasksConfig
from syncl.training.strategies.syncl.contrastive import ContrastiveConfig, InstanceContrast
from syncl.training.strategies.syncl.hybrid_matching import Candidates, one_to_many, one_to_one
from syncl.training.strategies.syncl.other_filters import atss, candidate_overlaps, fixed_cost, simota
from syncl.training.strategies.syncl.query_filtering import mixture_threshold

Decoder = Literal["cross_only", "standard"]
Range = Literal["persistent", "new_born", "all", "none"]
Filter = Literal["mixture", "fixed_cost", "simota", "atss", "none"]
Dropped = Literal["background", "ignored"]
Parts = Literal["both", "class", "box"]


@dataclass(frozen=True)
class SynclConfig:
    """The defaults are the paper's method; each switch names the table that it re-runs.

    Attributes:
        cost: matching cost of both decoders.
        loss: losses of both decoders.
        decoder: who gets the added matching: the parallel cross-attention decoder, or the standard one, which
            then has no other beside it (table 5).
        objects: which objects the added matching gives to object queries (table 5); `none` leaves that part
            out (table 4a, detection).
        one_to_many: whether an object may have several queries (table 5).
        queries_per_object: K, how many (table 6).
        tracks: whether track queries are supervised in the cross-attention decoder (table 4a, tracking).
        filter: which of the candidates stay (table 4b).
        dropped: what becomes of object queries whose pair the filter takes out: they are background, or carry
            no loss in the cross-attention decoder.
        false_tracks: the same of track queries that never held an object, with which `ClipNoise` disturbs
            training. Many lie on objects that another track holds, which the cross-attention decoder cannot
            see.
        filter_cost: the limit of `fixed_cost`; the paper does not give DETA's.
        cross_weight: weight of the cross-attention decoder's losses.
        cross_parts: which of them are learned from; the paper has both.
        contrastive: instance-aware contrastive learning; weight 0 leaves it out (table 4a).
        release_m: see `BaselineConfig`.
        two_tasks: see `BaselineConfig`; it is about the standard decoder.
    """

    cost: CostConfig = field(default_factory=CostConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    decoder: Decoder = "cross_only"
    objects: Range = "persistent"
    one_to_many: bool = True
    queries_per_object: int = 5
    tracks: bool = True
    filter: Filter = "mixture"
    dropped: Dropped = "background"
    false_tracks: Dropped = "background"
    filter_cost: float = 1.0
    cross_weight: float = 1.0
    cross_parts: Parts = "both"
    contrastive: ContrastiveConfig = field(default_factory=ContrastiveConfig)
    release_m: float = 0.0
    two_tasks: TwoTasksConfig | None = None

    def check(self) -> None:
        """Refuse combinations that make no sense.

        Raises:
            SynclError: with the reason.
        """
        if self.two_tasks is not None:
            self.two_tasks.check()
        contrast = self.contrastive.weight > 0
        if self.queries_per_object < 1:
            raise SynclError(f"strategy: queries_per_object={self.queries_per_object} must be at least 1")
        if self.decoder == "standard":
            if self.objects != "new_born":
                raise SynclError(
                    f"strategy: decoder=standard with objects={self.objects}: in the standard decoder "
                    "persistent objects belong to their track queries; choose objects=new_born"
                )
            if contrast:
                raise SynclError(
                    "strategy: decoder=standard has no cross-attention decoder for the contrastive loss; "
                    "set contrastive.weight=0"
                )
            if not self.one_to_many:
                raise SynclError(
                    "strategy: decoder=standard, objects=new_born, one_to_many=false is the baseline; "
                    "choose --strategy baseline"
                )
            if self.two_tasks is not None:
                raise SynclError(
                    "strategy: decoder=standard gives objects further queries in the decoder where two_tasks "
                    "asks which query is an object for which task; leave one of them out"
                )
            if "ignored" in (self.dropped, self.false_tracks):
                raise SynclError(
                    "strategy: decoder=standard has no cross-attention decoder whose queries could carry no "
                    "loss; leave dropped and false_tracks at background"
                )
            if self.cross_parts != "both":
                raise SynclError(
                    f"strategy: decoder=standard has no cross-attention decoder of which cross_parts="
                    f"{self.cross_parts} could be learned; leave it at both"
                )
        elif self.objects == "none" and not self.tracks:
            raise SynclError(
                "strategy: objects=none and tracks=false leave nothing to the cross-attention decoder; "
                "choose --strategy baseline"
            )
        if contrast and self.objects in ("none", "new_born"):
            raise SynclError(
                f"strategy: objects={self.objects} gives no object query the object of a track query, so the "
                "contrastive loss has no pairs; set contrastive.weight=0 or choose persistent or all"
            )
        if (self.objects == "none" or not self.one_to_many) and self.filter != "none":
            what = "objects=none" if self.objects == "none" else "one_to_many=false"
            raise SynclError(
                f"strategy: filter={self.filter} with {what}: there are no one-to-many candidates to "
                "filter; set filter=none"
            )

    def build(self, dim: int) -> "SynCL":
        """Build the strategy for queries of `dim` channels.

        Raises:
            SynclError: if the switches contradict one another.
        """
        self.check()
        return SynCL(self, dim)


class SynCL(Baseline):
    """Section 3 of the method. The standard decoder is trained exactly as `Baseline` does, unless
    `SynclConfig.decoder` puts the added matching there.
    """

    def __init__(self, config: SynclConfig, dim: int) -> None:
        super().__init__(BaselineConfig(config.cost, config.loss, config.release_m, config.two_tasks))
        self.syncl = config
        self.groups = PARALLEL if config.decoder == "cross_only" else STANDARD
        self.contrast = InstanceContrast(dim, config.contrastive) if config.contrastive.weight > 0 else None

    def forward(self, decoded: Decoded, annotations: Annotations) -> Outcome:
        """See `Strategy.forward`; predictions are the standard and the cross-attention decoder's."""
        matched = decoded.predictions[-1]
        assignment, ties = self.assign(decoded, annotations)
        persistent = held_objects(ties, annotations.labels.shape[1]) & annotations.valid
        wanted = objects_in_range(self.syncl.objects, persistent, annotations.valid)
        candidates = self.reliable_pairs(matched, annotations, wanted)
        identities = self.identities(decoded, assignment, annotations)
        if self.syncl.decoder == "standard":
            widened = widened_assignment(assignment, candidates, matched.object_count)
            losses = self.losses(decoded, widened, annotations)
            return Outcome(losses, identities, assignment.targets)

        losses = self.losses(decoded, assignment, annotations)
        ignored = None
        if self.syncl.dropped == "ignored":
            ignored = candidates.dropped_queries(matched.object_count)
        named = matched.valid[:, matched.object_count :]
        if self.syncl.false_tracks == "ignored":
            named = named & (decoded.track_identities >= 0)
        tracks = named if self.syncl.tracks else torch.zeros_like(named)
        hybrid = hybrid_assignment(matched, candidates, ties, assignment, wanted, tracks, ignored)
        for name, value in set_losses(matched, hybrid, annotations, self.config.loss).items():
            if self.syncl.cross_parts in ("both", "box" if name == "box" else "class"):
                losses[f"cross_{name}"] = self.syncl.cross_weight * value
        if self.contrast is not None:
            losses["contrast"] = self._contrast(self.contrast, matched, candidates, ties, named)
        return Outcome(losses, identities, assignment.targets)

    def reliable_pairs(
        self, predictions: Predictions, annotations: Annotations, takes_part: Tensor
    ) -> Candidates:
        """Pairs of object queries and objects [B, M] that survive the filter."""
        cost = matching_cost(predictions.as_detected, annotations, self.config.cost)
        cost = cost[:, :, : predictions.object_count]
        if not self.syncl.one_to_many:
            return one_to_one(cost, takes_part)
        candidates = one_to_many(cost, takes_part, self.syncl.queries_per_object)
        if self.syncl.filter == "none":
            return candidates
        if self.syncl.filter == "mixture":
            threshold = mixture_threshold(candidates.costs.flatten(2), candidates.valid.flatten(2))
            return candidates.keep(candidates.costs <= threshold[..., None, None])
        if self.syncl.filter == "fixed_cost":
            return fixed_cost(candidates, self.syncl.filter_cost)
        overlaps, inside = candidate_overlaps(candidates, predictions, annotations)
        if self.syncl.filter == "simota":
            return simota(candidates, overlaps)
        return atss(candidates, overlaps, inside)

    def _contrast(
        self,
        contrast: InstanceContrast,
        cross: Predictions,
        candidates: Candidates,
        ties: Tensor,
        named: Tensor,
    ) -> Tensor:
        """Contrastive loss of the kept pairs in the last layer or in all; tracks are those `named`."""
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
        track_valid = named.expand(layers, -1, -1)
        loss: Tensor = contrast(objects, tracks, positives.clamp(min=0), pair_valid, track_valid)
        return loss


def objects_in_range(objects: Range, persistent: Tensor, valid: Tensor) -> Tensor:
    """[B, M] bool: the objects that the added matching is about (table 5)."""
    if objects == "persistent":
        return persistent
    if objects == "new_born":
        return valid & ~persistent
    return valid if objects == "all" else torch.zeros_like(valid)


def track_of_object(ties: Tensor, objects: int) -> Tensor:
    """[B, M] int64: the track query that holds each object, -1 = none; the inverse of ties [B, N]."""
    holder = torch.full((ties.shape[0], objects + 1), -1, dtype=torch.int64, device=ties.device)
    index = torch.arange(ties.shape[1], device=ties.device).expand_as(ties)
    holder.scatter_(1, torch.where(ties >= 0, ties, objects), index)
    return holder[:, :objects]


def hybrid_assignment(
    cross: Predictions,
    candidates: Candidates,
    ties: Tensor,
    standard: Assignment,
    wanted: Tensor,
    tracks: Tensor,
    ignored: Tensor | None = None,
) -> Assignment:
    """Targets of the cross-attention decoder.

    Object queries have the candidates' targets, track queries their own objects, all others background. Three
    kinds of rows carry no loss here: queries which the standard decoder ties to an object that they are not
    given here, false tracks among them (the shared heads would be told opposite things of them), object
    queries of streams without any object that takes part and track queries of streams without any persistent
    one, such as a clip's first frame, and whatever is switched off.

    With two class heads, object queries are the detection head's and track queries the tracking head's.

    Args:
        cross: of the cross-attention decoder.
        candidates: from `SynCL.reliable_pairs`.
        ties: [B, N] object of each track query.
        standard: the standard decoder's assignment.
        wanted: [B, M] objects that take part; none at all switches object queries off.
        tracks: [B, N] bool track queries that may carry losses.
        ignored: [L, B, O] bool object queries that carry none; None = no more than the above.
    """
    layers, count = cross.logits.shape[0], cross.object_count
    found = candidates.targets(count)
    told = (standard.targets if standard.detection is None else standard.detection.targets)[:, :, :count]
    contradicted = (told >= 0) & (found < 0)
    searching = (cross.valid[:, :count] & wanted.any(1, keepdim=True)) & ~contradicted
    if ignored is not None:
        searching = searching & ~ignored
    held = ties.masked_fill(~tracks, -1).expand(layers, -1, -1)
    with_losses = tracks & (ties >= 0).any(1, keepdim=True)
    newly_held = (standard.targets[:, :, count:] >= 0) & (ties < 0)
    following = with_losses & ~newly_held
    vanished = None if standard.vanished is None else standard.vanished & with_losses
    if standard.detection is None:
        targets, supervised = torch.cat([found, held], dim=2), torch.cat([searching, following], dim=2)
        return Assignment(targets, supervised, vanished)
    nothing = torch.full_like(found, -1)
    return Assignment(
        torch.cat([nothing, held], dim=2),
        torch.cat([torch.zeros_like(searching), following], dim=2),
        vanished,
        detection=Assignment(found, searching),
        boxes=torch.cat([found, held], dim=2),
    )


def widened_assignment(standard: Assignment, candidates: Candidates, object_count: int) -> Assignment:
    """The standard assignment with further object queries given to the candidates' objects (table 5, first
    decoder). Identities still follow the one-to-one assignment: an object lives on in one query.
    """
    further = candidates.targets(object_count)

    def widened(own: Tensor) -> Tensor:
        return torch.where(own >= 0, own, further)

    targets, detection = standard.targets, standard.detection
    targets = torch.cat([widened(targets[:, :, :object_count]), targets[:, :, object_count:]], dim=2)
    if detection is not None:
        detection = Assignment(widened(detection.targets), detection.supervised)
    boxes = standard.boxes
    if boxes is not None:
        boxes = torch.cat([widened(boxes[:, :, :object_count]), boxes[:, :, object_count:]], dim=2)
    return Assignment(targets, standard.supervised, standard.vanished, detection, boxes)
