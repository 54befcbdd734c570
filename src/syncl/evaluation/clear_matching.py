"""CLEAR-MOT matching of tracks, for all score thresholds and all scenes at once.

Frame by frame, the official code first keeps every pair of the past that is still close, then matches the
rest at least total distance. What happens in a frame depends on the frames before it, but not on other
scenes or other thresholds: so frames are gone through in time order, with all scenes and thresholds side by
side as arrays. P pairs, K thresholds.

Nearly all frames decompose into trivial cases (a box that has one possible partner, which has no other); only
what remains goes to an assignment solver, with the very matrix the official code would give it.
"""

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from syncl.evaluation.arrays import Bools, Floats, Ints
from syncl.evaluation.track_building import TrackBoxes
from syncl.evaluation.track_pairs import TrackPairs

_TIE_M = 1e-9


class Groups:
    """Sums and extremes over rows that share a value, handed back to each of these rows."""

    def __init__(self, values: Ints) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        first = np.append(True, ordered[1:] != ordered[:-1])
        self.starts = np.flatnonzero(first)
        self.index = np.empty(len(values), np.int64)
        self.index[self.order] = np.cumsum(first) - 1

    def total(self, flags: Bools) -> NDArray[np.int16]:
        """Number of set flags in each row's group, column by column."""
        count: NDArray[np.int16] = np.add.reduceat(flags[self.order], self.starts, axis=0, dtype=np.int16)
        return count[self.index]

    def any(self, flags: Bools) -> Bools:
        """Whether any flag of each row's group is set, column by column."""
        found: Bools = np.logical_or.reduceat(flags[self.order], self.starts, axis=0)
        return found[self.index]

    def largest(self, values: NDArray[np.int16]) -> NDArray[np.int16]:
        """Largest value of each row's group, column by column."""
        top: NDArray[np.int16] = np.maximum.reduceat(values[self.order], self.starts, axis=0)
        return top[self.index]

    def nearest(self, flags: Bools, distance: Floats, margin: float) -> tuple[Bools, Bools]:
        """The flagged rows within `margin` of their group's nearest, and whether that is one row only."""
        masked = np.where(flags, distance, np.inf)
        least = np.minimum.reduceat(masked[self.order], self.starts, axis=0)[self.index]
        close = flags & (masked <= least + margin)
        return close, self.total(close) == 1


@dataclass(frozen=True)
class TrackMatches:
    """Which pairs are matched at which threshold.

    Attributes:
        matched: [P, K].
        switched: [P, K] those of them in which the annotated object had another track before.
        alone: [A, K] for each noisy pair, whether its guess is the only one of its frame.
    """

    matched: Bools
    switched: Bools
    alone: Bools


def match_tracks(
    pairs: TrackPairs, truth: TrackBoxes, guesses: TrackBoxes, thresholds: Floats
) -> TrackMatches:
    """Matches tracks to annotated objects at each score threshold.

    Args:
        pairs: close pairs of one class.
        truth: annotated boxes of that class.
        guesses: tracked boxes of that class.
        thresholds: [K]; boxes with a score of at least this count.
    """
    return _Matcher(pairs, truth, guesses, thresholds).run()


