"""STAR-Track's track embedding: what a query knows of being a track, for how likely it still is one.

Object queries carry one learned embedding, every track its own, which each frame renews. It enters the
decoder with the query's content, and the existence head reads it beside the decoder's output: one and the
same output can be a sure new-born object and an unsure track. Both ways in start at zero.

Letters: L decoder layers, B streams, Q queries, N tracks, D channels, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from syncl.layers.numerics import mlp
from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class TrackEmbeddings(TensorStructure):
    """What STAR-Track knows of tracks besides their queries.

    Attributes:
        embeddings: [B, N, D].
    """

    embeddings: Tensor


class TrackEmbedding(nn.Module):
    """The learned embedding of object queries, its way into decoder and existence head, and its renewal."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.of_objects = nn.Parameter(torch.empty(dim))
        nn.init.normal_(self.of_objects)
        self.entry = nn.Linear(dim, dim, bias=False)
        self.existence = nn.Linear(dim, dim, bias=False)
        nn.init.zeros_(self.entry.weight)
        nn.init.zeros_(self.existence.weight)
        self.update = mlp(2 * dim, dim, dim)
        self.norm = nn.LayerNorm(dim)

    def of_all(self, object_count: int, tracks: Tensor) -> Tensor:
        """[B, Q, D] of object queries and behind them of tracks [B, N, D]."""
        objects = self.of_objects.to(tracks.dtype).expand(len(tracks), object_count, -1)
        return torch.cat([objects, tracks], dim=1)

    def renewed(self, embeddings: Tensor, outputs: Tensor) -> Tensor:
        """Embeddings [B, R, D] after a frame in which the decoder made outputs [B, R, D] of their queries."""
        seen = self.update(torch.cat([outputs, embeddings], dim=-1))
        out: Tensor = self.norm(embeddings + seen)
        return out
