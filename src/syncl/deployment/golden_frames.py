"""Golden frames of an exported step: what a host hands over, and what it must get.

`golden.npz` holds of each frame `K/in/NAME` and `K/out/NAME`, the state before it included, so that each can
be checked by itself; and `K/paired/NAME`, the objects that the host makes of it, where it pairs tracks that
the step is given. They are chosen so that all happens that a host has to get right.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from syncl.deployment.programs import Program
from syncl.deployment.step import (
    objects_of,
    padded_state,
    state_of,
    told_frame,
    told_objects,
    told_state,
)
from syncl.structures import Frame, Objects
from syncl.trackers.base import Tracker
from syncl.trackers.host_pairing import HostPairing
from syncl.trackers.state import TrackState

COUNT = 8
# Frames of a drive that are taken: three are left out, which is a gap.
FRAMES_NEEDED = 11
_TAKEN = (0, 1, 2, 3, 7, 8, 9, 10)
_ONE_CAMERA_MISSING, _NOTHING_SEEN, _MISSED_OFTEN = 2, (5, 6), 6
EVENTS = ("birth", "miss", "end", "missing camera", "gap")
_FARTHEST_M = 1e9
# Where a full list of detections ends is decided by the last bits of scores: so few of it may be others, by
# scores that are as close.
_OTHERS_SHARE, _OTHER_M, _SAME_SCORE = 0.01, 0.05, 1e-5

_Rows = tuple[Tensor, Tensor, Tensor]
_Told = dict[str, Tensor]


@dataclass(frozen=True)
class GoldenFrame:
    """One frame.

    Attributes:
        given: what the step is told, by name.
        told: what it tells.
        events: what happens in it, of `EVENTS`.
        pair: makes of what is told what the host does (`paired`); None = it does nothing to tracks.
    """

    given: _Told
    told: _Told
    events: tuple[str, ...]
    pair: Callable[[_Told], tuple[Objects, TrackState]] | None = None

    def reported(self, told: _Told) -> _Told:
        """The objects of the frame by name, if a program tells this."""
        return told if self.pair is None else told_objects(self.pair(told)[0])


@torch.no_grad()
def golden_frames(
    tracker: Tracker,
    step: Program,
    template: TrackState,
    drive: Sequence[Frame],
    pairing: HostPairing | None = None,
) -> list[GoldenFrame]:
    """Eight frames of a drive as a tracker's step sees them.

    A camera is missing in the third, a gap is before the fifth, and in the sixth and seventh no camera
    delivers anything, so that tracks are missed; before the seventh they count as missed as often as they may
    be, so that they end.

    Args:
        tracker: with fixed slots.
        step: of named tensors (`TrackStep`).
        template: the initial state.
        drive: at least `FRAMES_NEEDED` frames of a scene, in order.
        pairing: pairs on the host the tracks that the step is given; None = there is nothing of the kind.
    """
    found = []
    state = template
    for number, row in enumerate(_TAKEN):
        frame = drive[row]
        if number == _ONE_CAMERA_MISSING:
            frame = without_cameras(frame, slice(1, 2))
        if number in _NOTHING_SEEN:
            frame = without_cameras(frame, slice(None))
        if number == _MISSED_OFTEN:
            tolerance = int(getattr(getattr(tracker, "config", None), "miss_tolerance", 1))
            state = replace(state, misses=state.misses.clamp(min=tolerance - 1) * state.alive)
        move = tracker.admit(frame, state)
        given = told_frame(frame, move, state, tracker.detector.precomputed) | told_state(state)
        told = step(given)
        after, pair = state_of(told, template, frame), None
        if pairing is not None:
            pair = partial(paired, pairing, template, frame)
            _, after = pair(told)
        events = happened(state, after)
        if not bool(frame.camera_valid.all()):
            events.append("missing camera")
        if number and row != _TAKEN[number - 1] + 1:
            events.append("gap")
        found.append(GoldenFrame(given, told, tuple(events), pair))
        state = after
    return found


def paired(
    pairing: HostPairing, template: TrackState, frame: Frame, told: _Told
) -> tuple[Objects, TrackState]:
    """What a host makes of what a look tells of its tracks: the objects, and the state behind the frame.

    Args:
        pairing: whose looks the program takes.
        template: the program's initial state.
        frame: that was looked at.
        told: by name.
    """
    objects, state = pairing.associate(
        frame, state_of(told, template, frame), objects_of(told, pairing.pairs)
    )
    return objects, padded_state(state, template)


def happened(before: TrackState, after: TrackState) -> list[str]:
    """What became of the tracks of one stream in a frame: births, misses, ends."""
    old = {*before.identities[before.alive].tolist()}
    new = {*after.identities[after.alive].tolist()}
    missed = bool((after.misses[after.alive] > 0).any()) or bool(old - new)
    found = {"birth": bool(new - old), "miss": missed, "end": bool(old - new)}
    return [name for name, is_there in found.items() if is_there]


def without_cameras(frame: Frame, which: slice) -> Frame:
    """The frame where these cameras delivered nothing."""
    images, valid = frame.images.clone(), frame.camera_valid.clone()
    images[:, which], valid[:, which] = 0, False
    return replace(frame, images=images, camera_valid=valid)


def write_golden(path: Path, frames: Sequence[GoldenFrame]) -> None:
    """Write golden frames for any reader of numpy's archives."""
    arrays = {
        f"{number}/{side}/{name}": tensor.numpy()
        for number, frame in enumerate(frames)
        for side, tensors in (
            ("in", frame.given),
            ("out", frame.told),
            ("paired", {} if frame.pair is None else frame.reported(frame.told)),
        )
        for name, tensor in tensors.items()
    }
    np.savez(path, **arrays)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Agreement:
    """How a program's golden frames agree with those of the model.

    Attributes:
        identities_equal: whether all integers and truth values are equal, in whatever order of equal scores.
        box_m: the largest difference of a reported box's numbers, metres (radians of the heading); infinite
            where the program tells what is no number, and the model does not.
        score: of a reported score, the same.
    """

    identities_equal: bool
    box_m: float
    score: float


