"""Task-specific hybrid matching in the cross-attention decoder (method, section 3.2).

Track queries keep their own objects, one to one. Object queries are matched one to many against the
persistent objects, those which track queries already hold: without self-attention they need not give way
to the tracks.

Letters: L decoder layers, B streams, O object queries, M objects, K queries an object at most.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.training.assignment import hungarian


@dataclass(frozen=True)
class Candidates:
    """One-to-many pairs, for every object its cheapest queries.

    Attributes:
        rows: [L, B, M, K] int64 object query of each pair.
        costs: [L, B, M, K] matching cost.
        valid: [L, B, M, K] bool which pairs exist.
        dropped: [L, B, M, K] bool pairs that a filter took out; None before any.
    """

    rows: Tensor
    costs: Tensor
    valid: Tensor
    dropped: Tensor | None = None

    def keep(self, condition: Tensor) -> "Candidates":
        """The pairs that also meet a condition [L, B, M, K]."""
        return Candidates(self.rows, self.costs, self.valid & condition, self.valid & ~condition)

    def dropped_queries(self, object_queries: int) -> Tensor:
        """[L, B, O] bool: object queries whose pair a filter took out."""
        if self.dropped is None:
            layers, streams = self.rows.shape[:2]
            return torch.zeros(layers, streams, object_queries, dtype=torch.bool, device=self.rows.device)
        return Candidates(self.rows, self.costs, self.dropped).targets(object_queries) >= 0

    def targets(self, object_queries: int) -> Tensor:
        """[L, B, O] int64: the object each object query is matched to, -1 = none."""
        layers, streams, objects, most = self.rows.shape
        target = torch.full(
            (layers, streams, object_queries + 1), -1, dtype=torch.int64, device=self.rows.device
        )
        rows = torch.where(self.valid, self.rows, object_queries).flatten(2)
        index = torch.arange(objects, device=rows.device)[:, None].expand(objects, most).reshape(-1)
        target.scatter_(2, rows, index.expand_as(rows))
        return target[..., :object_queries]


def one_to_one(cost: Tensor, takes_part: Tensor) -> Candidates:
    """The Hungarian assignment as candidates, one an object (table 5's one-to-one rows).

    Args:
        cost: [L, B, O, M] finite costs of object queries.
        takes_part: [B, M] bool objects.
    """
    layers, streams, queries, objects = cost.shape
    everyone = torch.ones(streams, queries, dtype=torch.bool, device=cost.device)
    target = hungarian(cost, everyone, takes_part)
    own = torch.arange(objects, device=cost.device)
    assigned = target[..., None] == own
    rows = assigned.int().argmax(2) if objects else target.new_zeros(layers, streams, 0)
    costs = cost.gather(2, rows[:, :, None]).squeeze(2)
    return Candidates(rows[..., None], costs[..., None], assigned.any(2)[..., None])


def one_to_many(cost: Tensor, takes_part: Tensor, most: int) -> Candidates:
    """At most K queries for every object, no query for two objects.

    Every object names its K cheapest queries; a query named by several objects goes to the one it is cheapest
    for.

    Args:
        cost: [L, B, O, M] finite costs of object queries.
        takes_part: [B, M] bool objects.
        most: K.
    """
    layers, streams, queries, objects = cost.shape
    count = min(most, queries)
    if objects == 0:
        nothing = cost.new_zeros(layers, streams, 0, count)
        return Candidates(nothing.long(), nothing, nothing.bool())
    barred = torch.finfo(cost.dtype).max
    named_cost, named = cost.transpose(2, 3).topk(count, dim=3, largest=False)
    wanted = takes_part[None, :, :, None].expand_as(named)
    selected = torch.full_like(cost.transpose(2, 3), barred)
    selected.scatter_(3, named, torch.where(wanted, named_cost, barred))
    cheapest = selected.argmin(2, keepdim=True)
    own = torch.arange(objects, device=cost.device)[:, None]
    wins = (cheapest == own).gather(3, named)
    return Candidates(named, named_cost, wanted & wins)
