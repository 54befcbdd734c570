"""What became of every box: matched, missed, false, switched, by the official matching.

The metrics are counts; this says which boxes were counted. Each class is taken at its operating threshold,
the score of best MOTA, at which the official summary reads its counts off.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.evaluation.arrays import Bools, EvaluationBoxes, Floats, GroundTruth, Ints, Samples
from syncl.evaluation.clear_matching import match_tracks
from syncl.evaluation.track_building import Frames, TrackBoxes
from syncl.evaluation.track_pairs import EvaluatedTracks, TrackPairs


@dataclass(frozen=True)
class Outcomes:
    """N annotated boxes and M tracked boxes, those that are evaluated, and what became of them.

    Attributes:
        samples: the evaluated samples.
        frames: them in scene and time order.
        objects: the annotated boxes.
        found: the tracked boxes.
        score: [M] mean score of each box's track; the boxes' own scores do not count.
        counted: [M] whether it reaches its class's threshold.
        tracked: [N] whether an annotated box is matched: to a box of `found`, or to one that fills a hole of
            its track.
        partner: [N] row of `found` that it is matched to; -1 for none.
        right: [M] whether a tracked box is matched.
        switched: [N] whether it is matched to another track than its object was before.
        dataset: classes and thresholds.
    """

    samples: Samples
    frames: Frames
    objects: EvaluationBoxes
    found: EvaluationBoxes
    score: Floats
    counted: Bools
    tracked: Bools
    partner: Ints
    right: Bools
    switched: Bools
    dataset: DatasetDescription = NUSCENES

    @property
    def wrong(self) -> Bools:
        """The false positives [M]."""
        false: Bools = self.counted & ~self.right
        return false


def track_outcomes(tracks: EvaluationBoxes, truth: GroundTruth, thresholds: Mapping[str, float]) -> Outcomes:
    """The outcome of every evaluated box.

    Args:
        tracks: unfiltered boxes of the tracking classes.
        truth: the samples to evaluate on and their unfiltered annotations.
        thresholds: class -> least score of its tracks; nan counts none. The official one is
            `TrackingCurve.operating_threshold`.
    """
    evaluated = EvaluatedTracks.of(tracks, truth)
    objects, found = evaluated.objects, evaluated.found
    outcomes = Outcomes(
        samples=truth.samples,
        frames=evaluated.frames,
        objects=objects,
        found=found,
        score=np.zeros(len(found)),
        counted=np.zeros(len(found), bool),
        tracked=np.zeros(len(objects), bool),
        partner=np.full(len(objects), -1),
        right=np.zeros(len(found), bool),
        switched=np.zeros(len(objects), bool),
        dataset=truth.dataset,
    )
    for name in truth.dataset.listed_tracked:
        _mark_class(outcomes, *evaluated.of_class(name), thresholds.get(name, np.nan))
    return outcomes


def _mark_class(
    outcomes: Outcomes, own: TrackBoxes, guesses: TrackBoxes, pairs: TrackPairs, threshold: float
) -> None:
    real = guesses.source >= 0
    outcomes.score[guesses.source[real]] = guesses.score[real]
    outcomes.counted[guesses.source[real]] = guesses.score[real] >= threshold
    if not len(own) or not len(guesses) or np.isnan(threshold):
        return
    matches = match_tracks(pairs, own, guesses, np.array([threshold]))
    rows = np.flatnonzero(matches.matched[:, 0])
    objects, tracks = own.source[pairs.truth[rows]], guesses.source[pairs.guess[rows]]
    switched = matches.switched[rows, 0]
    outcomes.right[tracks[tracks >= 0]] = True
    annotated = objects >= 0
    outcomes.tracked[objects[annotated]] = True
    outcomes.partner[objects[annotated]] = tracks[annotated]
    outcomes.switched[objects[annotated]] = switched[annotated]
