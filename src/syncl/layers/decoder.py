"""The decoder layers that detectors share, and how parallel decoder groups pass through it.

SynCL's parallel decoders (section 3.1 of the paper's method) are groups of one batched call: standard and
cross-attention decoder lie behind each other in the batch dimension, [G B, Q, D], go through the same
weights, and only the standard part passes self-attention. Keys and values of the features are projected
once for all groups. The standard part stays the baseline's to the last bit: wide linear maps and norms treat
batch rows alike, and what does not (attention kernels, vectorised exponentials, the narrow last layers of
prediction heads) runs on each group by itself.
"""

from abc import ABC
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, Protocol

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


class DecoderLayer(nn.Module, ABC):
    """Self-attention, cross-attention, feed-forward, each followed by addition and LayerNorm (post-norm).

    What queries look at differs between detectors, so the cross-attention is a subclass's, and so is
    `forward`, which goes from `among_themselves` over it to `concluded`.
    """

    cross_attention: nn.Module

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.self_attention = Attention(dim, heads, dropout)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.self_norm = nn.LayerNorm(dim)
        self.cross_norm = nn.LayerNorm(dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def among_themselves(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        groups: Groups,
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        """States after self-attention, and positional parts: [B, Q, D] each, one a group.

        Args:
            x: [G B, Q, D] query states, group behind group.
            positions: [G B, Q, D] positional part, added to queries and keys of self-attention, not to
                values.
            mask: [B, S] bool, False = padding no query may look at, or [B, Q, S] for a mask of its own per
                query, with S = Q, or Q + M with memory; None if everything may be looked at.
            groups: which decoders the rows belong to. Rows of `cross_only` skip self-attention but keep its
                LayerNorm, so the layers behind see inputs of the scale they know.
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
                part = part + self.dropout(self.self_attention(placed, keys, values, mask))
            parts.append(self.self_norm(part))
        return parts, placements

    def concluded(self, parts: Sequence[Tensor], seen: Sequence[Tensor]) -> Tensor:
        """The layer's output [G B, Q, D] of its groups' states and what cross-attention adds to them."""
        x = self.cross_norm(torch.cat([part + update for part, update in zip(parts, seen)]))
        out: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return out


class Tokens(Protocol):
    """What a `TokenLayer` attends."""

    @property
    def keys(self) -> Tensor:
        """[B, S, D] content plus position."""
        ...

    @property
    def values(self) -> Tensor:
        """[B, S, D] content."""
        ...

    @property
    def token_valid(self) -> Tensor | None:
        """[B, S] bool, False = ignored; None if all are attended."""
        ...


class TokenSequence(NamedTuple):
    """The plainest `Tokens`."""

    keys: Tensor
    values: Tensor
    token_valid: Tensor | None


class TokenLayer(DecoderLayer):
    """A decoder layer whose queries attend one sequence of tokens, as in DETR and the PETR family."""

    cross_attention: Attention

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        mask: Tensor | None,
        groups: Groups,
        tokens: Tokens,
        memory: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """One layer; see `among_themselves` for arguments and shapes."""
        keys, values = self.cross_attention.project(tokens.keys, tokens.values)
        parts, placements = self.among_themselves(x, positions, mask, groups, memory)
        seen = [
            self.dropout(self.cross_attention.attend(part + position, keys, values, tokens.token_valid))
            for part, position in zip(parts, placements)
        ]
        return self.concluded(parts, seen)


def decoder_layers(
    count: int, layer: Callable[[], DecoderLayer], cross_attention: Callable[[], nn.Module]
) -> nn.ModuleList:
    """So many new layers, each with a cross-attention of its own.

    Layers draw their weights before any cross-attention does: a seed gives the weights it always gave.
    """
    layers = [layer() for _ in range(count)]
    for each in layers:
        each.cross_attention = cross_attention()
    return nn.ModuleList(layers)


def token_layers(count: int, dim: int, heads: int, hidden: int, dropout: float) -> nn.ModuleList:
    """So many new `TokenLayer`s."""
    return decoder_layers(
        count, lambda: TokenLayer(dim, heads, hidden, dropout), lambda: Attention(dim, heads, dropout)
    )
