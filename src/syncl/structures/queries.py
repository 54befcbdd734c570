"""The inputs and outputs of a query decoder."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from syncl.geometry.boxes import CODE_SIZE
from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class Queries(TensorStructure):
    """Decoder queries of B streams: `object_count` object queries first, then track queries.

    Attributes:
        embeddings: [B, Q, D] content.
        positions: [B, Q, D] positional part, added to queries and keys of self-attention.
        codes: [B, Q, 10] box code (`geometry.boxes`) known before decoding, vehicle frame. Its centre is the
            reference point; what nobody knows of a query yet is 0.
        identities: [B, Q] int64 of the objects that track queries hold; -1 = none, as object queries have.
        valid: [B, Q] bool; False = padding. Object queries are always valid, but for candidates of a centre
            head that are not sure enough.
        object_count: how many leading rows are object queries (new-born targets).
        attention: [B, Q, Q] bool, what each query may look at in self-attention; None = all that is valid.
    """

    embeddings: Tensor
    positions: Tensor
    codes: Tensor
    identities: Tensor
    valid: Tensor
    object_count: int
    attention: Tensor | None = None

    @property
    def count(self) -> int:
        """Number of queries Q."""
        return self.embeddings.shape[1]

    @property
    def references(self) -> Tensor:
        """[B, Q, 3] reference points in metres, vehicle frame."""
        return self.codes[..., :3]

    @property
    def looked_at(self) -> Tensor | None:
        """What self-attention may look at: [B, Q, Q] a query, [B, Q] all alike, or None for everything."""
        if self.attention is not None:
            return self.attention
        return self.valid if self.count > self.object_count else None

    def followed_by(self, others: "Queries") -> "Queries":
        """These queries and `others` behind them; `object_count` stays.

        Others without `attention` look at all that is valid, and all look at them, whatever mask these have.
        Others that bring it [B, N, N] look at all of these as well, and are looked at by nobody else.
        """
        attention = None
        if self.attention is not None or others.attention is not None:
            own, among = self.attention, others.attention
            seen = self.valid[:, None].expand(-1, others.count, -1)
            shown = others.valid[:, None].expand(-1, self.count, -1)
            if own is None:
                own = self.valid[:, None].expand(-1, self.count, -1)
            if among is None:
                among = others.valid[:, None].expand(-1, others.count, -1)
            else:
                shown = torch.zeros_like(shown)
            attention = torch.cat([torch.cat([own, shown], dim=2), torch.cat([seen, among], dim=2)], dim=1)
        return Queries(
            embeddings=torch.cat([self.embeddings, others.embeddings], dim=1),
            positions=torch.cat([self.positions, others.positions], dim=1),
            codes=torch.cat([self.codes, others.codes], dim=1),
            identities=torch.cat([self.identities, others.identities], dim=1),
            valid=torch.cat([self.valid, others.valid], dim=1),
            object_count=self.object_count,
            attention=attention,
        )


def object_queries(embeddings: Tensor, positions: Tensor, references: Tensor) -> Queries:
    """Object queries, which hold nothing yet and of which only the place is known.

    Args:
        embeddings: [B, Q, D].
        positions: [B, Q, D].
        references: [B, Q, 3] metres, vehicle frame.
    """
    streams, count = references.shape[:2]
    return Queries(
        embeddings=embeddings,
        positions=positions,
        codes=torch.cat([references, references.new_zeros(streams, count, CODE_SIZE - 3)], dim=-1),
        identities=torch.full((streams, count), -1, dtype=torch.int64, device=references.device),
        valid=torch.ones((streams, count), dtype=torch.bool, device=references.device),
        object_count=count,
    )


def candidate_queries(embeddings: Tensor, codes: Tensor, valid: Tensor) -> Queries:
    """Object queries that are boxes already, those of a centre head; see `Queries` for the arguments."""
    nobody = torch.full_like(valid, -1, dtype=torch.int64)
    return Queries(embeddings, torch.zeros_like(embeddings), codes, nobody, valid, codes.shape[1])


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

    @property
    def as_detected(self) -> "Predictions":
        """These with the detection head's logits, which are the only ones where there is one head."""
        if self.detection_logits is None:
            return self
        return replace(self, logits=self.detection_logits, detection_logits=None)

    def rows(self, which: slice) -> "Predictions":
        """Those of some queries; `object_count` stays."""
        detection = self.detection_logits
        return Predictions(
            logits=self.logits[:, :, which],
            codes=self.codes[:, :, which],
            embeddings=self.embeddings[:, :, which],
            references=self.references[:, :, which],
            valid=self.valid[:, which],
            object_count=self.object_count,
            detection_logits=None if detection is None else detection[:, :, which],
        )


def in_front(first: Tensor, rows: Tensor) -> Tensor:
    """Rows [B, Q, X] whose first P are `first` [B, P, X]."""
    return torch.cat([first, rows[:, first.shape[1] :]], dim=1)
