"""PF-Track's past and future reasoning (Pang et al., CVPR 2023, sections 3.2 and 3.3).

Past reasoning: each query attends its own history, then all queries of the frame attend each other; class and
box are predicted anew from the result. Future reasoning: the history is decoded into displacements for the
frames to come.

Letters: B streams, Q queries, D channels, S history slots, F future frames, K classes; R rows of a batch of
sequences.
"""

from typing import cast

import torch
from torch import Tensor, nn

from syncl.detectors.reference_range import ReferenceRange
from syncl.geometry.boxes import CODE_SIZE
from syncl.layers.decoder import STANDARD, TokenLayer, TokenSequence, token_layers
from syncl.layers.numerics import at_full_precision, mlp, prior_bias
from syncl.layers.positional import sinusoid


class SequenceDecoder(nn.Module):
    """Decoder layers over short sequences, the PETR family's with one LayerNorm behind the last."""

    def __init__(self, dim: int, heads: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.layers = token_layers(layers, dim, heads, hidden, dropout)
        self.output_norm = nn.LayerNorm(dim)
        _initialise(self)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        memory: Tensor,
        memory_positions: Tensor,
        memory_valid: Tensor | None,
        valid: Tensor | None = None,
    ) -> Tensor:
        """The last layer's states [R, T, D].

        Args:
            x: [R, T, D] states to start from; they attend each other and the memory. [1, T, D] where all rows
                start alike, which saves the first layer's self-attention (but lets rows share its dropout).
            positions: [R, T, D] or what broadcasts to it.
            memory: [R, S, D] attended; its values carry no position.
            memory_positions: [R, S, D] or what broadcasts to it.
            memory_valid: [R, S] bool, None = all.
            valid: [R, T] bool, None = all.
        """
        positions = positions.expand_as(x)
        attended = TokenSequence(memory + memory_positions, memory, memory_valid)
        for layer in self.layers:
            x = layer(x, positions, valid, STANDARD, attended)
        out: Tensor = self.output_norm(x)
        return out


class PastReasoning(nn.Module):
    """Cross-attention over time, then over objects, and refined predictions.

    Where the original starts with random changes, these start with none: embeddings and centres are the
    detector's until something better is learned. Carried on from random changes, tracks are metres away from
    their objects and speak a language that the decoder does not know, and training spends its first thousands
    of steps on that.
    """

    def __init__(self, dim: int, classes: int, heads: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.over_time = SequenceDecoder(dim, heads, hidden, layers, dropout)
        self.over_objects = SequenceDecoder(dim, heads, hidden, layers, dropout)
        self.class_branch = mlp(dim, dim, dim, classes, norm=True)
        self.box_branch = mlp(dim, dim, dim, CODE_SIZE, norm=True)
        _initialise(self.class_branch)
        _initialise(self.box_branch)
        _start_with_no_change(self.over_time)
        _start_with_no_change(self.over_objects)
        with torch.no_grad():
            last = cast(nn.Linear, self.box_branch[-1])
            last.weight[:3], last.bias[:3] = 0, 0
        # The original starts at one half, which drowns every other loss until it is unlearned.
        nn.init.constant_(cast(nn.Linear, self.class_branch[-1]).bias, prior_bias(0.01))

    def forward(
        self,
        embeddings: Tensor,
        positions: Tensor,
        times: Tensor,
        memory: Tensor,
        memory_valid: Tensor,
        valid: Tensor | None,
    ) -> Tensor:
        """Refined embeddings [B, Q, D].

        Args:
            embeddings: [B, Q, D] the decoder's outputs.
            positions: [B, Q, D].
            times: [S, D] encoded time of each history slot.
            memory: [B, Q, S, D] history; the newest slot, which holds `embeddings`, is valid in all rows.
            memory_valid: [B, Q, S] bool.
            valid: [B, Q] bool, None = all.
        """
        alone = embeddings.flatten(0, 1)[:, None]
        bank, bank_valid = memory.flatten(0, 1), memory_valid.flatten(0, 1)
        remembered = self.over_time(alone, times[-1:], bank, times, bank_valid)
        remembered = remembered[:, 0].unflatten(0, embeddings.shape[:2])
        refined: Tensor = self.over_objects(remembered, positions, remembered, positions, valid, valid)
        return refined

    def predict(self, refined: Tensor, centres: Tensor, reach: ReferenceRange) -> tuple[Tensor, Tensor]:
        """Class logits [B, Q, K] and box codes [B, Q, 10].

        Centres are offsets from the decoder's [B, Q, 3] in logits of the detector's range; size, heading and
        velocity are predicted whole.
        """
        logits = at_full_precision(self.class_branch, refined)
        delta = at_full_precision(self.box_branch, refined)
        centre = reach.metres_at(delta[..., :3] + reach.logits_of(centres))
        return logits, torch.cat([centre, delta[..., 3:]], dim=-1)


class FutureReasoning(nn.Module):
    """Displacements of the coming frames, decoded from the history."""

    def __init__(self, dim: int, heads: int, hidden: int, layers: int, dropout: float) -> None:
        super().__init__()
        self.dropout = dropout
        self.decoder = SequenceDecoder(dim, heads, hidden, layers, dropout)
        self.motion_branch = mlp(dim, dim, dim, 3, norm=True)
        _initialise(self.motion_branch)
        # Forecasts start with objects that stand still.
        last = cast(nn.Linear, self.motion_branch[-1])
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)

    def forward(self, times: Tensor, memory: Tensor, memory_valid: Tensor) -> Tensor:
        """Metres [B, Q, F, 3] from each frame to the next.

        Args:
            times: [S + F, D] encoded times of history and future.
            memory: [B, Q, S, D].
            memory_valid: [B, Q, S] bool; the newest slot is valid in all rows.
        """
        slots = memory.shape[2]
        bank, bank_valid = memory.flatten(0, 1), memory_valid.flatten(0, 1)
        # All rows start alike, but each drops out by itself.
        rows = len(bank) if self.training and self.dropout > 0 else 1
        start = bank.new_zeros(rows, len(times) - slots, bank.shape[-1])
        decoded = self.decoder(start, times[slots:], bank, times[:slots], bank_valid)
        steps = at_full_precision(self.motion_branch, decoded)
        return torch.unflatten(steps, 0, memory.shape[:2])


class TimeEncoder(nn.Module):
    """Encoded times [T, D] of T moments in a row, the first at 0 and the last at 1."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.embedding = mlp(dim, dim, dim)
        _initialise(self.embedding)

    def forward(self, moments: int) -> Tensor:
        """Encode a grid of so many moments."""
        weight = cast(Tensor, self.embedding[0].weight)
        grid = torch.linspace(0, 1, moments, dtype=weight.dtype, device=weight.device)
        encoded: Tensor = self.embedding(sinusoid(grid, self.dim))
        return encoded


def _initialise(module: nn.Module) -> None:
    """Xavier-uniform weights, as in the original's reasoning."""
    for parameter in module.parameters():
        if parameter.dim() > 1:
            nn.init.xavier_uniform_(parameter)


def _start_with_no_change(decoder: SequenceDecoder) -> None:
    """Let every layer of a decoder add nothing to its states for now."""
    for layer in decoder.layers:
        added = cast(TokenLayer, layer)
        for last in (
            added.self_attention.out_proj,
            added.cross_attention.out_proj,
            added.feed_forward.contract,
        ):
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
