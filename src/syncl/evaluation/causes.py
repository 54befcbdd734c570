"""Why objects were missed, tracks false and identities switched, told by what the detector alone sees.

An end-to-end tracker loses an object in many ways, and each asks for something else: a better detector,
easier births, tracks that hold on. The outcome of every box is the official one (`outcomes`); the cause is
read off the course of its object and its track, and off the detections of the same model in single frames.

Letters: N annotated boxes, M tracked boxes, D detections.
"""

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from syncl.classes import DETECTION_CLASSES
from syncl.data.nuscenes.splits import OFFICIAL_SPLITS
from syncl.evaluation.arrays import Bools, EvaluationBoxes, Floats, GroundTruth, Ints
from syncl.evaluation.constants import TRACK_DISTANCE_M, TRACKING_ORDER
from syncl.evaluation.detection_matching import match_greedily, nearby_pairs, ranks_by_score
from syncl.evaluation.failures import courses
from syncl.evaluation.filtering import evaluated_boxes
from syncl.evaluation.ground_truth import read_ground_truth
from syncl.evaluation.outcomes import Outcomes, track_outcomes
from syncl.evaluation.result_arrays import read_results
from syncl.evaluation.tracking import tracking_metrics

MISS_CAUSES = (
    "score too low",  # a track is there, its score does not count
    "never detected",  # by no detection in any frame, and by no track
    "not detected",  # not by now, while no track has had it
    "born late",  # detected, but a track takes it only later
    "never born",  # detected, but no track ever takes it
    "drifted off",  # its track is elsewhere, on no object
    "swapped",  # its track follows another object
    "interrupted",  # its track pauses
    "died early",  # its track has ended
)
FALSE_CAUSES = (
    "duplicate",  # on an object that another track has
    "wrong class",  # on an object of another class
    "drifted off",  # its object is elsewhere
    "outlived",  # its object is gone
    "beside an object",  # of its class, up to twice the distance that would count
    "nothing there",
)
SWITCH_CAUSES = (
    "swapped",  # to a track that had another object
    "duplicated",  # to a new track beside the former one, which goes on
    "born again",  # to a new track, the former one being silent or gone
)
_NONE = -1


@dataclass(frozen=True)
class Causes:
    """The cause of everything that went wrong.

    Attributes:
        detected: [N] whether the detector alone sees an annotated box.
        missed: [N] index into `MISS_CAUSES` of each miss, -1 for boxes that are tracked.
        false: [M] index into `FALSE_CAUSES` of each false positive, -1 for all others.
        switched: [N] index into `SWITCH_CAUSES` where a switch ends, -1 elsewhere.
        least_scores: class -> the score from which on detections count: that of the best F1.
        distances_m: [N] from the vehicle.
        speeds_mps: [N] 0 where unknown.
    """

    detected: Bools
    missed: Ints
    false: Ints
    switched: Ints
    least_scores: dict[str, float]
    distances_m: Floats
    speeds_mps: Floats


def causes_of_files(
    tracks: Path, detections: Path, dataroot: Path, version: str, split: str, scenes: Collection[str] | None
) -> tuple[Outcomes, Causes]:
    """The outcomes of a results file at its operating thresholds, and their causes.

    Args:
        tracks: JSON in the nuScenes tracking submission format.
        detections: the same model's in the detection format, of the same samples.
        dataroot: nuScenes root, holding the folder `version`.
        version: such as "v1.0-trainval".
        split: an official split or one of the version's `splits.json`.
        scenes: names of the scenes, for a part of the split.

    Raises:
        SynclError: if tables or results cannot be used; it names file, sample and field.
    """
    truth = read_ground_truth(dataroot, version, split, scenes)
    custom = split not in OFFICIAL_SPLITS
    found = read_results(tracks, truth.samples, "tracking", allow_other_samples=custom).boxes
    seen = read_results(detections, truth.samples, "detection", allow_other_samples=custom).boxes
    curves = tracking_metrics(found, truth).curves
    outcomes = track_outcomes(found, truth, {name: c.operating_threshold for name, c in curves.items()})
    return outcomes, causes_of_loss(outcomes, seen, truth)


