"""Counts of failures by cause and by what the boxes are like: class, distance, speed, visibility."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from syncl.dataset_description import Measures
from syncl.evaluation.arrays import Bools, Floats, Ints

BESIDE = 2
"""Boxes that cannot be matched are beside an object up to so many times as far away as those that can."""

MISS_CAUSES = {
    "low_score": "would be found if every reported box counted: its track scores below the threshold",
    "never_detected": "not held yet; the detector finds the object in no frame",
    "detected_late": "not held yet; the detector finds the object only later",
    "not_born": "the detector finds it now or did before; no track holds the object in any frame",
    "born_late": "the detector finds it now or did before; a track holds the object only later",
    "never_held": "no track holds the object in any frame (without detections)",
    "not_held_yet": "a track holds the object only later (without detections)",
    "swapped": "held before; its track is on another object now",
    "drifted": "held before; its track has a box here, too far away",
    "reclassified": "held before; its track goes on as another class",
    "interrupted": "held before; its track reports no box here and goes on later",
    "died_early": "held before; its track has ended",
}
"""Why an annotated box is not matched."""

FALSE_BOX_CAUSES = {
    "filled": "not reported: the official evaluation fills the holes of tracks",
    "duplicated": "within {near:g} m of an object of its class, which another track holds",
    "wrong_class": "within {near:g} m of an object of another class",
    "drifted": "its track held an object before, which is elsewhere now",
    "outlived": "its track held an object before, which is no longer annotated",
    "beside": "held nothing before; {near:g} to {far:g} m from an object of its class",
    "nothing_there": "held nothing before; no object within {far:g} m",
}
"""Why a box that counts is matched to no object; `CauseCounts.empty` puts in what is near and far."""

SWITCH_CAUSES = {
    "swapped": "the new track was on another object before, or the former one is on another now",
    "duplicated": "the new track was within {near:g} m before, while another held the object",
    "drifted": "the former track has a box here, too far away",
    "reclassified": "the former track goes on as another class",
    "interrupted": "the former track reports no box here and goes on later",
    "died_early": "the former track has ended",
}
"""Why an object goes on under another track."""

_BY_DETECTIONS = ("never_detected", "detected_late", "not_born", "born_late")
_WITHOUT_THEM = ("never_held", "not_held_yet")

UNKNOWN = "unknown"
DISTANCE_EDGES_M = (10.0, 20.0, 30.0)
SPEED_EDGES_MPS = (0.2, 2.0, 6.0)

GROUPS: Mapping[str, tuple[str, ...]] = {
    "distance": ("0-10 m", "10-20 m", "20-30 m", "30+ m"),
    "speed": ("0-0.2 m/s", "0.2-2 m/s", "2-6 m/s", "6+ m/s", UNKNOWN),
    "visibility": (UNKNOWN, "0-40 %", "40-60 %", "60-80 %", "80-100 %"),
}
"""Property -> its groups: distance from the vehicle, speed over ground, annotated visibility."""


@dataclass(frozen=True)
class Traits:
    """What N boxes are like: the group of each, by property: class and those of `GROUPS`."""

    groups: Mapping[str, Ints]

    @classmethod
    def of(cls, label: int, distance_m: Floats, speed_mps: Floats, visibility: Ints) -> "Traits":
        """The groups of N boxes of one class.

        Args:
            label: place of the class among those listed.
            distance_m: [N] from the vehicle.
            speed_mps: [N], nan where unknown.
            visibility: [N] levels 1 to 4, 0 unknown.
        """
        speed = np.digitize(speed_mps, SPEED_EDGES_MPS)
        speed[np.isnan(speed_mps)] = GROUPS["speed"].index(UNKNOWN)
        return cls(
            {
                "class": np.full(len(distance_m), label),
                "distance": np.digitize(distance_m, DISTANCE_EDGES_M),
                "speed": speed,
                "visibility": visibility,
            }
        )


@dataclass(frozen=True)
class CauseCounts:
    """Failures of one kind.

    Attributes:
        causes: cause -> what it means, in the order of the rows.
        groups: property -> names of its groups; the classes, and `GROUPS`.
        counts: property -> [causes, groups].
        boxes: property -> [groups] the boxes that could have failed: annotated ones, or those that count.
        detected: [causes] in how many of the failures the detector finds the object in that very frame; None
            without detections, and for false boxes.
    """

    causes: Mapping[str, str]
    groups: Mapping[str, tuple[str, ...]]
    counts: Mapping[str, Ints]
    boxes: Mapping[str, Ints]
    detected: Ints | None = None

    @classmethod
    def empty(
        cls,
        causes: Mapping[str, str],
        classes: tuple[str, ...],
        detections: bool,
        near_m: float = Measures.track_distance_m,
    ) -> "CauseCounts":
        """Counts of boxes of these classes, to be added to; boxes within `near_m` can be matched."""
        every = {"class": classes, **GROUPS}
        far_m = BESIDE * near_m
        return cls(
            {name: meaning.format(near=near_m, far=far_m) for name, meaning in causes.items()},
            every,
            {name: np.zeros((len(causes), len(groups)), np.int64) for name, groups in every.items()},
            {name: np.zeros(len(groups), np.int64) for name, groups in every.items()},
            np.zeros(len(causes), np.int64) if detections else None,
        )

    def add(self, cause: Ints, traits: Traits, possible: Bools, detected: Bools | None = None) -> None:
        """Count N boxes.

        Args:
            cause: [N] row of each box's cause; -1 for boxes that did not fail.
            traits: of these boxes.
            possible: [N] whether a box could have failed.
            detected: [N] whether the detector finds it.
        """
        failed = cause >= 0
        for name, group in traits.groups.items():
            np.add.at(self.counts[name], (cause[failed], group[failed]), 1)
            np.add.at(self.boxes[name], group[possible], 1)
        if self.detected is not None and detected is not None:
            np.add.at(self.detected, cause[failed & detected], 1)

    def tells(self, cause: str) -> bool:
        """Whether a miss could have this cause: some are told by detections, others in their place."""
        if cause in _BY_DETECTIONS:
            return self.detected is not None
        return cause not in _WITHOUT_THEM or self.detected is None

    @property
    def by_cause(self) -> dict[str, int]:
        """Cause -> failures."""
        return dict(zip(self.causes, self.counts["class"].sum(axis=1).tolist(), strict=True))

    @property
    def total(self) -> int:
        """All failures."""
        return int(self.counts["class"].sum())

    def to_json(self) -> dict[str, object]:
        """Total, boxes, and by cause: count, detected, and the count in each group with any box."""
        shown = {name: np.flatnonzero(boxes) for name, boxes in self.boxes.items()}
        causes: dict[str, object] = {}
        for row, (cause, count) in enumerate(self.by_cause.items()):
            causes[cause] = {
                "count": count,
                **({} if self.detected is None else {"detected": int(self.detected[row])}),
                **{
                    name: {self.groups[name][group]: int(self.counts[name][row, group]) for group in groups}
                    for name, groups in shown.items()
                },
            }
        boxes = {
            name: {self.groups[name][group]: int(self.boxes[name][group]) for group in groups}
            for name, groups in shown.items()
        }
        return {"total": self.total, "boxes": boxes, "causes": causes}


@dataclass(frozen=True)
class CauseTable:
    """Every miss, false box and identity switch of tracks, each with exactly one cause.

    The totals are the official FN, FP and IDS at these thresholds.

    Attributes:
        misses: of annotated boxes; causes are `MISS_CAUSES`.
        false_boxes: of boxes that count; causes are `FALSE_BOX_CAUSES`. They have no visibility.
        switches: of annotated boxes; causes are `SWITCH_CAUSES`.
        thresholds: class -> least score of the tracks that count; nan where none do.
        detection_thresholds: class -> least score of the detections that count, that of best F1; nan where
            none do; None without detections.
    """

    misses: CauseCounts
    false_boxes: CauseCounts
    switches: CauseCounts
    thresholds: Mapping[str, float]
    detection_thresholds: Mapping[str, float] | None

    @property
    def remarks(self) -> tuple[str, ...]:
        """What a reader has to know."""
        if self.detection_thresholds is not None:
            return ()
        return (
            "causes without detections: what the detector did not find and what was not born are counted "
            "together (never held, not held yet); pass --detections to tell them apart",
        )

    def to_json(self) -> dict[str, object]:
        """The table as plain values, null where a threshold is nan."""
        return {
            "misses": self.misses.to_json(),
            "false_boxes": self.false_boxes.to_json(),
            "switches": self.switches.to_json(),
            "thresholds": _plain(self.thresholds),
            "detection_thresholds": (
                None if self.detection_thresholds is None else _plain(self.detection_thresholds)
            ),
        }


def _plain(thresholds: Mapping[str, float]) -> dict[str, float | None]:
    return {name: None if np.isnan(value) else float(value) for name, value in thresholds.items()}
