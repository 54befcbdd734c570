"""The failures of a run as pictures with captions."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from functools import partial

import numpy as np

from syncl.evaluation.arrays import EvaluationBoxes
from syncl.evaluation.failures import (
    FalseTrack,
    IdentitySwitch,
    Miss,
    false_tracks,
    identity_switches,
    longest_misses,
)
from syncl.evaluation.outcomes import Outcomes
from syncl.rendering.cameras import short_identity
from syncl.rendering.report.crops import Photographer, Sight

# A box of this share of its image is seen best; larger ones leave no room for their surroundings.
CLEAREST_SHARE = 0.12
_VISIBILITY = {
    1: "less than 40 % visible",
    2: "40 to 60 % visible",
    3: "60 to 80 % visible",
    4: "fully visible",
}


@dataclass(frozen=True)
class Picture:
    """A piece of a camera image.

    Attributes:
        jpeg: the file.
        caption: what and when.
    """

    jpeg: bytes
    caption: str


@dataclass(frozen=True)
class Failure:
    """One failure.

    Attributes:
        title: class and what happened.
        text: where, when and how.
        pictures: one or two; none where no camera sees the place.
    """

    title: str
    text: str
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class Gallery:
    """The worst failures of a run, and of how many they are."""

    switches: tuple[Failure, ...]
    misses: tuple[Failure, ...]
    false: tuple[Failure, ...]
    counts: tuple[int, int, int]


def make_gallery(
    photographer: Photographer,
    most: int,
    progress: Callable[[Iterable[Failure]], Iterable[Failure]] = iter,
    classes: Collection[str] = (),
) -> Gallery:
    """Pictures of the worst failures.

    Args:
        photographer: knows the data set and the outcomes.
        most: failures of each kind.
        progress: wraps what is iterated over, to show how far it has come.
        classes: names of those whose failures are looked at; all if there is none.

    Raises:
        SynclError: if an image file is missing or damaged.
    """
    outcomes = photographer.outcomes
    known = outcomes.dataset.classes
    labels = [known.index(name) for name in classes or known]
    objects, found = outcomes.objects.label, outcomes.found.label
    switches = [switch for switch in identity_switches(outcomes) if objects[switch.after] in labels]
    misses = [miss for miss in longest_misses(outcomes) if objects[miss.rows[0]] in labels]
    false = [track for track in false_tracks(outcomes) if found[track.rows[0]] in labels]
    stories = [
        *(partial(_switch, photographer, switch) for switch in switches[:most]),
        *(partial(_miss, photographer, miss) for miss in misses[:most]),
        *(partial(_false, photographer, track) for track in false[:most]),
    ]
    made = tuple(progress(story() for story in stories))
    first = len(switches[:most])
    second = first + len(misses[:most])
    counts = len(switches), len(misses), len(false)
    return Gallery(made[:first], made[first:second], made[second:], counts)


def _switch(photographer: Photographer, switch: IdentitySwitch) -> Failure:
    outcomes = photographer.outcomes
    former, new = (
        short_identity(photographer.identities[outcomes.found.identity[row]])
        for row in (switch.former, switch.new)
    )
    pictures = tuple(
        Picture(photographer.take(outcomes.objects, row, sight), f"{when}: track {name}")
        for row, when, name in ((switch.before, "before", former), (switch.after, "after", new))
        if (sight := photographer.sight(outcomes.objects, row))
    )
    frames = [_frame_number(outcomes, outcomes.objects, row) for row in (switch.before, switch.after)]
    silent = frames[1] - frames[0] - 1
    gap = f" after {_many(silent, 'frame')} without any track" if silent else ""
    return Failure(
        f"{_class_name(outcomes, outcomes.objects.label[switch.after])}: {former} \u2192 {new}",
        f"{_scene(photographer, outcomes.objects, switch.after)}, frame {frames[1]}: track {former} had it "
        f"for {_many(switch.frames_before, 'frame')}, track {new} has it for "
        f"{_many(switch.frames_after, 'frame')}{gap}.",
        pictures,
    )


def _miss(photographer: Photographer, miss: Miss) -> Failure:
    outcomes = photographer.outcomes
    first, last = (_frame_number(outcomes, outcomes.objects, row) for row in (miss.rows[0], miss.rows[-1]))
    pictures = _clearest(photographer, outcomes.objects, miss.rows, photographer.visibility)
    offset = outcomes.objects.centre[list(miss.rows), :2]
    offset = offset - outcomes.samples.ego_xy[outcomes.objects.sample[list(miss.rows)]]
    distance = np.hypot(*offset.T)
    name = _class_name(outcomes, outcomes.objects.label[miss.rows[0]])
    return Failure(
        f"{name}: missed for {_many(len(miss.rows), 'frame')}",
        f"{_scene(photographer, outcomes.objects, miss.rows[0])}, {_frames(first, last)}, "
        f"{_between(f'{distance.min():.0f}', f'{distance.max():.0f}')} m away; "
        f"{'found in other frames' if miss.ever else 'never found'}."
        + ("" if pictures else " No camera sees it."),
        pictures,
    )


def _false(photographer: Photographer, track: FalseTrack) -> Failure:
    outcomes = photographer.outcomes
    first, last = (_frame_number(outcomes, outcomes.found, row) for row in (track.rows[0], track.rows[-1]))
    pictures = _clearest(photographer, outcomes.found, track.rows)
    name = _class_name(outcomes, outcomes.found.label[track.rows[0]])
    if not np.isfinite(track.nearest_m):
        reason = f"there is no {name} in these frames"
    elif track.nearest_m < outcomes.dataset.measures.track_distance_m:
        reason = f"a {name} is {track.nearest_m:.1f} m off, which another track holds"
    else:
        reason = f"the nearest {name} is {track.nearest_m:.1f} m off"
    identity = short_identity(photographer.identities[outcomes.found.identity[track.rows[0]]])
    return Failure(
        f"{name} {identity}: false for {_many(len(track.rows), 'frame')}",
        f"{_scene(photographer, outcomes.found, track.rows[0])}, {_frames(first, last)}, "
        f"mean score {track.score:.2f}; {reason}." + ("" if pictures else " No camera sees it."),
        pictures,
    )


def _clearest(
    photographer: Photographer,
    boxes: EvaluationBoxes,
    rows: Iterable[int],
    visibility: Callable[[int], int] = lambda _: 0,
) -> tuple[Picture, ...]:
    """The row that can be made out best, as a picture; none where no camera sees any."""
    sights = {row: sight for row in rows if (sight := photographer.sight(boxes, row))}
    if not sights:
        return ()
    best = max(sights, key=lambda row: _clearness(sights[row]) * (visibility(row) or 4))
    visible = _VISIBILITY.get(visibility(best))
    words = f"frame {_frame_number(photographer.outcomes, boxes, best)}" + (f", {visible}" if visible else "")
    return (Picture(photographer.take(boxes, best, sights[best]), words),)


def _clearness(sight: Sight) -> float:
    """How well a place can be made out: the larger the better, until it fills the picture."""
    share = sight.area_share
    return share if share < CLEAREST_SHARE else CLEAREST_SHARE**2 / share


def _scene(photographer: Photographer, boxes: EvaluationBoxes, row: int) -> str:
    return photographer.sample(boxes, row).scene_name


def _frame_number(outcomes: Outcomes, boxes: EvaluationBoxes, row: int) -> int:
    """Place of a box's frame in its scene, from 1."""
    return int(outcomes.frames.step[outcomes.frames.of_sample[boxes.sample[row]]]) + 1


def _frames(first: int, last: int) -> str:
    return f"frame{'' if first == last else 's'} {_between(str(first), str(last))}"


def _between(low: str, high: str) -> str:
    return low if low == high else f"{low} to {high}"


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _class_name(outcomes: Outcomes, label: int) -> str:
    return outcomes.dataset.classes[label].replace("_", " ")