def agreement(program: Program, frames: Sequence[GoldenFrame]) -> Agreement:
    """How far a program is from golden frames.

    Objects are compared by identity and class; detections, which have no identities, with the nearest of
    their class: the last bits of two nearly equal scores may put them into another order, and the last of a
    full list out of it. What the host pairs is compared as it is then reported.
    """
    equal, box_m, score = True, 0.0, 0.0
    for frame in frames:
        told = program(frame.given)
        if any(bool((known.isfinite() & ~told[name].isfinite()).any()) for name, known in frame.told.items()):
            box_m = score = torch.inf
            continue
        known, said = frame.reported(frame.told), frame.reported(told)
        expected, found = _rows(known), _rows(said)
        if expected[0].shape == found[0].shape and bool(known["objects_valid"].all()):
            expected, found = _without_last_ones(expected, found)
        if expected[0].shape != found[0].shape or not torch.equal(expected[0], found[0]):
            equal = False
            continue
        nearest = _nearest(expected, found)
        apart = expected[1] - found[1][nearest]
        apart[:, 6] = (apart[:, 6] + torch.pi) % (2 * torch.pi) - torch.pi
        box_m = max([box_m, *_told_apart(apart)])
        score = max([score, *_told_apart(expected[2] - found[2][nearest])])
    return Agreement(equal, box_m, score)


def _without_last_ones(expected: _Rows, found: _Rows) -> tuple[_Rows, _Rows]:
    """The same without detections that one list has and the other has not, where they are so few, and of
    scores so equal, that the ends of two full lists explain them; else all.
    """
    nearest = _nearest(expected, found)
    same = (expected[0] == found[0][nearest]).all(1)
    close = same & ((expected[1] - found[1][nearest])[:, :3].abs() < _OTHER_M).all(1)
    others = ~close & (expected[0][:, 0] < 0) & (found[0][nearest, 0] < 0)
    (scores, _), (counterparts, _) = (
        side.sort() for side in (expected[2][others], found[2][nearest][others])
    )
    few = int(others.sum()) <= _OTHERS_SHARE * len(others)
    if not few or not bool(((scores - counterparts).abs() < _SAME_SCORE).all()):
        return expected, found
    kept = nearest[~others].sort().values
    return _picked(expected, ~others), _picked(found, kept)


def _picked(rows: _Rows, which: Tensor) -> _Rows:
    codes, boxes, scores = rows
    return codes[which], boxes[which], scores[which]


def _told_apart(difference: Tensor) -> list[float]:
    """Its absolute values; what is no number is as far as can be."""
    told: list[float] = difference.abs().nan_to_num(nan=torch.inf).flatten().tolist()
    return told


def _nearest(expected: _Rows, found: _Rows) -> Tensor:
    """[M] int64: for every expected object its own of those found, one to one, of its identity and class."""
    apart = torch.cdist(expected[1], found[1], p=torch.inf).nan_to_num(nan=_FARTHEST_M, posinf=_FARTHEST_M)
    others = (expected[0][:, None] != found[0]).any(2)
    _, columns = linear_sum_assignment(apart.masked_fill(others, _FARTHEST_M).numpy())
    return torch.from_numpy(columns)


def _rows(told: Mapping[str, Tensor]) -> _Rows:
    """Identities and labels [M, 2], boxes and scores of valid objects, in order of both and of score."""
    valid = told["objects_valid"][0]
    identities, labels = told["objects_identities"][0][valid], told["objects_labels"][0][valid]
    scores, boxes = told["objects_scores"][0][valid], told["objects_boxes"][0][valid]
    order = scores.argsort(descending=True, stable=True)
    for key in (labels, identities):
        order = order[key[order].argsort(stable=True)]
    return torch.stack([identities, labels], dim=1)[order], boxes[order], scores[order]
