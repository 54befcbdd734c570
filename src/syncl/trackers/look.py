"""What a look at a frame gives, and who may have a word while it is taken.

Letters: B streams, Q queries, N tracks.
"""

from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from syncl.detectors.passed import Features
from syncl.structures import Frame, Predictions, Queries
from syncl.structures.tensors import TensorStructure
from syncl.trackers.state import TrackState


@dataclass(frozen=True)
class Decoded(TensorStructure):
    """Everything that one look at a frame gave.

    Attributes:
        state: at the frame: tracks are where they are expected, and the detector has memorised the frame.
        frame: B streams.
        features: of the frame.
        queries: object queries, then track queries.
        predictions: one for each decoder group that ran, the standard one first.
        reasoned: what the tracker itself makes of the predictions; None where it takes them as they are.
        further: queries that training decoded beside the others.
        further_predictions: the standard decoder's predictions of these.
    """

    state: TrackState
    frame: Frame
    features: Features
    queries: Queries
    predictions: tuple[Predictions, ...]
    reasoned: TensorStructure | None = None
    further: Queries | None = None
    further_predictions: Predictions | None = None

    @property
    def standard(self) -> Predictions:
        """The standard decoder's predictions."""
        return self.predictions[0]

    @property
    def track_identities(self) -> Tensor:
        """[B, N] int64 identity of each track query, -1 = none."""
        return self.queries.identities[:, self.queries.object_count :]

    @property
    def scores(self) -> Tensor:
        """[B, Q] best class score of every query, without gradient; 0 in padding."""
        best = self.standard.logits[-1].detach().sigmoid().amax(-1)
        return best.masked_fill(~self.queries.valid, 0)


class Guide(Protocol):
    """Supervision in the middle of a look: what training would make of one decoder layer's predictions."""

    def polarity(self, predictions: Predictions, queries: Queries, /) -> tuple[Tensor, Tensor]:
        """The queries that are positives of detecting and those that are positives of tracking, [B, Q] bool.

        Args:
            predictions: [1, B, Q, ...] of the frame's own queries, with the logits of both class heads.
            queries: [B, Q, ...] the same.
        """
        ...
