"""Boxes that CC-3DT's embeddings are trained on: the detector's, and the annotated ones.

Letters: B streams, C cameras, S boxes in images.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.structures.tensors import TensorStructure

# Overlap in the image from which a box shows an object, and below which it shows none.
_POSITIVE, _NEGATIVE = 0.7, 0.3
_MOST_POSITIVES, _NEGATIVES_A_POSITIVE = 128, 3


@dataclass(frozen=True)
class EmbeddedBoxes(TensorStructure):
    """Embedded boxes of a frame.

    Attributes:
        embeddings: [B, S, E].
        identities: [B, S] int64 of the object each shows, -1 = none.
        cameras: [B, S] int64.
        valid: [B, S] bool; False = padding.
    """

    embeddings: Tensor
    identities: Tensor
    cameras: Tensor
    valid: Tensor

    def of(self, stream: int, camera: int) -> tuple[Tensor, Tensor]:
        """Embeddings [n, E] and identities [n] of one camera of one stream."""
        rows = self.valid[stream] & (self.cameras[stream] == camera)
        return self.embeddings[stream][rows], self.identities[stream][rows]

    @classmethod
    def none(cls, streams: int, channels: int, like: Tensor) -> "EmbeddedBoxes":
        """No boxes."""
        numbers = torch.zeros(streams, 0, dtype=torch.int64, device=like.device)
        return cls(like.new_zeros(streams, 0, channels), numbers, numbers, numbers.bool())


@torch.no_grad()
def sampled(overlaps: Tensor, identities: Tensor) -> tuple[Tensor, Tensor]:
    """Rows of an image's boxes to learn from, and whom they show.

    Boxes that overlap an object by 0.7 or more show it, those below 0.3 show none, others are left out; at
    most 128 show one, drawn at random, and at most three times as many none.

    Args:
        overlaps: [S, M] with the objects of the image.
        identities: [M] of these.
    """
    if not overlaps.shape[1]:
        return torch.zeros(0, dtype=torch.int64, device=overlaps.device), identities[:0]
    best, owner = overlaps.max(1)
    positive = _drawn(best >= _POSITIVE, _MOST_POSITIVES)
    negative = _drawn(best < _NEGATIVE, _NEGATIVES_A_POSITIVE * max(1, len(positive)))
    nobody = torch.full_like(negative, -1)
    return torch.cat([positive, negative]), torch.cat([identities[owner[positive]], nobody])


def _drawn(which: Tensor, most: int) -> Tensor:
    rows = which.nonzero()[:, 0]
    return rows[torch.randperm(len(rows), device=rows.device)[:most]]