class _Matcher:
    def __init__(self, pairs: TrackPairs, truth: TrackBoxes, guesses: TrackBoxes, thresholds: Floats) -> None:
        self.pairs = pairs
        self.guesses = guesses
        self.thresholds = thresholds
        self.score = guesses.score[pairs.guess]
        self.track = guesses.track[pairs.guess]
        objects, self.object_of_truth = np.unique(truth.track, return_inverse=True)
        self.object = self.object_of_truth[pairs.truth]
        # The track each object was last matched to, however long ago; -1 before the first time.
        self.partner = np.full((len(objects), len(thresholds)), -1)
        self.first_truth, self.last_truth = _extent(truth.frame, pairs.frame)
        self.first_guess, self.last_guess = _extent(guesses.frame, pairs.frame)
        self.ambiguous = np.isin(pairs.frame, frames_with_duplicates(guesses))
        only_partner = np.bincount(pairs.truth)[pairs.truth] == 1
        only_partner &= np.bincount(pairs.guess)[pairs.guess] == 1
        self.easy = only_partner & ~self.ambiguous
        self.noisy = np.flatnonzero(pairs.noisy)
        self.alone = np.zeros((len(self.noisy), len(thresholds)), bool)
        for row, pair in enumerate(self.noisy.tolist()):
            scores = guesses.score[self.first_guess[pair] : self.last_guess[pair], None]
            self.alone[row] = (scores >= thresholds).sum(axis=0) == 1

    def run(self) -> TrackMatches:
        shape = (len(self.pairs), len(self.thresholds))
        matched, switched = np.zeros(shape, bool), np.zeros(shape, bool)
        edges = np.searchsorted(self.pairs.step, np.arange(self.pairs.step.max(initial=-1) + 2)).tolist()
        for begin, end in pairwise(edges):
            if begin < end:
                matched[begin:end], switched[begin:end] = self._step(begin, end)
        return TrackMatches(matched, switched, self.alone)

    def _step(self, begin: int, end: int) -> tuple[Bools, Bools]:
        """Matches the frames of one step, whose pairs are begin..end; remembers the partners."""
        track, objects, easy = self.track[begin:end, None], self.object[begin:end], self.easy[begin:end]
        active = self._active_pairs(begin, end)
        before = self.partner[objects]
        same = before == track
        matched = active.copy()
        hard = np.flatnonzero(~easy)
        if len(hard):
            matched[hard] = self._compete(begin, hard, active, active & same)
        switched = matched & (before >= 0) & ~same
        self.partner[objects[easy]] = np.where(matched[easy], track[easy], before[easy])
        row, column = np.nonzero(matched[hard])
        self.partner[objects[hard[row]], column] = track[hard[row], 0]
        return matched, switched

    def _active_pairs(self, begin: int, end: int) -> Bools:
        """Which pairs have a guess that reaches the threshold and are near enough [p, K]."""
        active: Bools = self.score[begin:end, None] >= self.thresholds
        first, last = np.searchsorted(self.noisy, (begin, end))
        rows = self.noisy[first:last]
        near = np.where(
            self.alone[first:last],
            (self.pairs.distance_alone_m[rows] < self.pairs.reach_m)[:, None],
            (self.pairs.distance_m[rows] < self.pairs.reach_m)[:, None],
        )
        active[rows - begin] &= near
        return active

    def _compete(self, begin: int, hard: Ints, active: Bools, same: Bools) -> Bools:
        """Matches the pairs `hard` of a step, whose boxes have several possible partners [h, K]."""
        rows = begin + hard
        by_truth, by_guess = Groups(self.pairs.truth[rows]), Groups(self.pairs.guess[rows])
        carried: Bools = same[hard]
        self._settle_conflicts(carried, by_guess)
        self._carry_over_duplicates(begin, hard, active, carried)
        free = active[hard] & ~by_truth.any(carried) & ~by_guess.any(carried)
        if not free.any():
            return carried
        truth_choices, guess_choices = by_truth.total(free), by_guess.total(free)
        matched: Bools = carried | (free & (truth_choices == 1) & (guess_choices == 1))
        rest = free & ((truth_choices > 1) | (guess_choices > 1))
        distance = self.pairs.distance_m[rows, None]
        for groups, rivals in ((by_truth, guess_choices), (by_guess, truth_choices)):
            # A star: one box and several possible partners that have no other choice. It takes the nearest.
            star = rest & (groups.largest(np.where(rest, rivals, 0)) == 1)
            nearest, clear = groups.nearest(star, distance, _TIE_M)
            matched |= nearest & clear
            rest &= ~(star & clear)
        if rest.any():
            kept = same.copy()
            kept[hard] = carried
            self._solve(begin, hard, active, kept, rest, matched)
        return matched

    def _settle_conflicts(self, carried: Bools, by_guess: Groups) -> None:
        """Of several objects that were last matched to the same track, the first one near it keeps it."""
        row, column = np.nonzero(carried & (by_guess.total(carried) > 1))
        seen: set[tuple[int, int]] = set()
        for pair, threshold in zip(row.tolist(), column.tolist()):
            key = (int(by_guess.index[pair]), threshold)
            if key in seen:
                carried[pair, threshold] = False
            seen.add(key)

    def _carry_over_duplicates(self, begin: int, hard: Ints, active: Bools, carried: Bools) -> None:
        """Keeps pairs of the past in frames in which a track occurs twice.

        Its first box that is still unused is the only one tried, be it near or not.
        """
        doubtful = np.flatnonzero(self.ambiguous[begin + hard])
        if not len(doubtful):
            return
        carried[doubtful] = False
        frames = self.pairs.frame[begin + hard]
        for frame in np.unique(frames[doubtful]).tolist():
            here = np.flatnonzero(frames == frame)
            pair_of = {
                (int(self.pairs.truth[begin + hard[row]]), int(self.pairs.guess[begin + hard[row]])): row
                for row in here.tolist()
            }
            one = int(begin + hard[here[0]])
            for threshold in range(len(self.thresholds)):
                used: set[int] = set()
                present = self._present_guesses(one, threshold)
                for truth in range(int(self.first_truth[one]), int(self.last_truth[one])):
                    partner = self.partner[self.object_of_truth[truth], threshold]
                    tried = next(
                        (g for g in present if g not in used and self.guesses.track[g] == partner), None
                    )
                    row = pair_of.get((truth, tried)) if tried is not None else None
                    if tried is not None and row is not None and active[hard[row], threshold]:
                        carried[row, threshold] = True
                        used.add(tried)

    def _present_guesses(self, pair: int, threshold: int) -> list[int]:
        """The guesses of a pair's frame that reach a threshold."""
        first, last = int(self.first_guess[pair]), int(self.last_guess[pair])
        reach = self.guesses.score[first:last] >= self.thresholds[threshold]
        present: list[int] = (first + np.flatnonzero(reach)).tolist()
        return present

    def _solve(self, begin: int, hard: Ints, active: Bools, kept: Bools, rest: Bools, matched: Bools) -> None:
        """Decides the pairs `rest` [h, K] by assignment, frame by frame and threshold by threshold."""
        frame_of_pair = self.pairs.frame[begin : begin + len(active)]
        row, column = np.nonzero(rest)
        problems = np.unique(np.stack([frame_of_pair[hard[row]], column], axis=1), axis=0)
        solved: dict[tuple[int, int, bytes], set[int]] = {}
        for frame, threshold in problems.tolist():
            first, last = np.searchsorted(frame_of_pair, (frame, frame + 1)).tolist()
            truth, guess = (
                index[begin + first : begin + last] for index in (self.pairs.truth, self.pairs.guess)
            )
            held = kept[first:last, threshold]
            free = active[first:last, threshold] & ~np.isin(truth, truth[held]) & ~np.isin(guess, guess[held])
            present = self._present_guesses(begin + first, threshold)
            key = (frame, len(present), free.tobytes())
            if key not in solved:
                solved[key] = {first + pair for pair in self._assign(begin + first, free, present)}
            here = np.flatnonzero(rest[:, threshold] & (frame_of_pair[hard] == frame))
            matched[here, threshold] = [pair in solved[key] for pair in hard[here].tolist()]

    def _assign(self, first: int, free: Bools, present: list[int]) -> list[int]:
        """Pairs of most matches at least distance, of a frame's `free` pairs [f]; counted from pair `first`.

        The matrix is the official one (all boxes of the frame, impossible pairs at a large cost), so that
        ties fall as they do there.
        """
        pairs = np.flatnonzero(free)
        column_of_guess = {guess: column for column, guess in enumerate(present)}
        rows = self.pairs.truth[first + pairs] - self.first_truth[first]
        columns = np.array(
            [column_of_guess[guess] for guess in self.pairs.guess[first + pairs].tolist()], int
        )
        source = self.pairs.distance_alone_m if len(present) == 1 else self.pairs.distance_m
        distance = source[first + pairs]
        shape = (int(self.last_truth[first] - self.first_truth[first]), len(present))
        cost = np.full(shape, np.nan)
        cost[rows, columns] = distance
        if np.isnan(cost).any():
            cost[np.isnan(cost)] = 2 * min(shape) * (np.abs(distance).max() + 1) + 1
        assigned = np.full(shape[0], -1)
        row, column = linear_sum_assignment(cost)
        assigned[row] = column
        return [int(pair) for pair, good in zip(pairs, assigned[rows] == columns) if good]


def _extent(frame: Ints, wanted: Ints) -> tuple[Ints, Ints]:
    """Begin and end of the boxes of each wanted frame."""
    return np.searchsorted(frame, wanted), np.searchsorted(frame, wanted, side="right")


def frames_with_duplicates(boxes: TrackBoxes) -> Ints:
    """Frames in which a track has more than one box of this class."""
    order = np.lexsort((boxes.track, boxes.frame))
    frame, track = boxes.frame[order], boxes.track[order]
    twice = (frame[1:] == frame[:-1]) & (track[1:] == track[:-1])
    repeated: Ints = np.unique(frame[1:][twice])
    return repeated
