"""Counts and ratios of CLEAR-MOT and its nuScenes relatives, for every threshold at once."""

import numpy as np
from numpy.typing import NDArray

from syncl.dataset_description import Measures
from syncl.evaluation.arrays import Bools, Floats, Ints
from syncl.evaluation.clear_matching import TrackMatches
from syncl.evaluation.constants import CURVE_METRICS
from syncl.evaluation.track_building import TrackBoxes
from syncl.evaluation.track_pairs import TrackPairs

_MOSTLY_TRACKED, _MOSTLY_LOST = 0.8, 0.2


def clear_metrics(
    pairs: TrackPairs,
    matches: TrackMatches,
    truth: TrackBoxes,
    guesses: TrackBoxes,
    thresholds: Floats,
    frame_period_s: float = Measures.frame_period_s,
) -> dict[str, Floats]:
    """All metrics of one class at each of K thresholds: name (of `CURVE_METRICS`) -> [K].

    Args:
        pairs: close pairs of the class.
        matches: what was matched.
        truth: annotated boxes of the class; at least one.
        guesses: tracked boxes of the class.
        thresholds: [K] score thresholds.
        frame_period_s: between key frames, for TID and LGD.
    """
    objects = float(len(truth))
    hits = matches.matched.sum(axis=0)
    ids = matches.switched.sum(axis=0).astype(np.float64)
    tp = hits - ids
    fn = objects - hits
    fp = len(guesses) - np.searchsorted(np.sort(guesses.score), thresholds, side="left") - hits
    recall = tp / objects
    with np.errstate(invalid="ignore", divide="ignore"):
        surplus = (fn + ids + fp) - (1 - recall) * objects
        motar = np.maximum(0, 1 - surplus / (recall * objects))
        motp = _distance_sum(pairs, matches) / hits
    values = {
        "gt": np.full(len(thresholds), objects),
        "tp": tp,
        "fp": fp,
        "fn": fn,
        "ids": ids,
        "recall": hits / objects,
        "motar": np.where(tp > 0, motar, np.nan),
        "mota": np.maximum(0, 1.0 - (fn + ids + fp) / objects),
        "motp": np.where(hits > 0, motp, np.nan),
        "faf": fp / _counted_frames(truth, guesses, thresholds) * 100,
        **_track_metrics(truth, _tracked(pairs, matches.matched, len(truth)), frame_period_s),
    }
    return {name: values[name] for name in CURVE_METRICS}


def _distance_sum(pairs: TrackPairs, matches: TrackMatches) -> Floats:
    total: Floats = pairs.distance_m @ matches.matched
    noisy = np.flatnonzero(pairs.noisy)
    correction = (pairs.distance_alone_m - pairs.distance_m)[noisy]
    adjusted: Floats = total + correction @ (matches.matched[noisy] & matches.alone)
    return adjusted


def _counted_frames(truth: TrackBoxes, guesses: TrackBoxes, thresholds: Floats) -> Ints:
    """Frames with an annotated box of the class, or a guess that reaches the threshold [K]."""
    frames = max(truth.frame.max(initial=-1), guesses.frame.max(initial=-1)) + 1
    best = np.full(frames, -np.inf)
    np.maximum.at(best, guesses.frame, guesses.score)
    best[truth.frame] = np.inf
    counted: Ints = frames - np.searchsorted(np.sort(best), thresholds, side="left")
    return counted


def _tracked(pairs: TrackPairs, matched: Bools, truths: int) -> Bools:
    """Whether each annotated box is matched [G, K]."""
    tracked = np.zeros((truths, matched.shape[1]), bool)
    row, column = np.nonzero(matched)
    tracked[pairs.truth[row], column] = True
    return tracked


def _track_metrics(truth: TrackBoxes, tracked: Bools, frame_period_s: float) -> dict[str, Floats]:
    """What depends on the course of each annotated track. A track has a box in every frame of its span."""
    order = np.lexsort((truth.frame, truth.track))
    tracked = tracked[order]
    track = truth.track[order]
    starts = np.flatnonzero(np.append(True, track[1:] != track[:-1]))
    lengths = np.diff(np.append(starts, len(track)))
    ends = starts + lengths - 1
    ratio = np.add.reduceat(tracked, starts, axis=0, dtype=np.int64) / lengths[:, None]
    found = ratio > 0
    fallen = tracked[:-1] & ~tracked[1:]
    fallen[starts[1:] - 1] = False
    # Leaving the last tracked frame for good is no fragmentation.
    frag = fallen.sum(axis=0) - (found & ~tracked[ends]).sum(axis=0)
    until_first, longest = _gaps(tracked, starts, lengths)
    count = found.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        tid = frame_period_s * (until_first * found).sum(axis=0) / count
        lgd = frame_period_s * (longest * found).sum(axis=0) / count
    return {
        "mt": (ratio >= _MOSTLY_TRACKED).sum(axis=0).astype(np.float64),
        "ml": (ratio < _MOSTLY_LOST).sum(axis=0).astype(np.float64),
        "frag": frag.astype(np.float64),
        "tid": tid,
        "lgd": lgd,
    }


def _gaps(tracked: Bools, starts: Ints, lengths: Ints) -> tuple[Ints, NDArray[np.int32]]:
    """Frames before the first match and longest run of missed frames, of each track [T, K].

    The run may be at either end of the track.
    """
    rows = np.arange(len(tracked), dtype=np.int32)[:, None]
    # Row of the latest match so far; at a track's beginning, the row before it.
    base = np.repeat(starts - 1, lengths).astype(np.int32)[:, None]
    latest = np.maximum.accumulate(np.where(tracked, rows, base), axis=0)
    latest = np.maximum(latest, base)
    longest = np.maximum.reduceat(rows - latest, starts, axis=0)
    never = np.int32(len(tracked))
    first = np.minimum.reduceat(np.where(tracked, rows, never), starts, axis=0)
    return first.astype(np.int64) - starts[:, None], longest
