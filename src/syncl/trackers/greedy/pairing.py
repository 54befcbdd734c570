"""Pairing detections with tracks by the distance of their centres, on the host, one stream at a time.

Both ways are those of the tracker StreamPETR's authors publish with their results (after CenterPoint's).

Letters: B streams, D detections, N tracks, P pairs, R rows of the next state.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from syncl.trackers.next_rows import NextRows

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# What the original's solver pays for a pair that is not allowed.
_FORBIDDEN_COST = 1e18
_Rows = Sequence[int] | Integers


@dataclass(frozen=True)
class Pairing:
    """Who belongs to whom.

    Attributes:
        detections: [P] row of each pair's detection, rising.
        tracks: [P] row of its track.
        born: rows of the detections that start a track, in the order they are numbered.
        missed: rows of the tracks that were not seen and live on, rising.
    """

    detections: Integers
    tracks: Integers
    born: Integers
    missed: Integers


def pair_greedily(distance: Floats, allowed: NDArray[np.bool_]) -> Pairing:
    """Each detection in turn takes the nearest track that is free.

    Args:
        distance: [D, N] metres; detections in the order of who chooses first.
        allowed: [D, N] whether the two may belong together.
    """
    cost = np.where(allowed, distance, np.inf)
    detections: list[int] = []
    tracks: list[int] = []
    # Sequential by definition: what is left depends on every choice before.
    for row in range(len(cost) if cost.shape[1] else 0):
        nearest = int(cost[row].argmin())
        if np.isfinite(cost[row, nearest]):
            detections.append(row)
            tracks.append(nearest)
            cost[:, nearest] = np.inf
    return _pairing(detections, tracks, _others(len(cost), detections), cost.shape[1], tracks)


def pair_optimally(distance: Floats, allowed: NDArray[np.bool_]) -> Pairing:
    """The pairs of least total distance; arguments as for `pair_greedily`.

    Two peculiarities of the original are kept: a track that the solver gives to a detection it may not have
    is neither paired nor missed, so it ends; and detections the solver gave such a track are numbered after
    those it gave none.
    """
    cost = np.where(allowed, distance, _FORBIDDEN_COST)
    # Here, because it takes longer to import than many a command to run.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(cost)
    real = allowed[rows, columns]
    born = [*_others(len(cost), rows), *rows[~real]]
    return _pairing(rows[real], columns[real], born, cost.shape[1], columns)


def _pairing(detections: _Rows, tracks: _Rows, born: _Rows, count: int, spent: _Rows) -> Pairing:
    missed = _others(count, spent)
    return Pairing(*(np.asarray(part, np.int64) for part in (detections, tracks, born, missed)))


def _others(count: int, chosen: _Rows) -> Integers:
    """The numbers below `count` that are not among the chosen."""
    return np.setdiff1d(np.arange(count), np.asarray(chosen, np.int64))


def next_rows(pairings: Sequence[Pairing]) -> NextRows:
    """Rows of all streams, padded to the longest: paired, born, missed. On the host."""
    longest = max((len(p.detections) + len(p.born) + len(p.missed) for p in pairings), default=0)
    table = np.full((2, len(pairings), longest), -1, np.int64)
    for stream, pairing in enumerate(pairings):
        seen = np.concatenate([pairing.detections, pairing.born])
        table[0, stream, : len(seen)] = seen
        table[1, stream, : len(pairing.tracks)] = pairing.tracks
        table[1, stream, len(seen) : len(seen) + len(pairing.missed)] = pairing.missed
    return NextRows(*torch.from_numpy(table))
