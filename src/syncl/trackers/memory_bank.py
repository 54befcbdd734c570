"""MUTR3D's memory bank: a short queue of a track's past embeddings, attended in every frame."""

import torch
from torch import Tensor, nn

from syncl.layers.attention import Attention
from syncl.layers.numerics import mlp

# After saving, a track's next embedding is taken this many frames later at inference (training saves always).
SAVE_PERIOD = 3


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

    def attend(self, outputs: Tensor, memory: Tensor, memory_valid: Tensor) -> Tensor:
        """Outputs [B, N, D] enriched by memory [B, N, S, D]; a row with an empty newest slot stays."""
        if outputs.shape[1] == 0:
            return outputs
        filled = memory_valid[..., -1]
        flat = outputs.flatten(0, 1)[:, None]
        bank = memory.flatten(0, 1)
        # Rows that are not filled may have no valid slot at all; let them attend anything, then drop it.
        valid = (memory_valid | ~filled[..., None]).flatten(0, 1)
        x = self.attention_norm(flat + self.attention(flat, bank, bank, valid))
        x = self.feed_forward_norm(x + self.feed_forward(x))
        return torch.where(filled[..., None], x[:, 0].unflatten(0, outputs.shape[:2]), outputs)

    def update(
        self, outputs: Tensor, scores: Tensor, memory: Tensor, memory_valid: Tensor, countdown: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Save embeddings that are due; returns memory, its validity and the countdown.

        Args:
            outputs: [B, N, D] embeddings after `attend`.
            scores: [B, N]; only rows with a score above 0 are saved.
            memory: [B, N, S, D].
            memory_valid: [B, N, S] bool.
            countdown: [B, N] int64 frames until a row is due (neither used nor changed in training).
        """
        seen = scores > 0
        if self.training:
            save = seen
        else:
            save = (countdown == 0) & seen
            countdown = torch.where(countdown > 0, countdown - 1, countdown)
            countdown = torch.where(save, torch.full_like(countdown, SAVE_PERIOD), countdown)
        newest = self.save_projection(outputs)[:, :, None]
        shifted = torch.cat([memory[:, :, 1:], newest], dim=2)
        shifted_valid = torch.cat([memory_valid[:, :, 1:], torch.ones_like(memory_valid[:, :, :1])], dim=2)
        memory = torch.where(save[..., None, None], shifted, memory)
        return memory, torch.where(save[..., None], shifted_valid, memory_valid), countdown
