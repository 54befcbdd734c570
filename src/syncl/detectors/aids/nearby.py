"""What the auxiliary head saw near a query, relative to where the query is.

A training aid of the small recipes, like `proposals`, which it looks at. Queries lifted from proposals are in
the right place from the start, so a small decoder of the PETR family, whose keys know of places and whose
values do not, never learns to correct one; tracks, which come from the frame before, are then left behind by
everything that moves. This is a cross-attention of every query, track queries too, to the proposals around
it, whose values are where they are from it and what they look like. It chooses none: two queries may look at
the same one, and what to make of it is the decoder's affair.

To be told is not to be there: a small PETR whose object queries start on objects goes on saying of tracks
that stand beside theirs that they are where they stand. So queries may also be moved (`moves`), by a share of
the way to what each reach finds, before the decoder looks; nowhere at first.

Letters: B batch, Q queries, P proposals, D channels, H heads.
"""

import math

import torch
from torch import Tensor, nn

from syncl.layers.numerics import at_full_precision, mlp

# A head each: how far off a proposal is that has 0.61 of the weight of one on the spot. An object at 15 m/s
# is 7.5 m further in the next frame, and nothing in the frame of its birth says how fast it is.
_REACHES_M = (1.0, 2.0, 4.0, 8.0)
# Score of "nothing": offsets shrink where proposals are weak or far.
_NOTHING = 0.1
_MATCHED_CHANNELS = 16
_OFFSET_UNIT_M = 4.0


class NearbyProposals(nn.Module):
    """Turns the proposals around queries into something to add to their contents; nothing at first.

    At first, too, only distance and score say which proposals count; then contents, which know classes, do.
    """

    def __init__(self, dim: int, moves: bool = False) -> None:
        super().__init__()
        heads = len(_REACHES_M)
        self.log_reach = nn.Parameter(torch.tensor(_REACHES_M).log())
        self.query = nn.Linear(dim, heads * _MATCHED_CHANNELS)
        self.key = nn.Linear(dim, heads * _MATCHED_CHANNELS)
        self.value = nn.Linear(dim, dim)
        self.out = mlp(4 * heads + dim, dim, dim)
        self.steps = mlp(4 * heads + dim, dim, heads) if moves else None
        started_at_nothing = [self.query, self.out[-1]]
        if self.steps is not None:
            started_at_nothing.append(self.steps[-1])
        for started in started_at_nothing:
            nn.init.zeros_(started.weight)  # type: ignore[arg-type]
            nn.init.zeros_(started.bias)  # type: ignore[arg-type]

    def forward(
        self, contents: Tensor, references: Tensor, places: Tensor, scores: Tensor, looks: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """[B, Q, D] to add to contents, and [B, Q, 3] metres to move references by; None where nobody moves.

        Args:
            contents: [B, Q, D] of the queries.
            references: [B, Q, 3] of the queries, metres, vehicle frame.
            places: [B, P, 3] of the proposals, the same.
            scores: [B, P] in 0 to 1.
            looks: [B, P, D] contents of the proposals.
        """
        heads = len(_REACHES_M)
        away = places[:, None] - references[:, :, None].detach()
        distance = away[..., :2].square().sum(-1)[:, None]
        query, key, value = (
            part.unflatten(-1, (heads, -1)).transpose(1, 2)
            for part in (self.query(contents), self.key(looks), self.value(looks))
        )
        alike = (query @ key.transpose(-1, -2)).to(distance.dtype) / math.sqrt(_MATCHED_CHANNELS)
        near = distance / (-2 * (2 * self.log_reach).exp()[:, None, None])
        logits = alike + near + scores.clamp(min=1e-6).log()[:, None, None]
        nothing = torch.full_like(logits[..., :1], math.log(_NOTHING))
        share = torch.cat([logits, nothing], dim=-1).softmax(-1)[..., :-1]
        offsets = torch.einsum("bhqp,bqpx->bqhx", share, away) / _OFFSET_UNIT_M
        seen = (share.to(value.dtype) @ value).transpose(1, 2)
        parts = (offsets.flatten(2), share.sum(-1).transpose(1, 2), seen.flatten(2))
        known = torch.cat([part.to(value.dtype) for part in parts], dim=-1)
        told: Tensor = self.out(known)
        if self.steps is None:
            return told, None
        steps = at_full_precision(self.steps, known)
        return told, torch.einsum("bqh,bqhx->bqx", steps, offsets * _OFFSET_UNIT_M)
