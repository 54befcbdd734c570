"""Why boxes are missed, false and switched: a scene a cause, worked out by hand, and sums that must agree."""

import dataclasses
import json
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import pytest

from syncl.dataset_description import NUSCENES
from syncl.evaluation import CauseTable, find_causes, tracking_metrics
from syncl.evaluation.arrays import EvaluationBoxes, GroundTruth
from syncl.evaluation.cause_table import CauseCounts
from syncl.evaluation.clear_matching import match_tracks
from syncl.evaluation.clear_metrics import clear_metrics
from syncl.evaluation.track_pairs import EvaluatedTracks

ToyMaker = Callable[..., Any]


def causes_of(scene: Any, detections: Any = None, **thresholds: float) -> CauseTable:
    least = thresholds or dict.fromkeys(NUSCENES.listed_tracked, 0.0)
    return find_causes(
        scene.results(), scene.ground_truth(), least, None if detections is None else detections.results()
    )


def happened(counts: CauseCounts) -> dict[str, int]:
    return {cause: count for cause, count in counts.by_cause.items() if count}


def course(scene: Any, frames: Iterable[int], x: float = 10.0, y: float = 0.0, **more: Any) -> None:
    for frame in frames:
        scene.annotate("car", frame, x, y, **more)


def follow(scene: Any, frames: Iterable[int], x: float = 10.0, y: float = 0.0, **more: Any) -> None:
    for frame in frames:
        scene.find(more.get("name", "car"), frame, x, y, **{k: v for k, v in more.items() if k != "name"})


def test_an_object_that_the_detector_never_finds_is_never_detected(toy: ToyMaker):
    scene, detector = toy(frames=3), toy(frames=3)
    course(scene, range(3))
    follow(detector, range(3), x=30)
    table = causes_of(scene, detector)
    assert happened(table.misses) == {"never_detected": 3}
    assert np.isnan(table.detection_thresholds["car"])  # type: ignore[index]


def test_a_detection_without_a_track_is_not_born_and_before_it_detected_late(toy: ToyMaker):
    scene, detector = toy(frames=5), toy(frames=5)
    course(scene, range(5))
    follow(detector, (2, 4))
    misses = causes_of(scene, detector).misses
    assert happened(misses) == {"detected_late": 2, "not_born": 3}
    # In frame 3 the detector does not find it.
    assert dict(zip(misses.causes, misses.detected.tolist(), strict=True))["not_born"] == 2  # type: ignore[union-attr]


def test_a_track_that_begins_after_the_detector_found_the_object_is_born_late(toy: ToyMaker):
    scene, detector = toy(frames=5), toy(frames=5)
    course(scene, range(5))
    follow(detector, range(1, 5))
    follow(scene, (3, 4), id="a")
    assert happened(causes_of(scene, detector).misses) == {"detected_late": 1, "born_late": 2}


def test_without_detections_births_have_two_causes_and_it_is_said(toy: ToyMaker):
    scene = toy(frames=3)
    course(scene, range(3), id="late")
    course(scene, range(3), x=30, id="never")
    follow(scene, (2,), id="a")
    table = causes_of(scene)
    assert happened(table.misses) == {"never_held": 3, "not_held_yet": 2}
    assert table.misses.detected is None and table.detection_thresholds is None
    assert "--detections" in table.remarks[0]
    assert causes_of(scene, toy(frames=3)).remarks == ()


def test_a_track_that_leaves_its_object_has_drifted(toy: ToyMaker):
    scene = toy(frames=4)
    course(scene, range(4))
    follow(scene, (0, 1), id="a")
    follow(scene, (2, 3), x=13, id="a")
    table = causes_of(scene)
    assert happened(table.misses) == {"drifted": 2}
    assert happened(table.false_boxes) == {"drifted": 2}
    assert not happened(table.switches)


def test_a_track_that_ends_before_its_object_died_early(toy: ToyMaker):
    scene = toy(frames=4)
    course(scene, range(4))
    follow(scene, range(2), id="a")
    table = causes_of(scene)
    assert happened(table.misses) == {"died_early": 2} and not happened(table.false_boxes)


