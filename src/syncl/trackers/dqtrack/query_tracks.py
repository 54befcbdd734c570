"""What DQTrack carries from frame to frame, sees in one, and is supervised by.

Letters: B streams, N tracks, Q queries, R supervised queries, C channels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class QueryTracks(TensorStructure):
    """Tracks of one stream; in the state [B, N, ...].

    Attributes:
        identities: [N] int64; in training -1 = a false track.
        embeddings: [N, C] track queries.
        places: [N, 2] float64 x and y in the global frame where last seen.
        velocities: [N, 2] float64 m/s, global frame.
        labels: [N] int64 class index.
        misses: [N] int64.
        sightings: [N] int64.
    """

    identities: Tensor
    embeddings: Tensor
    places: Tensor
    velocities: Tensor
    labels: Tensor
    misses: Tensor
    sightings: Tensor


@dataclass(frozen=True)
class DqTracks(TensorStructure):
    """What DQTrack keeps of B streams.

    Attributes:
        tracks: [B, N, ...].
        elapsed_s: [B] float64 time since the frame before; 0 in a scene's first frame.
    """

    tracks: QueryTracks
    elapsed_s: Tensor


@dataclass(frozen=True)
class Detections(TensorStructure):
    """What a stream's queries say in a frame.

    Attributes:
        embeddings: [Q, C] last features.
        boxes: [Q, 9] vehicle frame.
        scores: [Q] of the likeliest class.
        labels: [Q] int64 of it.
        places: [Q, 2] float64 x and y in the global frame, without gradient.
        velocities: [Q, 2] float64, the same.
    """

    embeddings: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    places: Tensor
    velocities: Tensor

    def tracks(self, rows: Tensor, identities: Tensor, embeddings: Tensor) -> QueryTracks:
        """Tracks that begin with some rows."""
        nothing = torch.zeros_like(rows)
        return QueryTracks(
            identities,
            embeddings,
            self.places[rows],
            self.velocities[rows],
            self.labels[rows],
            nothing,
            nothing + 1,
        )


@dataclass(frozen=True)
class Compared(TensorStructure):
    """What the association makes of one stream's queries before anybody decides.

    Attributes:
        rows: [D] int64 the queries that were compared: those that take part, or all.
        part: [D] bool which take part.
        embeddings: [D, C] track queries; those of others mean nothing.
        logits: [D, N] of object queries for the state's rows of tracks, alive or not.
    """

    rows: Tensor
    part: Tensor
    embeddings: Tensor
    logits: Tensor


@dataclass(frozen=True)
class Supervised(TensorStructure):
    """What DQTrack makes of one stream in training.

    Attributes:
        rows: [R] int64 queries that hold objects, rising.
        identities: [R] int64 of these objects.
        embeddings: [R, C] their track queries.
        logits: [R, N] of their object queries for the tracks.
        columns: [N] int64 identities of the tracks, -1 = false.
    """

    rows: Tensor
    identities: Tensor
    embeddings: Tensor
    logits: Tensor
    columns: Tensor


@dataclass(frozen=True)
class DualQueries(TensorStructure):
    """The same of B streams."""

    streams: tuple[Supervised, ...]