def causes_of_loss(outcomes: Outcomes, detections: EvaluationBoxes, truth: GroundTruth) -> Causes:
    """The cause of every miss, false positive and switch.

    Args:
        outcomes: of the tracks, from `track_outcomes`.
        detections: unfiltered boxes of the same model's detector in single frames.
        truth: the same that the outcomes are of.
    """
    with np.errstate(invalid="ignore"):
        seen = evaluated_boxes(detections, truth.samples, truth.racks)
    detected, least = _detected(outcomes.objects, seen)
    past = _Past(outcomes)
    objects = outcomes.objects
    return Causes(
        detected=detected,
        missed=_misses(outcomes, detected, past),
        false=_false(outcomes, past),
        switched=_switches(outcomes, past),
        least_scores=least,
        distances_m=np.hypot(*(objects.centre[:, :2] - truth.samples.ego_xy[objects.sample]).T),
        speeds_mps=np.nan_to_num(np.hypot(*objects.velocity.T)),
    )


def _detected(objects: EvaluationBoxes, detections: EvaluationBoxes) -> tuple[Bools, dict[str, float]]:
    """Which annotated boxes detections find, and the score from which on they count, by class."""
    detected, least = np.zeros(len(objects), bool), {}
    for name in TRACKING_ORDER:
        own = np.flatnonzero(objects.label == DETECTION_CLASSES.index(name))
        found = detections.select(detections.label == DETECTION_CLASSES.index(name))
        least[name] = np.inf
        if not len(own) or not len(found):
            continue
        pairs = nearby_pairs(
            found.sample, found.centre[:, :2], objects.sample[own], objects.centre[own, :2], TRACK_DISTANCE_M
        )
        rank = ranks_by_score(found.score)
        matched, _ = match_greedily(pairs, rank, len(own), TRACK_DISTANCE_M)
        right = np.cumsum((matched >= 0)[np.argsort(rank)])
        f1 = 2 * right / (np.arange(1, len(found) + 1) + len(own))
        best = int(f1.argmax())
        least[name] = float(found.score[np.argsort(rank)[best]])
        detected[own[matched[(rank <= best) & (matched >= 0)]]] = True
    return detected, least


class _Past:
    """Which track had which object when; frames are rows of `Outcomes.frames`."""

    def __init__(self, outcomes: Outcomes) -> None:
        objects, found = outcomes.objects, outcomes.found
        self.object_frame: Ints = outcomes.frames.of_sample[objects.sample]
        self.found_frame: Ints = outcomes.frames.of_sample[found.sample]
        self.owner = np.full(len(found), _NONE)
        held = np.flatnonzero(outcomes.partner >= 0)
        self.owner[outcomes.partner[held]] = held
        self.boxes: dict[tuple[int, int], dict[int, int]] = defaultdict(dict)
        for row in np.flatnonzero(outcomes.counted).tolist():
            self.boxes[self.track(found, row)][int(self.found_frame[row])] = row
        self.annotated = set(zip(objects.identity.tolist(), self.object_frame.tolist(), strict=True))

    @staticmethod
    def track(boxes: EvaluationBoxes, row: int) -> tuple[int, int]:
        """A track of one class: classes are judged apart."""
        return int(boxes.identity[row]), int(boxes.label[row])

    def owners_before(self, outcomes: Outcomes, track: tuple[int, int], frame: int) -> list[int]:
        """Identities of the objects that a track had before a frame, in time order."""
        rows = [row for when, row in sorted(self.boxes[track].items()) if when < frame]
        return [int(outcomes.objects.identity[self.owner[row]]) for row in rows if self.owner[row] >= 0]