def test_a_hole_of_a_track_that_is_filled_too_far_away_interrupts_it(toy: ToyMaker):
    scene = toy(frames=3)
    for frame, x in enumerate((10.0, 19.0, 14.0)):
        scene.annotate("car", frame, x)
    follow(scene, (0,), x=10, id="a")
    follow(scene, (2,), x=14, id="a")
    table = causes_of(scene)
    assert happened(table.misses) == {"interrupted": 1} and happened(table.false_boxes) == {"filled": 1}


def test_a_track_that_goes_over_to_another_object_is_swapped(toy: ToyMaker):
    scene = toy(frames=4)
    course(scene, range(4), id="left")
    course(scene, range(2, 4), x=14, id="new")
    follow(scene, (0, 1), id="a")
    follow(scene, (2, 3), x=14, id="a")
    table = causes_of(scene)
    assert happened(table.misses) == {"swapped": 2} and not happened(table.switches)


def test_a_track_that_goes_on_as_another_class_is_reclassified(toy: ToyMaker):
    scene = toy(frames=4)
    course(scene, range(4))
    follow(scene, (0, 1), id="a")
    follow(scene, (2, 3), name="truck", id="a")
    table = causes_of(scene)
    assert happened(table.misses) == {"reclassified": 2}
    assert happened(table.false_boxes) == {"wrong_class": 2}
    # Where no truck counts, the track has gone on as one nevertheless.
    assert happened(causes_of(scene, car=0.0).misses) == {"reclassified": 2}


def test_an_object_whose_track_scores_below_the_threshold_is_low_score(toy: ToyMaker):
    scene = toy(frames=3)
    course(scene, range(3))
    follow(scene, (1, 2), id="a", score=0.3)
    table = causes_of(scene, car=0.4)
    assert happened(table.misses) == {"low_score": 2, "never_held": 1}
    assert not happened(table.false_boxes) and table.thresholds["car"] == 0.4
    assert happened(causes_of(scene, car=0.3).misses) == {"not_held_yet": 1}
    assert happened(causes_of(scene, bus=0.1).misses) == {"low_score": 2, "never_held": 1}


def test_a_second_box_at_a_held_object_is_a_duplicate(toy: ToyMaker):
    scene = toy(frames=2)
    course(scene, range(2))
    follow(scene, range(2), id="a")
    follow(scene, range(2), x=11, id="b")
    assert happened(causes_of(scene).false_boxes) == {"duplicated": 2}


def test_a_track_that_goes_on_after_its_object_outlives_it(toy: ToyMaker):
    scene = toy(frames=4)
    course(scene, range(2))
    follow(scene, range(4), id="a")
    assert happened(causes_of(scene).false_boxes) == {"outlived": 2}


def test_a_box_that_never_held_anything_is_beside_an_object_or_nowhere(toy: ToyMaker):
    scene = toy(frames=2)
    course(scene, range(2))
    follow(scene, range(2), x=13.9, id="beside")
    follow(scene, range(2), x=14, id="nowhere")
    assert happened(causes_of(scene).false_boxes) == {"beside": 2, "nothing_there": 2}


@pytest.mark.parametrize(
    ("former", "new", "cause"),
    [
        ([(0, 10), (1, 10)], [(2, 10), (3, 10)], "died_early"),
        ([(0, 10), (1, 10), (2, 14), (3, 14)], [(2, 10), (3, 10)], "drifted"),
        ([(0, 10), (1, 11)], [(1, 11.5), (2, 10), (3, 10)], "duplicated"),
        # The hole in frame 2 is filled at 15.
        ([(0, 10), (1, 10), (3, 20)], [(2, 10), (3, 10)], "interrupted"),
    ],
)
def test_a_switch_is_named_by_what_became_of_the_former_track(
    toy: ToyMaker, former: list[tuple[int, float]], new: list[tuple[int, float]], cause: str
):
    scene = toy(frames=4)
    course(scene, range(4))
    for identity, places in (("former", former), ("new", new)):
        for frame, x in places:
            scene.find("car", frame, x, id=identity)
    table = causes_of(scene)
    assert happened(table.switches) == {cause: 1} and table.misses.total == 0


