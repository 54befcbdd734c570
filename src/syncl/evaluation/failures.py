"""The failures worth looking at: lasting identity switches, long misses, false tracks that lived long."""

from dataclasses import dataclass

import numpy as np

from syncl.evaluation.arrays import Ints
from syncl.evaluation.outcomes import Outcomes


@dataclass(frozen=True)
class IdentitySwitch:
    """An object goes on under another track.

    Attributes:
        before: row of `Outcomes.objects` in the last frame in which the former track found the object.
        after: row in the first frame of the new track.
        former: row of `Outcomes.found` matched in the frame `before`.
        new: row matched in the frame `after`.
        frames_before: frames in which the former track found the object, since the switch before.
        frames_after: frames in which the new track found it, up to the switch after.
    """

    before: int
    after: int
    former: int
    new: int
    frames_before: int
    frames_after: int


@dataclass(frozen=True)
class Miss:
    """An object that no track found, for a run of frames.

    Attributes:
        rows: its rows of `Outcomes.objects` in these frames, in time order.
        ever: whether the object was found in any other frame.
    """

    rows: tuple[int, ...]
    ever: bool


@dataclass(frozen=True)
class FalseTrack:
    """A track, or the part of one, that follows no object.

    Attributes:
        rows: its false rows of `Outcomes.found`, in time order.
        score: mean score of the track.
        nearest_m: least distance to an annotated object of its class in these frames; inf if there is none.
            A little more than 2 m means a poor position rather than an invention.
    """

    rows: tuple[int, ...]
    score: float
    nearest_m: float


def identity_switches(outcomes: Outcomes) -> list[IdentitySwitch]:
    """All switches, those first whose two tracks both found the object longest (the shorter of them counts).

    Switches from or to a box that fills a hole of a track are left out: there is nothing to be seen of them.
    """
    switches = []
    for rows in _courses(outcomes, outcomes.objects.identity, outcomes.objects.sample):
        held = rows[outcomes.tracked[rows]]
        places = np.flatnonzero(outcomes.switched[held])
        for place in places.tolist():
            earlier = places[places < place].max(initial=0)
            later = places[places > place].min(initial=len(held))
            before, after = int(held[place - 1]), int(held[place])
            former, new = int(outcomes.partner[before]), int(outcomes.partner[after])
            if former >= 0 and new >= 0:
                switches.append(
                    IdentitySwitch(before, after, former, new, place - int(earlier), int(later) - place)
                )
    switches.sort(key=lambda s: (-min(s.frames_before, s.frames_after), -s.frames_before - s.frames_after))
    return switches


def longest_misses(outcomes: Outcomes) -> list[Miss]:
    """Every run of frames in which an object stays unfound, the longest first; of equal ones, the nearest."""
    misses = []
    for rows in _courses(outcomes, outcomes.objects.identity, outcomes.objects.sample):
        found = outcomes.tracked[rows]
        misses += [Miss(tuple(run.tolist()), bool(found.any())) for run in _runs(rows, ~found)]
    offset = outcomes.objects.centre[:, :2] - outcomes.samples.ego_xy[outcomes.objects.sample]
    distance = np.hypot(*offset.T)
    misses.sort(key=lambda miss: (-len(miss.rows), float(distance[list(miss.rows)].min())))
    return misses


def false_tracks(outcomes: Outcomes) -> list[FalseTrack]:
    """Every track with false positives, those first that have most of them; of equal ones, the surest."""
    wrong = outcomes.wrong
    found = outcomes.found
    tracks = []
    for rows in _courses(outcomes, found.identity, found.sample):
        # A track may change its class, and the classes are judged apart.
        for label in np.unique(found.label[rows]).tolist():
            false = rows[wrong[rows] & (found.label[rows] == label)]
            if len(false):
                nearest = min(_nearest_m(outcomes, row) for row in false.tolist())
                tracks.append(FalseTrack(tuple(false.tolist()), float(outcomes.score[false[0]]), nearest))
    tracks.sort(key=lambda track: (-len(track.rows), -track.score))
    return tracks


def _courses(outcomes: Outcomes, identity: Ints, sample: Ints) -> list[Ints]:
    """The rows of each object or track of a scene, in time order."""
    if not len(identity):
        return []
    frame = outcomes.frames.of_sample[sample]
    scene = outcomes.frames.scene[frame]
    order = np.lexsort((frame, identity, scene))
    scene, identity = scene[order], identity[order]
    edges = np.flatnonzero((scene[1:] != scene[:-1]) | (identity[1:] != identity[:-1])) + 1
    return np.split(order, edges)


def _runs(rows: Ints, flags: np.ndarray[tuple[int], np.dtype[np.bool_]]) -> list[Ints]:
    """The rows of each run of set flags."""
    edges = np.flatnonzero(flags[1:] != flags[:-1]) + 1
    return [part for part, run in zip(np.split(rows, edges), np.split(flags, edges)) if run[0]]


def _nearest_m(outcomes: Outcomes, row: int) -> float:
    objects, found = outcomes.objects, outcomes.found
    same = (objects.sample == found.sample[row]) & (objects.label == found.label[row])
    offset = objects.centre[same, :2] - found.centre[row, :2]
    return float(np.hypot(*offset.T).min(initial=np.inf))
