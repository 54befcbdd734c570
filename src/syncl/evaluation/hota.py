"""Higher-order tracking accuracy (Luiten et al., IJCV 2021). Not part of the official nuScenes set.

The similarity of two boxes is 1 - d / 2 m, with d the distance of their centres in the xy plane: 0 where the
official metrics stop matching. Tracks have holes filled and scores averaged as there, and are thresholded at
the score of best MOTA, at which the official metrics are read off too.
"""

from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from syncl.evaluation.arrays import Bools, Floats, Ints
from syncl.evaluation.track_building import TrackBoxes
from syncl.evaluation.track_pairs import TrackPairs

ALPHAS = np.linspace(0.05, 0.95, 19)
"""Localisation thresholds: the least similarity of a match."""


@dataclass(frozen=True)
class HotaScores:
    """HOTA and its parts in 0..1, averaged over `ALPHAS`; nan without ground truth.

    Attributes:
        hota: geometric mean of detection and association accuracy.
        det_a: detection accuracy, |TP| / (|TP| + |FN| + |FP|).
        ass_a: association accuracy, the mean over true positives of the Jaccard index of their two tracks.
        loc_a: mean similarity of true positives, counted as 1 at an alpha without any; nan if there are none.
    """

    hota: float
    det_a: float
    ass_a: float
    loc_a: float


def hota_scores(pairs: TrackPairs, truth: TrackBoxes, guesses: TrackBoxes, threshold: float) -> HotaScores:
    """HOTA of one class.

    Args:
        pairs: close pairs of the class.
        truth: annotated boxes of the class.
        guesses: tracked boxes of the class.
        threshold: least score of the boxes to count; nan counts none.
    """
    if not len(truth):
        return HotaScores(*[float("nan")] * 4)
    kept = guesses.score >= threshold
    near = kept[pairs.guess] & (pairs.distance_m < pairs.reach_m)
    frame = pairs.frame[near]
    similarity = 1 - pairs.distance_m[near] / pairs.reach_m
    objects, own = np.unique(truth.track, return_inverse=True)
    tracks, other = np.unique(guesses.track, return_inverse=True)
    own_count = np.bincount(own, minlength=len(objects))
    other_count = np.bincount(other[kept], minlength=len(tracks))
    couple, couple_of_pair = np.unique(
        own[pairs.truth[near]] * max(len(tracks), 1) + other[pairs.guess[near]], return_inverse=True
    )
    own_total = own_count[couple // max(len(tracks), 1)]
    other_total = other_count[couple % max(len(tracks), 1)]
    potential = np.bincount(couple_of_pair, _shares(pairs, near, similarity), minlength=len(couple))
    alignment = potential / (own_total + other_total - potential)
    matched = _assign(frame, pairs.truth[near], pairs.guess[near], alignment[couple_of_pair] * similarity)
    scores = []
    for alpha in ALPHAS:
        hits = matched & (similarity >= alpha - np.finfo(float).eps)
        true = int(hits.sum())
        common = np.bincount(couple_of_pair[hits], minlength=len(couple))
        jaccard = common / np.maximum(1, own_total + other_total - common)
        association = float((common * jaccard).sum()) / max(1, true)
        detection = true / (len(truth) + int(kept.sum()) - true)
        location = float(similarity[hits].mean()) if true else 1.0
        scores.append((float(np.sqrt(detection * association)), detection, association, location))
    hota, det_a, ass_a, loc_a = np.mean(scores, axis=0).tolist()
    return HotaScores(hota, det_a, ass_a, loc_a if det_a > 0 else float("nan"))


def _shares(pairs: TrackPairs, near: Bools, similarity: Floats) -> Floats:
    """How much each pair speaks for its two tracks belonging together [P]: its share among rivals."""
    truth, guess = pairs.truth[near], pairs.guess[near]
    of_truth = np.bincount(truth, similarity)[truth]
    of_guess = np.bincount(guess, similarity)[guess]
    total = of_truth + of_guess - similarity
    return np.divide(similarity, total, out=np.zeros_like(similarity), where=total > np.finfo(float).eps)


def _assign(frame: Ints, truth: Ints, guess: Ints, gain: Floats) -> Bools:
    """One-to-one matching of largest total gain in each frame: which pairs [P] are taken."""
    taken: Bools = (np.bincount(truth)[truth] == 1) & (np.bincount(guess)[guess] == 1)
    rest = np.flatnonzero(~taken)
    rest = rest[np.argsort(frame[rest], kind="stable")]
    edges = np.flatnonzero(np.diff(frame[rest])) + 1
    for rows in np.split(rest, edges) if len(rest) else []:
        boxes, row = np.unique(truth[rows], return_inverse=True)
        others, column = np.unique(guess[rows], return_inverse=True)
        total = np.zeros((len(boxes), len(others)))
        total[row, column] = gain[rows]
        chosen = np.full(len(boxes), -1)
        first, second = linear_sum_assignment(total, maximize=True)
        chosen[first] = second
        taken[rows] = chosen[row] == column
    return taken