def test_objects_that_exchange_their_tracks_are_swapped(toy: ToyMaker):
    scene = toy(frames=4)
    for frame in range(4):
        scene.annotate("car", frame, 10, 0, id="one")
        scene.annotate("car", frame, 10, 5, id="other")
        scene.find("car", frame, 10, 0 if frame < 2 else 5, id="a")
        scene.find("car", frame, 10, 5 if frame < 2 else 0, id="b")
    assert happened(causes_of(scene).switches) == {"swapped": 2}


def test_a_former_track_of_another_class_is_reclassified_at_the_switch(toy: ToyMaker):
    scene = toy(frames=3)
    course(scene, range(3))
    follow(scene, (0, 1), id="a")
    follow(scene, (2,), name="truck", id="a")
    follow(scene, (2,), id="b")
    assert happened(causes_of(scene).switches) == {"reclassified": 1}


def test_tracks_of_equal_names_in_two_scenes_know_nothing_of_each_other(toy: ToyMaker):
    scene = toy(frames=3, scenes=2)
    course(scene, range(3), id="o")
    course(scene, range(3, 6), id="p")
    follow(scene, (0, 3, 4, 5), id="a")
    table = causes_of(scene)
    assert happened(table.misses) == {"died_early": 2}, "not interrupted: it goes on in another scene"


def test_detections_count_from_the_score_of_best_f1(toy: ToyMaker):
    scene, detector = toy(frames=4), toy(frames=4)
    course(scene, range(4))
    follow(detector, (0, 1, 2), score=0.8)
    for place in range(6):
        follow(detector, (3,), x=-10 - 3 * place, score=0.5)
    follow(detector, (3,), score=0.4)
    table = causes_of(scene, detector)
    assert table.detection_thresholds == {
        name: pytest.approx(0.8, nan_ok=True) if name == "car" else pytest.approx(np.nan, nan_ok=True)
        for name in NUSCENES.listed_tracked
    }
    assert table.misses.detected is not None and table.misses.detected.sum() == 3


def test_failures_are_told_apart_by_what_the_objects_are_like(toy: ToyMaker):
    scene = toy(frames=3)
    for frame in range(3):
        scene.annotate("car", frame, 12 + 4 * frame, id="fast", visibility=1)  # 8 m/s, at 12, 16 and 20 m
        scene.annotate("pedestrian", frame, 5, id="stands", visibility=4)
        scene.find("bus", frame, 35, 0, id="ghost", velocity=(3.0, 4.0))
    table = causes_of(scene)
    row = list(table.misses.causes).index("never_held")
    assert table.misses.counts["distance"][row].tolist() == [3, 2, 1, 0]
    assert table.misses.counts["speed"][row].tolist() == [3, 0, 0, 3, 0]
    assert table.misses.counts["visibility"][row].tolist() == [0, 3, 0, 0, 3]
    classes = dict(zip(NUSCENES.listed_tracked, table.misses.counts["class"][row].tolist(), strict=True))
    assert {name for name, count in classes.items() if count} == {"car", "pedestrian"}
    assert table.false_boxes.counts["speed"].sum(axis=0).tolist() == [0, 0, 3, 0, 0]
    assert table.false_boxes.counts["distance"].sum(axis=0).tolist() == [0, 0, 0, 3]
    written = json.loads(json.dumps(table.to_json(), allow_nan=False))
    assert written["misses"]["causes"]["never_held"]["distance"] == {"0-10 m": 3, "10-20 m": 2, "20-30 m": 1}


def test_an_unknown_visibility_and_a_single_frame_s_speed_are_said_to_be_unknown(toy: ToyMaker):
    scene = toy(frames=1)
    course(scene, range(1), visibility=3)
    truth = dataclasses.replace(scene.ground_truth(), visibility=None)
    misses = find_causes(scene.results(), truth, {}).misses
    assert misses.counts["visibility"].sum(axis=0).tolist() == [1, 0, 0, 0, 0]
    assert misses.counts["speed"].sum(axis=0).tolist() == [0, 0, 0, 0, 1]


def test_causes_say_by_which_distance(toy: ToyMaker):
    scene = toy(frames=1)
    truth = scene.ground_truth()
    measures = dataclasses.replace(NUSCENES.measures, track_distance_m=3.0)
    own = dataclasses.replace(truth, dataset=dataclasses.replace(NUSCENES, measures=measures))
    for judged, near, far in ((truth, "2", "4"), (own, "3", "6")):
        found = find_causes(scene.results(), judged, {})
        false = found.false_boxes.causes
        assert false["beside"].endswith(f"{near} to {far} m from an object of its class")
        assert false["wrong_class"] == f"within {near} m of an object of another class"
        assert false["nothing_there"].endswith(f"within {far} m")
        assert f"within {near} m before" in found.switches.causes["duplicated"]


