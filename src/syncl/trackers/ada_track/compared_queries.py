"""What a look says of detections and tracks before anybody pairs them, and what becomes of them then.

Letters: B streams, D detections (object queries), N track slots, Q = D + N queries, C channels, R rows of the
next state.
"""

from dataclasses import dataclass, field
from functools import partial

import torch
from torch import Tensor

from syncl.structures import Objects
from syncl.trackers.next_rows import NextRows
from syncl.trackers.state import TrackQueries

MEANINGS = {
    "embeddings": "[1, Q, C] what the decoder made of queries: D object queries, then the N slots of tracks",
    "codes": "[1, Q, 10] box codes of the same, as the state has them",
    "positions": "[1, Q, C] their positional parts",
    "newborn": "[1, D, C] embeddings of object queries that become tracks",
    "affinities": "[1, D, N] from 0 to 1, whether the two are one object; means nothing of empty slots",
}
"""Of the fields of `ComparedQueries`, as other hosts read them."""
_nothing = partial(torch.zeros, 0)


@dataclass(frozen=True)
class ComparedQueries(Objects):
    """Every query's box with its best class, detections first, and how alike detections and tracks are.

    Attributes:
        embeddings: [B, Q, C] the features the heads saw.
        codes: [B, Q, 10] box codes.
        positions: [B, Q, C] positional parts, as they were asked.
        newborn: [B, D, C] with what content a detection goes on that becomes a track.
        affinities: [B, D, N] in [0, 1], how sure it is that a detection and a track are one object; means
            nothing where there is no track.
    """

    embeddings: Tensor = field(default_factory=_nothing)
    codes: Tensor = field(default_factory=_nothing)
    positions: Tensor = field(default_factory=_nothing)
    newborn: Tensor = field(default_factory=_nothing)
    affinities: Tensor = field(default_factory=_nothing)

    def carried(self, rows: NextRows, own_share: float | None) -> TrackQueries:
        """The tracks of the next state, those of these rows, merged as `AdaTrackConfig.own_share` says.

        Nothing is detached: in training, gradients reach the frames before through embeddings and boxes.
        """
        count = self.newborn.shape[1]
        seen, own = rows.take(self.embeddings[:, :count]), rows.held(self.embeddings[:, count:])
        merged = seen + own if own_share is None else torch.lerp(seen, own, own_share)
        embeddings = torch.where(rows.paired[..., None], merged, own)
        embeddings = torch.where(rows.born[..., None], rows.take(self.newborn), embeddings)
        positions = torch.where(
            rows.born[..., None],
            rows.take(self.positions[:, :count]),
            rows.held(self.positions[:, count:]),
        )
        return TrackQueries(embeddings, positions, rows.mixed(self.codes[:, :count], self.codes[:, count:]))
