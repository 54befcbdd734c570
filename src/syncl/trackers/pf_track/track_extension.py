"""The life cycle of PF-Track, with track extension (Pang et al., CVPR 2023).

A query that scores high enough is seen. A track that is not seen goes on, unreported, until it has been
missed too often; an object query that is not seen is nothing.

Letters: B streams, Q queries, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.structures import Queries
from syncl.trackers.rows import with_front_rows
from syncl.trackers.state import TrackState

# The score of tracks that only their forecast keeps alive.
EXTENSION_SCORE = 0.01


@dataclass(frozen=True)
class LifeRules:
    """Thresholds of births, sightings and deaths; see `PfTrackConfig`."""

    birth_score: float
    record_score: float
    miss_tolerance: int


@dataclass(frozen=True)
class Lives:
    """What becomes of the queries of a frame; all [B, Q], object queries first.

    Attributes:
        seen: bool, the frame shows it clearly.
        scores: of what is seen; `EXTENSION_SCORE` otherwise.
        identities: int64; -1 where a query has none.
        misses: int64 frames in a row without a high score.
        real: bool, an object or a track of a tracked class, seen or not.
        alive: bool, goes on to the next frame.
        next_identity: [B] int64 the identity the next birth gets.
    """

    seen: Tensor
    scores: Tensor
    identities: Tensor
    misses: Tensor
    real: Tensor
    alive: Tensor
    next_identity: Tensor


def lives_after(
    rules: LifeRules,
    state: TrackState,
    queries: Queries,
    logits: Tensor,
    expected_labels: Tensor,
    tracked: Tensor,
) -> Lives:
    """Births, extensions, misses and deaths by score.

    Args:
        rules: the thresholds.
        state: the state `queries` was made from.
        queries: of the frame.
        logits: [B, Q, K] refined class logits.
        expected_labels: [B, Q] int64 classes that tracks had when last seen; anything for object queries.
        tracked: [K] bool, the classes that are tracked.
    """
    scores = logits.sigmoid().amax(-1)
    seen = (scores >= rules.record_score) & queries.valid
    scores = torch.where(seen, scores, EXTENSION_SCORE)
    labels = torch.where(seen, logits.argmax(-1), expected_labels)

    # An unseen object query is nothing; an unseen track is what it was.
    known = (seen & tracked[labels]) | (queries.valid & ~seen)
    identities = queries.identities
    # Even unseen object queries take numbers, so identities have gaps; as published.
    numbered = known & (identities < 0)
    identities = torch.where(numbered, state.next_identity[:, None] + numbered.cumsum(1) - 1, identities)

    is_track = torch.arange(queries.count, device=scores.device) >= queries.object_count
    real = known & (seen | is_track)
    strong = scores > rules.birth_score
    misses = with_front_rows(state.misses, queries.object_count, 0)
    misses = torch.where(strong, 0, misses + 1)
    alive = real & (strong | (is_track & (misses < rules.miss_tolerance)))
    return Lives(seen, scores, identities, misses, real, alive, state.next_identity + numbered.sum(1))
