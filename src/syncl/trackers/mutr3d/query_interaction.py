"""MUTR3D's query interaction module: how a track query absorbs what its frame showed (section 3.2)."""

import torch
from torch import Tensor, nn

from syncl.layers.attention import Attention
from syncl.layers.numerics import mlp


class QueryInteraction(nn.Module):
    """Self-attention over the live tracks' outputs, then residual updates of position and content.

    Positions are updated only where they are learned (DETR3D); where they follow the reference point (the
    PETR family) the detector computes them anew after the point has moved.
    """

    def __init__(self, dim: int, heads: int, hidden: int, update_positions: bool) -> None:
        super().__init__()
        self.attention = Attention(dim, heads)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = mlp(dim, hidden, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.update_positions = update_positions
        if update_positions:
            self.position_update = mlp(dim, hidden, dim)
            self.position_norm = nn.LayerNorm(dim)
        self.content_update = mlp(dim, hidden, dim)
        self.content_norm = nn.LayerNorm(dim)

    def forward(
        self, positions: Tensor, contents: Tensor, outputs: Tensor, valid: Tensor
    ) -> tuple[Tensor, Tensor]:
        """New positions and contents [B, N, D].

        Args:
            positions: [B, N, D] positional part of the queries.
            contents: [B, N, D] content the queries entered the decoder with.
            outputs: [B, N, D] what the decoder made of them.
            valid: [B, N] bool; padding is not attended.
        """
        if outputs.shape[1] == 0:
            return positions, contents
        # A stream without tracks would attend nothing and give nan; its rows are padding anyway.
        attended = valid | ~valid.any(1, keepdim=True)
        placed = positions + outputs
        x = self.attention_norm(outputs + self.attention(placed, placed, outputs, attended))
        x = self.feed_forward_norm(x + self.feed_forward(x))
        updated = self.content_norm(contents + self.content_update(x))
        contents = torch.where(valid[..., None], updated, contents)
        if self.update_positions:
            updated = self.position_norm(positions + self.position_update(x))
            positions = torch.where(valid[..., None], updated, positions)
        return positions, contents
