"""Greedy matching of detections to ground truth, for every distance threshold at once.

The protocol goes through a class's detections by falling score; each takes the nearest object of its sample
that is still free, if that is near enough. Detections of higher score thus always win, and each detection
wants near objects more than far ones: the outcome is the stable matching in which objects prefer high scores
and detections small distances. It is found here by letting all detections propose at the same time.
"""

from dataclasses import dataclass

import numpy as np

from syncl.evaluation.arrays import Floats, Ints


@dataclass(frozen=True)
class Candidates:
    """Pairs of a detection and an object near it, by detection, then distance, then the object's order.

    Attributes:
        detection: [P] index of the detection.
        truth: [P] index of the object.
        distance_m: [P] distance of centres in the xy plane.
    """

    detection: Ints
    truth: Ints
    distance_m: Floats


def nearby_pairs(
    detection_sample: Ints, detection_xy: Floats, truth_sample: Ints, truth_xy: Floats, reach_m: float
) -> Candidates:
    """All pairs within a sample whose distance is below `reach_m`.

    Args:
        detection_sample: [D] sample of each detection, -1 for none.
        detection_xy: [D, 2], finite.
        truth_sample: [G] sample of each object.
        truth_xy: [G, 2], finite.
        reach_m: exclusive bound.
    """
    empty = np.zeros(0, np.int64)
    if not len(truth_xy) or not len(detection_xy):
        return Candidates(empty, empty, np.zeros(0))
    # Objects sorted along one line, a stretch of x for each sample; a detection looks at a window of it.
    low = min(truth_xy[:, 0].min(), detection_xy[:, 0].min())
    stretch = max(truth_xy[:, 0].max(), detection_xy[:, 0].max()) - low + 4 * reach_m
    place = truth_sample * stretch + (truth_xy[:, 0] - low)
    order = np.argsort(place, kind="stable")
    window = 1.01 * reach_m
    middle = detection_sample * stretch + (detection_xy[:, 0] - low)
    begin = np.searchsorted(place[order], middle - window)
    count = np.searchsorted(place[order], middle + window, side="right") - begin
    detection = np.repeat(np.arange(len(count)), count)
    truth = order[np.arange(len(detection)) + np.repeat(begin - (np.cumsum(count) - count), count)]
    offset = detection_xy[detection] - truth_xy[truth]
    close = (np.abs(offset[:, 1]) < window) & (truth_sample[truth] == detection_sample[detection])
    detection, truth, offset = detection[close], truth[close], offset[close]
    # A product of matrices, not a sum of squares: it rounds like the dot product of the official code.
    squared = np.matmul(offset[:, None, :], offset[:, :, None])[:, 0, 0]
    distance = np.sqrt(squared)
    close = distance < reach_m
    detection, truth, distance = detection[close], truth[close], distance[close]
    order = np.lexsort((truth, distance, detection))
    return Candidates(detection[order], truth[order], distance[order])


def match_greedily(
    candidates: Candidates, rank: Ints, truths: int, threshold_m: float
) -> tuple[Ints, Floats]:
    """The protocol's greedy matching.

    Args:
        candidates: pairs, sorted as `Candidates` says.
        rank: [D] place of each detection when they are sorted by falling score; all differ.
        truths: number of objects.
        threshold_m: only pairs below this distance can be matched.

    Returns:
        The matched object of each detection [D], -1 for none, and their distance [D], nan for none.
    """
    near = candidates.distance_m < threshold_m
    detection, truth = candidates.detection[near], candidates.truth[near]
    distance = candidates.distance_m[near]
    # Pair by pair: where each detection's list goes on, -1 at its end.
    following = np.arange(1, len(detection) + 1)
    following[np.diff(detection, append=-1) != 0] = -1
    holder_rank = np.full(truths, len(rank), np.int64)
    holder_pair = np.full(truths, -1, np.int64)
    proposing = np.flatnonzero(np.diff(detection, prepend=-1))
    while len(proposing):
        wanted = truth[proposing]
        ranks = rank[detection[proposing]]
        np.minimum.at(holder_rank, wanted, ranks)
        won = holder_rank[wanted] == ranks
        dismissed = holder_pair[wanted[won]]
        holder_pair[wanted[won]] = proposing[won]
        refused = np.concatenate([proposing[~won], dismissed[dismissed >= 0]])
        refused = following[refused]
        proposing = refused[refused >= 0]
    matched = np.full(len(rank), -1, np.int64)
    matched_distance = np.full(len(rank), np.nan)
    pairs = holder_pair[holder_pair >= 0]
    matched[detection[pairs]] = truth[pairs]
    matched_distance[detection[pairs]] = distance[pairs]
    return matched, matched_distance


def ranks_by_score(score: Floats) -> Ints:
    """Place [D] of each detection by falling score; of equal ones the last in the file comes first."""
    order = np.argsort(score, kind="stable")[::-1]
    rank = np.empty(len(score), np.int64)
    rank[order] = np.arange(len(score))
    return rank
