"""MUTR3D's memory bank: a short queue of a track's past embeddings, attended in every frame."""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from syncl.layers.attention import Attention
from syncl.layers.numerics import either, mlp
from syncl.structures.tensors import TensorStructure

# After saving, a track's next embedding is taken this many frames later at inference (training saves always).
SAVE_PERIOD = 3


@dataclass(frozen=True)
class RememberedEmbeddings(TensorStructure):
    """What the bank holds of tracks.

    Attributes:
        embeddings: [B, N, S, D] past embeddings, newest last.
        valid: [B, N, S] bool.
        countdown: [B, N] int64 frames until a track is due (neither used nor changed in training).
    """

    embeddings: Tensor
    valid: Tensor
    countdown: Tensor


class MemoryBank(nn.Module):
    """Temporal attention over S saved embeddings, and the rule by which they are saved."""

    def __init__(self, dim: int, heads: int, hidden: int, slots: int) -> None:
        super().__init__()
        self.slots = slots
        self.attention = Attention(dim, heads)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = mlp(dim, hidden, dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.save_projection = nn.Linear(dim, dim)

    def empty(self, like: Tensor) -> RememberedEmbeddings:
        """Nothing remembered of tracks whose embeddings are `like` [B, N, D]."""
        embeddings = like.new_zeros(*like.shape[:2], self.slots, like.shape[2])
        valid = torch.zeros(embeddings.shape[:3], dtype=torch.bool, device=like.device)
        return RememberedEmbeddings(embeddings, valid, valid.new_zeros(like.shape[:2], dtype=torch.int64))

    def attend(self, outputs: Tensor, remembered: RememberedEmbeddings) -> Tensor:
        """Outputs [B, N, D] enriched by what is remembered; a row with an empty newest slot stays."""
        if outputs.shape[1] == 0:
            return outputs
        filled = remembered.valid[..., -1]
        flat = outputs.flatten(0, 1)[:, None]
        bank = remembered.embeddings.flatten(0, 1)
        # Rows that are not filled may have no valid slot at all; let them attend anything, then drop it.
        valid = (remembered.valid | ~filled[..., None]).flatten(0, 1)
        x = self.attention_norm(flat + self.attention(flat, bank, bank, valid))
        x = self.feed_forward_norm(x + self.feed_forward(x))
        return torch.where(filled[..., None], x[:, 0].unflatten(0, outputs.shape[:2]), outputs)

    def update(
        self, outputs: Tensor, scores: Tensor, remembered: RememberedEmbeddings
    ) -> RememberedEmbeddings:
        """Save embeddings that are due.

        Args:
            outputs: [B, N, D] embeddings after `attend`.
            scores: [B, N]; only rows with a score above 0 are saved.
            remembered: of the same tracks.
        """
        memory, valid, countdown = remembered.embeddings, remembered.valid, remembered.countdown
        save = scores > 0
        if not self.training:
            save = (countdown == 0) & save
            countdown = torch.where(countdown > 0, countdown - 1, countdown)
            countdown = torch.where(save, torch.full_like(countdown, SAVE_PERIOD), countdown)
        newest = self.save_projection(outputs)[:, :, None]
        shifted = torch.cat([memory[:, :, 1:], newest], dim=2)
        shifted_valid = torch.cat([valid[:, :, 1:], torch.ones_like(valid[:, :, :1])], dim=2)
        return RememberedEmbeddings(
            torch.where(save[..., None, None], shifted, memory),
            either(save[..., None], shifted_valid, valid),
            countdown,
        )