def _misses(outcomes: Outcomes, detected: Bools, past: _Past) -> Ints:
    objects, found = outcomes.objects, outcomes.found
    cause = np.full(len(objects), _NONE)
    below = np.zeros(len(objects), bool)
    pairs = nearby_pairs(
        found.sample, found.centre[:, :2], objects.sample, objects.centre[:, :2], TRACK_DISTANCE_M
    )
    alike = found.label[pairs.detection] == objects.label[pairs.truth]
    below[pairs.truth[alike & ~outcomes.counted[pairs.detection]]] = True
    for rows in courses(outcomes, objects.identity, objects.sample):
        tracked = outcomes.tracked[rows]
        last: tuple[int, int] | None = None
        for place, row in enumerate(rows.tolist()):
            if tracked[place]:
                if outcomes.partner[row] >= 0:
                    last = past.track(found, int(outcomes.partner[row]))
            elif below[row]:
                cause[row] = MISS_CAUSES.index("score too low")
            elif last is None:
                name = "born late" if tracked.any() else "never born"
                if not detected[row]:
                    known = tracked.any() or detected[rows].any()
                    name = "not detected" if known else "never detected"
                cause[row] = MISS_CAUSES.index(name)
            else:
                cause[row] = MISS_CAUSES.index(_lost(past, last, int(past.object_frame[row])))
    return cause


def _lost(past: _Past, track: tuple[int, int], frame: int) -> str:
    """What became of the track that last had an object which is missed in a frame."""
    boxes = past.boxes[track]
    if frame in boxes:
        return "swapped" if past.owner[boxes[frame]] >= 0 else "drifted off"
    return "interrupted" if max(boxes) > frame else "died early"


def _false(outcomes: Outcomes, past: _Past) -> Ints:
    objects, found = outcomes.objects, outcomes.found
    cause = np.full(len(found), _NONE)
    pairs = nearby_pairs(
        found.sample, found.centre[:, :2], objects.sample, objects.centre[:, :2], 2 * TRACK_DISTANCE_M
    )
    alike = found.label[pairs.detection] == objects.label[pairs.truth]
    near = pairs.distance_m < TRACK_DISTANCE_M

    def any_of(chosen: Bools) -> Bools:
        flags = np.zeros(len(found), bool)
        flags[pairs.detection[chosen]] = True
        return flags

    taken = any_of(alike & near & outcomes.tracked[pairs.truth])
    other, beside = any_of(~alike & near), any_of(alike)
    for row in np.flatnonzero(outcomes.wrong).tolist():
        frame = int(past.found_frame[row])
        before = past.owners_before(outcomes, past.track(found, row), frame)
        if taken[row]:
            name = "duplicate"
        elif other[row]:
            name = "wrong class"
        elif before:
            name = "drifted off" if (before[-1], frame) in past.annotated else "outlived"
        else:
            name = "beside an object" if beside[row] else "nothing there"
        cause[row] = FALSE_CAUSES.index(name)
    return cause


def _switches(outcomes: Outcomes, past: _Past) -> Ints:
    objects, found = outcomes.objects, outcomes.found
    cause = np.full(len(objects), _NONE)
    for rows in courses(outcomes, objects.identity, objects.sample):
        held = [row for row in rows.tolist() if outcomes.partner[row] >= 0]
        for before, row in pairwise(held):
            if not outcomes.switched[row]:
                continue
            frame = int(past.object_frame[row])
            former = past.track(found, int(outcomes.partner[before]))
            new = past.track(found, int(outcomes.partner[row]))
            others = set(past.owners_before(outcomes, new, frame)) - {int(objects.identity[row])}
            name = "duplicated" if frame in past.boxes[former] else "born again"
            cause[row] = SWITCH_CAUSES.index("swapped" if others else name)
    return cause


def shares(cause: Ints, names: tuple[str, ...], rows: Bools | None = None) -> dict[str, int]:
    """How often each cause occurs, among all boxes or those of a mask."""
    counted = cause if rows is None else cause[rows]
    return {name: int((counted == number).sum()) for number, name in enumerate(names)}
