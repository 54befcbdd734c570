"""What the auxiliary head saw near a query, relative to where the query is.

A training aid of the small recipes, like `proposals`, which it looks at. Queries lifted from proposals are in
the right place from the start, so a small decoder of the PETR family, whose keys know of places and whose
values do not, never learns to correct one; tracks, which come from the frame before, then drift along. This
tells every query, track queries too, how far the proposals around it are and what they look like. It chooses
none: two queries may look at the same one, and what to make of it is the decoder's affair.

Letters: B batch, Q queries, P proposals, D channels.
"""

import torch
from torch import Tensor, nn

from syncl.layers.numerics import mlp

# Proposals count by their distance: one this far away has 0.61 of the weight of one on the spot.
_REACHES_M = (1.0, 2.0, 4.0)
# Index of the reach within which appearance is averaged.
_LOOK = 1
# Weight of "nothing near": offsets shrink where proposals are weak or far.
_NOTHING = 0.1


class NearbyProposals(nn.Module):
    """Turns the proposals around queries into something to add to their contents; nothing at first."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.out = mlp(4 * len(_REACHES_M) + dim, dim, dim)
        last = self.out[-1]
        nn.init.zeros_(last.weight)  # type: ignore[arg-type]
        nn.init.zeros_(last.bias)  # type: ignore[arg-type]

    def forward(self, references: Tensor, places: Tensor, scores: Tensor, looks: Tensor) -> Tensor:
        """[B, Q, D] to add to contents.

        Args:
            references: [B, Q, 3] of the queries, metres, vehicle frame.
            places: [B, P, 3] of the proposals, the same.
            scores: [B, P] in 0 to 1.
            looks: [B, P, D] contents of the proposals.
        """
        away = places[:, None] - references[:, :, None].detach()
        distance = away[..., :2].square().sum(-1)
        parts = []
        for index, reach in enumerate(_REACHES_M):
            weight = scores[:, None] * torch.exp(distance / (-2 * reach**2))
            mass = weight.sum(-1, keepdim=True)
            share = weight / (mass + _NOTHING)
            parts += [torch.einsum("bqp,bqpx->bqx", share, away) / reach, mass]
            if index == _LOOK:
                parts.append(share.to(looks.dtype) @ looks)
        seen: Tensor = self.out(torch.cat([part.to(looks.dtype) for part in parts], dim=-1))
        return seen
