"""The decoder layer that all detectors share, and how parallel decoder groups pass through it.

SynCL's parallel decoders (section 3.1 of the paper's method) are groups of one batched call: standard and
cross-attention decoder lie behind each other in the batch dimension, [G B, Q, D], go through the same
weights, and only the standard part passes self-attention. Keys and values of the features are projected
once for all groups. The standard part stays the baseline's to the last bit: wide linear maps and norms treat
batch rows alike, and what does not (attention kernels, vectorised exponentials, the narrow last layers of
prediction heads) runs on each group by itself.
"""

from typing import Literal, Protocol

import torch
from torch import Tensor, nn

from syncl.layers.attention import Attention
from syncl.layers.numerics import at_full_precision

Group = Literal["standard", "cross_only"]
Groups = tuple[Group, ...]
STANDARD: Groups = ("standard",)
PARALLEL: Groups = ("standard", "cross_only")


def repeat_groups(tensor: Tensor, groups: Groups) -> Tensor:
    """Lay copies of [B, ...] behind each other, one a group: [G B, ...]."""
    return tensor if len(groups) == 1 else torch.cat([tensor] * len(groups))


def split_groups(tensor: Tensor, groups: Groups, dim: int = 0) -> tuple[Tensor, ...]:
    """The group parts of a tensor whose dimension `dim` is G B."""
    parts: tuple[Tensor, ...] = torch.chunk(tensor, len(groups), dim=dim)
    return parts


def apply_to_groups(module: nn.Module, tensor: Tensor, groups: Groups) -> tuple[Tensor, ...]:
    """A head's output in full precision for the group parts of [G B, ...], each computed by itself.

    Matrix products with few columns treat the last rows of a batch differently from the others, so that the
    standard decoder's outputs would depend in their last bits on whether another group is behind it.
    """
    return tuple(at_full_precision(module, part) for part in split_groups(tensor, groups))


class CrossAttention(Protocol):
    """What a detector puts between its queries and its image features."""

    def __call__(self, x: Tensor, positions: Tensor, group: int) -> Tensor:
        """The update [B, Q, D] to add to group number `group`'s states `x` and positional part, both [B,
        Q, D].
        """
        ...


class FeedForward(nn.Module):
    """Linear, ReLU, Linear with dropout after both; the residual is the caller's."""

    def __init__(self, dim: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.expand = nn.Linear(dim, hidden)
        self.contract = nn.Linear(hidden, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., D]."""
        output: Tensor = self.dropout(self.contract(self.dropout(torch.relu(self.expand(x)))))
        return output


class DecoderLayer(nn.Module):
    """Self-attention, cross-attention, feed-forward, each followed by addition and LayerNorm (post-norm).

    The cross-attention itself is handed in at each call, because what it attends to differs between
    detectors.
    """

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, dropout)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.self_norm = nn.LayerNorm(dim)
        self.cross_norm = nn.LayerNorm(dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        valid: Tensor | None,
        groups: Groups,
        cross: CrossAttention,
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """One layer.

        Args:
            x: [G B, Q, D] query states, group behind group.
            positions: [G B, Q, D] positional part, added to queries and keys of self-attention, not to
                values.
            valid: [B, S] bool, False = padding no query may look at, or [B, Q, S] for a mask of its own per
                query, with S = Q, or Q + M with memory; None if everything may be looked at.
            groups: which decoders the rows belong to. Rows of `cross_only` skip self-attention but keep its
                LayerNorm, so the layers behind see inputs of the scale they know.
            cross: the cross-attention update.
            memory: keys and values [B, M, D] of a temporal memory that self-attention looks at besides the
                queries. It belongs to self-attention: `cross_only` rows see neither queries nor memory.
        """
        placements = split_groups(positions, groups)
        parts = []
        for group, part, position in zip(groups, split_groups(x, groups), placements):
            if group == "standard":
                placed = part + position
                keys, values = placed, part
                if memory is not None:
                    keys = torch.cat([placed, memory[0]], dim=1)
                    values = torch.cat([part, memory[1]], dim=1)
                part = part + self.dropout(self.self_attention(placed, keys, values, valid))
            parts.append(self.self_norm(part))
        x = torch.cat(
            [
                part + cross(part, position, index)
                for index, (part, position) in enumerate(zip(parts, placements))
            ]
        )
        x = self.cross_norm(x)
        out: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return out
