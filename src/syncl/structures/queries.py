"""The inputs and outputs of a query decoder."""

from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class Queries(TensorStructure):
    """Decoder queries of B streams: `object_count` object queries first, then track queries.

    Attributes:
        embeddings: [B, Q, D] content.
        positions: [B, Q, D] positional part, added to queries and keys of self-attention.
        references: [B, Q, 3] reference points in metres, vehicle frame.
        valid: [B, Q] bool; False = padding. Object queries are always valid.
        object_count: how many leading rows are object queries (new-born targets).
        log_sizes: [B, Q, 3] logarithms of length, width, height in metres, for detectors that refine the size
            a query already has (`Detector.carries_sizes`); None for all others.
    """

    embeddings: Tensor
    positions: Tensor
    references: Tensor
    valid: Tensor
    object_count: int
    log_sizes: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of queries Q."""
        return self.embeddings.shape[1]

    def with_tracks(self, tracks: "Queries") -> "Queries":
        """These (object) queries followed by the rows of `tracks`."""
        return Queries(
            embeddings=torch.cat([self.embeddings, tracks.embeddings], dim=1),
            positions=torch.cat([self.positions, tracks.positions], dim=1),
            references=torch.cat([self.references, tracks.references], dim=1),
            valid=torch.cat([self.valid, tracks.valid], dim=1),
            object_count=self.object_count,
            log_sizes=_joined(self.log_sizes, tracks.log_sizes),
        )


def _joined(first: Tensor | None, second: Tensor | None) -> Tensor | None:
    """Rows behind each other; None unless both are there."""
    return None if first is None or second is None else torch.cat([first, second], dim=1)


@dataclass(frozen=True)
class Predictions(TensorStructure):
    """What the decoder says of its queries after each of L layers.

    Attributes:
        logits: [L, B, Q, K] class logits (sigmoid, one per class).
        codes: [L, B, Q, 10] box codes (`geometry.boxes`), vehicle frame, metres.
        embeddings: [L, B, Q, D] the features the heads saw.
        references: [L, B, Q, 3] the reference points each layer predicted from, metres.
        valid: [B, Q] bool as in the queries.
        object_count: as in the queries.
        detection_logits: [L, B, Q, K] the detector's own class logits where a tracker has a class head of its
            own, whose logits are then in `logits`; None elsewhere.
    """

    logits: Tensor
    codes: Tensor
    embeddings: Tensor
    references: Tensor
    valid: Tensor
    object_count: int
    detection_logits: Tensor | None = None
