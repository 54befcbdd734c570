"""Why objects are missed, boxes false and identities switched.

Everything is judged as the official tracking metrics judge it: class by class, centres less than 2 m apart,
holes of tracks filled, boxes that count being those whose track's mean score reaches the class's threshold.
So each failure of the official counts gets one cause: the first in the order below that holds. An object is
held in the frames in which it is matched; its former track is the one that held it last.

Misses (`MISS_CAUSES`)

    low_score       the object would be matched in this frame if every reported box counted
    no track has held the object before this frame:
      never_detected  the detector finds the object in no frame of the scene
      detected_late   the detector finds it first in a later frame
      not_born        the detector finds it in this frame or an earlier one; no track holds it in any frame
      born_late       the same; a track holds it first in a later frame
      (without detections: never_held, if no track holds it in any frame, else not_held_yet)
    a track has held it before:
      swapped         the former track's box in this frame is matched to another object
      drifted         the former track reports a box of the class here, which is not matched
      reclassified    it reports a box of another class here
      interrupted     it reports no box here and has one in a later frame
      died_early      it has no box here nor later

False boxes (`FALSE_BOX_CAUSES`)

    filled          the tracker did not report it: it fills a hole of its track
    duplicated      an object of the class is within 2 m (and matched to another box, or it would be a match)
    wrong_class     an object of another tracking class is within 2 m
    drifted         the object that its track held last is annotated in this frame
    outlived        its track held an object, which is not annotated (or not evaluated) in this frame
    beside          an object of the class is within 4 m
    nothing_there   none of these

Identity switches (`SWITCH_CAUSES`)

    swapped         the new track held another object last, or the former one is matched to another object now
    duplicated      in an earlier frame the new track was within 2 m of the object without being its match
    drifted, reclassified, interrupted, died_early      what the former track does in this frame, as above

The detector finds an object in a frame if one of its boxes is matched to it: greedily by falling score, as
the detection metrics match, within 2 m, at the score of the class's best F1.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from syncl.evaluation.arrays import Bools, EvaluationBoxes, Floats, GroundTruth, Ints
from syncl.evaluation.cause_table import (
    BESIDE,
    FALSE_BOX_CAUSES,
    MISS_CAUSES,
    SWITCH_CAUSES,
    CauseCounts,
    CauseTable,
    Traits,
)
from syncl.evaluation.clear_matching import match_tracks
from syncl.evaluation.detection_matching import match_greedily, nearby_pairs, ranks_by_score
from syncl.evaluation.filtering import evaluated_boxes
from syncl.evaluation.track_building import Frames, TrackBoxes
from syncl.evaluation.track_pairs import EvaluatedTracks, TrackPairs


def find_causes(
    tracks: EvaluationBoxes,
    truth: GroundTruth,
    thresholds: Mapping[str, float],
    detections: EvaluationBoxes | None = None,
) -> CauseTable:
    """Sorts every miss, false box and identity switch by cause; the module says what each means.

    Distances and visibilities are those of the annotated box, or of the false box, in that frame. The speed
    of an annotated box is that of its centre over the frames beside it; of a false box, the reported one.

    Args:
        tracks: unfiltered boxes of the tracking classes.
        truth: the samples to evaluate on and their unfiltered annotations.
        thresholds: class -> least mean score of the tracks that count; nan counts none, -inf all. The
            official one is `TrackingCurve.operating_threshold`.
        detections: unfiltered boxes of the detector in single frames.
    """
    evaluated = EvaluatedTracks.of(tracks, truth)
    scene = _Scene(truth, evaluated)
    if detections is not None:
        with np.errstate(invalid="ignore"):
            detections = evaluated_boxes(detections, truth)
    known = detections is not None
    names = truth.dataset.listed_tracked
    near_m = truth.dataset.measures.track_distance_m
    misses = CauseCounts.empty(MISS_CAUSES, names, known, near_m)
    false_boxes = CauseCounts.empty(FALSE_BOX_CAUSES, names, False, near_m)
    switches = CauseCounts.empty(SWITCH_CAUSES, names, known, near_m)
    least = {name: float(thresholds.get(name, np.nan)) for name in names}
    least_detection: dict[str, float] = {}
    for name in names:
        matched = _match_class(evaluated, name, least[name])
        detected = None
        if detections is not None:
            detected, least_detection[name] = _detected(detections, matched.own, evaluated, name)
        traits = scene.object_traits(matched.own, name)
        every = np.ones(len(matched.own), bool)
        former = _former_tracks(matched, evaluated.guesses)
        misses.add(_causes_of_misses(matched, former, detected), traits, every, detected)
        switches.add(_causes_of_switches(matched, former), traits, every, detected)
        false = _causes_of_false_boxes(matched, evaluated.own)
        false_boxes.add(false, scene.box_traits(matched.guesses, name), matched.counted)
    return CauseTable(misses, false_boxes, switches, least, least_detection if known else None)


@dataclass(frozen=True)
class _Scene:
    """What boxes are like."""

    truth: GroundTruth
    evaluated: EvaluatedTracks

    def object_traits(self, boxes: TrackBoxes, name: str) -> Traits:
        """Groups of annotated boxes."""
        visibility = np.zeros(len(boxes), np.int64)
        real = boxes.source >= 0
        if self.truth.visibility is not None:
            every = self.truth.boxes
            key, span = every.identity, len(self.truth.samples)
            order = np.argsort(key * span + every.sample)
            sorted_key = (key * span + every.sample)[order]
            objects, rows = self.evaluated.objects, boxes.source[real]
            wanted = objects.identity[rows] * span + objects.sample[rows]
            visibility[real] = self.truth.visibility[order[np.searchsorted(sorted_key, wanted)]]
        return Traits.of(
            self.truth.dataset.listed_tracked.index(name),
            self._distance_m(boxes),
            _course_speed(boxes, self.evaluated.frames),
            visibility,
        )

    def box_traits(self, boxes: TrackBoxes, name: str) -> Traits:
        """Groups of tracked boxes."""
        speed = np.full(len(boxes), np.nan)
        real = boxes.source >= 0
        speed[real] = np.hypot(*self.evaluated.found.velocity[boxes.source[real]].T)
        nowhere = np.zeros(len(boxes), np.int64)
        return Traits.of(
            self.truth.dataset.listed_tracked.index(name), self._distance_m(boxes), speed, nowhere
        )

    def _distance_m(self, boxes: TrackBoxes) -> Floats:
        ego_xy = np.empty_like(self.truth.samples.ego_xy)
        ego_xy[self.evaluated.frames.of_sample] = self.truth.samples.ego_xy
        distance: Floats = np.hypot(*(boxes.xy - ego_xy[boxes.frame]).T)
        return distance


@dataclass(frozen=True)
class _Matched:
    """One class after matching: G annotated boxes, D tracked ones.

    Attributes:
        own: the annotated boxes. guesses: the tracked ones.
        pairs: those of them that are close.
        counted: [D] whether a box's track reaches the threshold.
        partner: [G] row of `guesses`, -1 for none.
        owner: [D] row of `own`, -1 for none.
        switched: [G] whether the partner is of another track than the object's last one.
        found_if_all: [G] whether it is matched if every box counts.
    """

    own: TrackBoxes
    guesses: TrackBoxes
    pairs: TrackPairs
    counted: Bools
    partner: Ints
    owner: Ints
    switched: Bools
    found_if_all: Bools


def _match_class(evaluated: EvaluatedTracks, name: str, threshold: float) -> _Matched:
    own, guesses, pairs = evaluated.of_class(name)
    least = np.inf if np.isnan(threshold) else threshold
    partner, owner = np.full(len(own), -1), np.full(len(guesses), -1)
    switched, found_if_all = np.zeros(len(own), bool), np.zeros(len(own), bool)
    if len(pairs):
        matches = match_tracks(pairs, own, guesses, np.array([-np.inf, least]))
        found_if_all[pairs.truth[matches.matched[:, 0]]] = True
        rows = np.flatnonzero(matches.matched[:, 1])
        partner[pairs.truth[rows]] = pairs.guess[rows]
        owner[pairs.guess[rows]] = pairs.truth[rows]
        switched[pairs.truth[matches.switched[:, 1]]] = True
    counted = guesses.score >= least
    return _Matched(own, guesses, pairs, counted, partner, owner, switched, found_if_all)


def _former_tracks(matched: _Matched, every: TrackBoxes) -> dict[str, Bools]:
    """What the track that held an object last does in this frame, by cause, for each of G annotated boxes.

    "died_early" [G] holds wherever there is such a track: the causes before it are why it may not have died.
    """
    own, guesses = matched.own, matched.guesses
    last = _latest_before(own, matched.partner >= 0)
    known = last >= 0
    track = np.full(len(own), -1)
    track[known] = guesses.track[matched.partner[last[known]]]
    real = guesses.source >= 0
    reported = every.source >= 0
    other = reported & (every.label != guesses.label[0]) if len(guesses) else np.zeros(len(every), bool)
    final_frame = np.full(every.track.max(initial=-1) + 1, -1)
    np.maximum.at(final_frame, every.track[reported], every.frame[reported])
    goes_on = np.zeros(len(own), bool)
    goes_on[known] = final_frame[track[known]] > own.frame[known]

    def has_box(boxes: TrackBoxes, chosen: Bools) -> Bools:
        return known & _contains(boxes.track[chosen], boxes.frame[chosen], track, own.frame)

    return {
        "swapped": has_box(guesses, matched.owner >= 0),
        "drifted": has_box(guesses, matched.counted & real),
        "reclassified": has_box(every, other),
        "interrupted": goes_on,
        "died_early": known,
    }


def _causes_of_misses(matched: _Matched, former: dict[str, Bools], detected: Bools | None) -> Ints:
    """Row of `MISS_CAUSES` of each annotated box; -1 for those that are found."""
    own = matched.own
    found = matched.partner >= 0
    unheld = ~former["died_early"]
    ever_held = _any_of_track(own, found)
    if detected is None:
        births = {"never_held": unheld & ~ever_held, "not_held_yet": unheld}
    else:
        so_far = detected | (_latest_before(own, detected) >= 0)
        births = {
            "never_detected": unheld & ~_any_of_track(own, detected),
            "detected_late": unheld & ~so_far,
            "not_born": unheld & ~ever_held,
            "born_late": unheld,
        }
    conditions = {"low_score": matched.found_if_all, **births, **former}
    return _first_that_holds(MISS_CAUSES, conditions, ~found)


def _causes_of_switches(matched: _Matched, former: dict[str, Bools]) -> Ints:
    """Row of `SWITCH_CAUSES` of each annotated box; -1 for those without a switch."""
    own, guesses, pairs = matched.own, matched.guesses, matched.pairs
    switched = np.flatnonzero(matched.switched)
    new = matched.partner[switched]
    last = _latest_before(guesses, matched.owner >= 0)[new]
    came_from = np.full(len(switched), -1)
    came_from[last >= 0] = own.track[matched.owner[last[last >= 0]]]
    swapped, duplicated = former["swapped"].copy(), np.zeros(len(own), bool)
    swapped[switched] |= (came_from >= 0) & (came_from != own.track[switched])
    idle = (matched.partner[pairs.truth] != pairs.guess) & matched.counted[pairs.guess]
    idle &= pairs.distance_m < pairs.reach_m
    span = guesses.track.max(initial=-1) + 1
    beside, first = np.unique(
        own.track[pairs.truth[idle]] * span + guesses.track[pairs.guess[idle]], return_index=True
    )
    # Pairs are in time order, so the first of two tracks is the earliest.
    since = dict(zip(beside.tolist(), pairs.frame[idle][first].tolist(), strict=True))
    met = (own.track[switched] * span + guesses.track[new]).tolist()
    begun = np.array([since.get(key, np.iinfo(np.int64).max) for key in met], np.int64)
    duplicated[switched] = begun < own.frame[switched]
    conditions = {**former, "swapped": swapped, "duplicated": duplicated}
    return _first_that_holds(SWITCH_CAUSES, conditions, matched.switched)


def _causes_of_false_boxes(matched: _Matched, every: TrackBoxes) -> Ints:
    """Row of `FALSE_BOX_CAUSES` of each tracked box; -1 for those that are right or do not count."""
    own, guesses, pairs = matched.own, matched.guesses, matched.pairs
    duplicated = np.zeros(len(guesses), bool)
    duplicated[pairs.guess[pairs.distance_m < pairs.reach_m]] = True
    last = _latest_before(guesses, matched.owner >= 0)
    held = last >= 0
    lost = np.full(len(guesses), -1)
    lost[held] = own.track[matched.owner[last[held]]]
    others = every.label != guesses.label[0] if len(guesses) else np.zeros(len(every), bool)
    conditions = {
        "filled": guesses.source < 0,
        "duplicated": duplicated,
        "wrong_class": _near_any(guesses, every.frame[others], every.xy[others], pairs.reach_m),
        "drifted": held & _contains(own.track, own.frame, lost, guesses.frame),
        "outlived": held,
        "beside": _near_any(guesses, own.frame, own.xy, BESIDE * pairs.reach_m),
        "nothing_there": np.ones(len(guesses), bool),
    }
    return _first_that_holds(FALSE_BOX_CAUSES, conditions, matched.counted & (matched.owner < 0))


def _detected(
    detections: EvaluationBoxes, own: TrackBoxes, evaluated: EvaluatedTracks, name: str
) -> tuple[Bools, float]:
    """Which annotated boxes [G] the detector finds at the score of its best F1, and that score."""
    dataset, frames = evaluated.dataset, evaluated.frames
    reach_m = dataset.measures.track_distance_m
    boxes = detections.select(detections.label == dataset.classes.index(name))
    detected = np.zeros(len(own), bool)
    if not len(boxes) or not len(own):
        return detected, float("nan")
    candidates = nearby_pairs(frames.of_sample[boxes.sample], boxes.centre[:, :2], own.frame, own.xy, reach_m)
    # Greedy matching by falling score: a threshold takes away the end of it and changes nothing before.
    truth, _ = match_greedily(candidates, ranks_by_score(boxes.score), len(own), reach_m)
    order = np.argsort(-boxes.score, kind="stable")
    score = boxes.score[order]
    hits = np.cumsum(truth[order] >= 0)
    if not hits[-1]:
        return detected, float("nan")
    f1 = 2 * hits / (np.arange(1, len(order) + 1) + len(own))
    # Boxes of equal scores count together.
    f1[np.append(score[1:] == score[:-1], False)] = -1.0
    threshold = float(score[int(f1.argmax())])
    detected[truth[(truth >= 0) & (boxes.score >= threshold)]] = True
    return detected, threshold


def _first_that_holds(causes: Mapping[str, str], conditions: Mapping[str, Bools], failed: Bools) -> Ints:
    """Row of the first cause whose condition holds, for each failure; -1 for the rest."""
    cause = np.full(len(failed), -1)
    for row, name in reversed(list(enumerate(causes))):
        if name in conditions:
            cause[failed & conditions[name]] = row
    return cause


def _by_track(boxes: TrackBoxes) -> tuple[Ints, Ints]:
    """Rows by track, then time, and where in that order each one's track begins."""
    order = np.lexsort((boxes.frame, boxes.track))
    track = boxes.track[order]
    return order, np.searchsorted(track, track)