def test_nothing_at_all(toy: ToyMaker):
    table = causes_of(toy(frames=2), toy(frames=2))
    assert (table.misses.total, table.false_boxes.total, table.switches.total) == (0, 0, 0)


def _busy(toy: ToyMaker, seed: int) -> tuple[Any, Any]:
    """Objects and tracks that come, go, pause, drift, double and change class; and a detector's boxes."""
    rng = np.random.default_rng(seed)
    scene, detector = toy(frames=14, scenes=2), toy(frames=14, scenes=2)
    names = ("car", "pedestrian", "truck")
    for number in range(12):
        name, x, y = names[number % 3], rng.uniform(-12, 12), rng.uniform(-12, 12)
        step = rng.normal(scale=0.5, size=2)
        for sample in range(28):
            frame = sample % 14
            where = np.array([x, y]) + frame * step
            if rng.random() < 0.85:
                scene.annotate(name, sample, *where, id=number, visibility=int(rng.integers(5)))
            for copy in range(2):
                if rng.random() < 0.6:
                    seen = name if rng.random() < 0.9 else names[rng.integers(3)]
                    spot = where + rng.normal(scale=1.0, size=2)
                    identity = (number + (frame > 8) * (number % 2), copy)
                    scene.find(seen, sample, *spot, id=identity, score=rng.random(), velocity=(1.0, 0.0))
            if rng.random() < 0.7:
                detector.find(name, sample, *(where + rng.normal(scale=0.8, size=2)), score=rng.random())
    # A track has one box a frame.
    unique = {(row["sample"], row["id"]): row for row in scene.found}
    scene.found = list(unique.values())
    return scene, detector


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("with_detections", [False, True])
def test_totals_are_the_official_counts(toy: ToyMaker, seed: int, with_detections: bool):
    scene, detector = _busy(toy, seed)
    metrics = tracking_metrics(scene.results(), scene.ground_truth())
    thresholds = {name: curve.operating_threshold for name, curve in metrics.curves.items()}
    table = causes_of(scene, detector if with_detections else None, **thresholds)
    _agree(table, {name: metrics.overall(name) for name in ("fn", "fp", "ids")})
    assert table.misses.total > 20 and table.false_boxes.total > 20 and table.switches.total > 1


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("least", [-np.inf, 0.3, 0.5])
def test_totals_are_the_official_counts_at_any_threshold(toy: ToyMaker, seed: int, least: float):
    scene, detector = _busy(toy, seed)
    table = causes_of(scene, detector, **dict.fromkeys(NUSCENES.listed_tracked, least))
    _agree(table, _counts_at(scene.results(), scene.ground_truth(), least))
    if least == -np.inf:
        assert table.misses.by_cause["low_score"] == 0


def _counts_at(tracks: EvaluationBoxes, truth: GroundTruth, least: float) -> dict[str, float]:
    """FN, FP and IDS of the metrics' own code at one threshold."""
    evaluated = EvaluatedTracks.of(tracks, truth)
    sums = {"fn": 0.0, "fp": 0.0, "ids": 0.0}
    for name in ("car", "pedestrian", "truck"):
        own, guesses, pairs = evaluated.of_class(name)
        matches = match_tracks(pairs, own, guesses, np.array([least]))
        values = clear_metrics(pairs, matches, own, guesses, np.array([least]))
        for metric in sums:
            sums[metric] += float(values[metric][0])
    return sums


def _agree(table: CauseTable, official: dict[str, float]) -> None:
    for metric, counts in (("fn", table.misses), ("fp", table.false_boxes), ("ids", table.switches)):
        assert counts.total == official[metric], metric
        for name, column in counts.counts.items():
            assert column.sum() == counts.total, (metric, name)
            assert (column.sum(axis=0) <= counts.boxes[name]).all(), (metric, name)
        if counts.detected is not None:
            assert (counts.detected <= counts.counts["class"].sum(axis=1)).all()
