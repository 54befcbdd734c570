"""Which tracks live on from frame to frame, one stream at a time, on the host (DQTrack's test loop).

Letters: Q queries, D detections that take part, N tracks, R rows of the next state.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from syncl.structures import Objects
from syncl.trackers.dqtrack.pairing import Pairs, pair
from syncl.trackers.dqtrack.query_tracks import Compared, Detections, QueryTracks
from syncl.trackers.next_rows import NextRows

if TYPE_CHECKING:
    from syncl.trackers.dqtrack.tracker import DqTrackConfig


@dataclass(frozen=True)
class Followed:
    """What becomes of a stream's tracks in a frame.

    Attributes:
        objects: what is reported.
        tracks: [R] the tracks behind it, without embeddings.
        rows: [1, R] of which detections that take part, and of which tracks, their embeddings come.
        pairs: by which that was decided; None = there was nobody to pair.
    """

    objects: Objects
    tracks: QueryTracks
    rows: NextRows
    pairs: Pairs | None = None


def follow(
    tracks: QueryTracks,
    seen: Detections,
    elapsed_s: Tensor,
    next_identity: int,
    compared: Compared,
    config: "DqTrackConfig",
    gates_m: Tensor,
) -> Followed:
    """One frame of one stream.

    Args:
        tracks: [N] that are alive, without embeddings.
        seen: [Q] what all queries say, without embeddings.
        elapsed_s: since the frame before.
        next_identity: of the next birth.
        compared: [D, N] detections with these tracks.
        config: the rules.
        gates_m: of the detector's classes.
    """
    part = compared.rows[compared.part]
    if not len(part):
        # Nobody is missed where nothing is seen, as published.
        same = torch.arange(len(tracks.identities))
        return Followed(_reported(seen, part, part), tracks, _rows_of(torch.full_like(same, -1), same))
    seen = seen.map(lambda rows: rows[part])
    if not len(tracks.identities):
        rows = torch.arange(len(part))[: config.max_tracks]
        born = seen.tracks(rows, next_identity + rows, seen.embeddings[rows])
        alone = _rows_of(rows, torch.full_like(rows, -1))
        return Followed(_best(seen, rows, born.identities, config), born, alone)
    affinities = compared.logits[compared.part].softmax(1)
    pairs = pair(
        affinities.double().numpy(),
        allowed(seen, tracks, elapsed_s, affinities, config, gates_m).numpy(),
    )
    return lived(tracks, seen, pairs, next_identity, config)


def allowed(
    seen: Detections,
    tracks: QueryTracks,
    elapsed_s: Tensor | float,
    affinities: Tensor,
    config: "DqTrackConfig",
    gates_m: Tensor,
) -> Tensor:
    """[D, N] bool: pairs of one class, alike enough, where the track was when the detection was there."""
    before = seen.places if config.coasting else seen.places - seen.velocities * elapsed_s
    far = torch.cdist(before, tracks.places, compute_mode="donot_use_mm_for_euclid_dist")
    same = seen.labels[:, None] == tracks.labels
    return same & (affinities >= config.min_affinity) & (far <= gates_m[seen.labels][:, None])


def lived(
    tracks: QueryTracks, seen: Detections, pairs: Pairs, next_identity: int, config: "DqTrackConfig"
) -> Followed:
    """See `follow`, once pairs are known: tracks seen again, those missed, and births.

    Args:
        tracks: see `follow`.
        seen: [D] detections that take part.
        pairs: of these and tracks.
        next_identity: see `follow`.
        config: the rules.
    """
    valid = torch.from_numpy(pairs.valid)
    detections, rows = torch.from_numpy(pairs.detections), torch.from_numpy(pairs.tracks)
    paired = torch.zeros_like(tracks.identities, dtype=torch.bool)
    paired[rows[valid] if config.count_refused else rows] = True
    misses = tracks.misses + ~paired
    detections, rows = detections[valid], rows[valid]
    others = misses <= config.miss_tolerance
    others[rows] = False
    new = seen.scores > config.birth_score
    new[detections] = False
    missed, born = others.nonzero()[:, 0], new.nonzero()[:, 0]
    born = born[: config.max_tracks - len(tracks.identities)]
    numbers = next_identity + torch.arange(len(born))
    names = torch.cat([tracks.identities[rows], tracks.identities[missed], numbers])
    nobody = torch.full_like(names, -1)
    order = names.argsort()
    detection = torch.cat([detections, nobody[: len(missed)], born])
    track = torch.cat([rows, missed, nobody[: len(born)]])
    lives, count = _rows_of(detection[order], track[order]), len(new)
    source = torch.cat([detections, count + missed, born])[order]

    def later(mine: Tensor, theirs: Tensor) -> Tensor:
        return torch.cat([mine, theirs])[source]

    first = torch.zeros_like(seen.labels)
    after = QueryTracks(
        identities=names[order],
        embeddings=tracks.embeddings.new_zeros(len(order), 0),
        places=later(seen.places, tracks.places),
        velocities=later(seen.velocities, tracks.velocities),
        labels=later(seen.labels, tracks.labels),
        misses=later(first, misses),
        sightings=torch.cat([tracks.sightings[rows] + 1, tracks.sightings[missed], first[born] + 1])[order],
    )
    shown = torch.cat([detections, born])
    return Followed(_best(seen, shown, names[detection >= 0], config), after, lives, pairs)


def _best(seen: Detections, rows: Tensor, identities: Tensor, config: "DqTrackConfig") -> Objects:
    """Reports of rows: the best first, and of these the ones in range."""
    order = seen.scores[rows].argsort(descending=True, stable=True)[: config.max_objects]
    rows, identities = rows[order], identities[order]
    boxes = seen.boxes[rows]
    inside = (boxes[:, :2].abs() <= config.output_range_m).all(-1)
    inside &= boxes[:, 2].abs() <= config.output_height_m
    return _reported(seen, rows[inside], identities[inside])


def _reported(seen: Detections, rows: Tensor, identities: Tensor) -> Objects:
    valid = torch.ones_like(rows, dtype=torch.bool)
    return Objects(seen.boxes[rows], seen.labels[rows], seen.scores[rows], identities, valid)


def _rows_of(detection: Tensor, track: Tensor) -> NextRows:
    return NextRows(detection[None], track[None])