def _latest_before(boxes: TrackBoxes, flags: Bools) -> Ints:
    """Row of the latest earlier box [N] of the same track whose flag is set; -1 for none."""
    order, begin = _by_track(boxes)
    place = np.where(flags[order], np.arange(len(order)), -1)
    latest = np.append(-1, np.maximum.accumulate(place)[:-1]) if len(order) else place
    earlier = np.full(len(order), -1)
    inside = latest >= begin
    earlier[order[inside]] = order[latest[inside]]
    return earlier


def _any_of_track(boxes: TrackBoxes, flags: Bools) -> Bools:
    """Whether the flag of any box of a box's track is set [N]."""
    return np.isin(boxes.track, boxes.track[flags])


def _contains(tracks: Ints, frames: Ints, track: Ints, frame: Ints) -> Bools:
    """Which of the pairs (track, frame) [N] are among (tracks, frames)."""
    span = max(frames.max(initial=-1), frame.max(initial=-1)) + 1
    return np.isin(track * span + frame, tracks * span + frames)


def _near_any(boxes: TrackBoxes, frame: Ints, xy: Floats, reach_m: float) -> Bools:
    """Which boxes [N] have one of the given points of their frame nearer than `reach_m`."""
    near = np.zeros(len(boxes), bool)
    near[nearby_pairs(boxes.frame, boxes.xy, frame, xy, reach_m).detection] = True
    return near


def _course_speed(boxes: TrackBoxes, frames: Frames) -> Floats:
    """Speed [N], m/s, between the boxes of the track before and after each box; nan for a single one."""
    order, begin = _by_track(boxes)
    track = boxes.track[order]
    place = np.arange(len(order))
    before = order[np.maximum(place - 1, begin)]
    after = order[np.minimum(place + 1, np.searchsorted(track, track, side="right") - 1)]
    seconds = (frames.timestamp_us[boxes.frame[after]] - frames.timestamp_us[boxes.frame[before]]) / 1e6
    moved = np.hypot(*(boxes.xy[after] - boxes.xy[before]).T)
    speed = np.full(len(order), np.nan)
    speed[order] = np.divide(moved, seconds, out=np.full(len(order), np.nan), where=seconds > 0)
    return speed
