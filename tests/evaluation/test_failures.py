"""What became of every box, in scenes small enough to be worked out by hand, and the ranking of failures."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from syncl.evaluation import tracking_metrics
from syncl.evaluation.failures import false_tracks, identity_switches, longest_misses
from syncl.evaluation.outcomes import Outcomes, track_outcomes

ToyMaker = Callable[..., Any]


def outcomes_of(scene: Any, **thresholds: float) -> Outcomes:
    return track_outcomes(scene.results(), scene.ground_truth(), thresholds or {"car": 0.0})


def test_boxes_are_matched_missed_false_and_switched(toy: ToyMaker):
    scene = toy(frames=6)
    for frame in range(6):
        scene.annotate("car", frame, 10, id="o")
    for frame in (0, 1):
        scene.find("car", frame, 11, id="a")
    scene.find("car", 2, 12.5, id="a")  # too far
    for frame in (4, 5):
        scene.find("car", frame, 10, id="b", score=0.8)
    scene.find("bus", 5, 10, id="c")  # of another class
    found = outcomes_of(scene, car=0.5, bus=0.5)
    assert found.tracked.tolist() == [True, True, False, False, True, True]
    assert found.partner.tolist() == [0, 1, -1, -1, 3, 4]
    assert found.switched.tolist() == [False] * 4 + [True, False]
    assert found.wrong.tolist() == [False, False, True, False, False, True]
    (switch,) = identity_switches(found)
    assert (switch.before, switch.after, switch.former, switch.new) == (1, 4, 1, 3)
    assert (switch.frames_before, switch.frames_after) == (2, 2)
    (miss,) = longest_misses(found)
    assert miss.rows == (2, 3) and miss.ever
    tracks = false_tracks(found)
    assert [track.rows for track in tracks] == [(2,), (5,)]
    assert tracks[0].nearest_m == pytest.approx(2.5) and tracks[1].nearest_m == np.inf


def test_tracks_below_the_threshold_do_not_count(toy: ToyMaker):
    scene = toy(frames=2)
    for frame in range(2):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 10, id="a", score=0.4 + 0.1 * frame)
        scene.find("car", frame, 20, id="b", score=0.2)
    found = outcomes_of(scene, car=0.45)
    # The track's mean score is its threshold.
    assert found.tracked.all() and not found.wrong.any()
    np.testing.assert_allclose(found.score, [0.45, 0.2, 0.45, 0.2])
    assert not outcomes_of(scene, car=0.46).tracked.any()
    assert not outcomes_of(scene, car=float("nan")).counted.any()
    assert not outcomes_of(scene, bus=0.1).counted.any()


def test_an_object_under_a_hole_of_its_track_is_not_missed(toy: ToyMaker):
    scene = toy(frames=3)
    for frame in range(3):
        scene.annotate("car", frame, 10)
        if frame != 1:
            scene.find("car", frame, 10, id="a")
    found = outcomes_of(scene)
    assert found.tracked.all() and found.partner.tolist() == [0, -1, 1]
    assert longest_misses(found) == [] and identity_switches(found) == []


def test_the_longest_failures_come_first(toy: ToyMaker):
    scene = toy(frames=10)
    for frame in range(10):
        scene.annotate("car", frame, 10, 0, id="switches early")
        scene.annotate("car", frame, 10, 10, id="switches late")
        scene.annotate("car", frame, 30, 0, id="never seen, far")
        scene.annotate("car", frame, -20, 0, id="never seen, near")
        scene.find("car", frame, 10, 0, id="a" if frame < 1 else "b")
        scene.find("car", frame, 10, 10, id="c" if frame < 6 else "d")
        if frame < 3:
            scene.find("car", frame, 0, -30, id="short, sure", score=0.95)
        if frame < 7:
            scene.find("car", frame, 0, -40, id="long", score=0.6)
        if 2 < frame < 6:
            scene.find("car", frame, 0, -35, id="short", score=0.7)
    found = outcomes_of(scene)
    switches = identity_switches(found)
    assert [(switch.frames_before, switch.frames_after) for switch in switches] == [(6, 4), (1, 9)]
    misses = longest_misses(found)
    assert [found.objects.centre[miss.rows[0], 0] for miss in misses] == [-20, 30]
    assert all(len(miss.rows) == 10 and not miss.ever for miss in misses)
    tracks = false_tracks(found)
    assert [(len(track.rows), track.score) for track in tracks] == [
        (7, pytest.approx(0.6)),
        (3, pytest.approx(0.95)),
        (3, pytest.approx(0.7)),
    ]


def test_a_switch_back_is_two_switches(toy: ToyMaker):
    scene = toy(frames=9)
    for frame in range(9):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 10, id="b" if 3 <= frame < 5 else "a")
    switches = identity_switches(outcomes_of(scene))
    # The hole of "a" is filled while "b" is there; the former partner keeps the object.
    assert switches == []
    for frame in (3, 4):
        scene.find("car", frame, 40, id="a")  # no hole: "a" is elsewhere
    switches = identity_switches(outcomes_of(scene))
    assert [(s.frames_before, s.frames_after) for s in switches] == [(2, 4), (3, 2)]


def test_equal_identities_in_two_scenes_are_two_tracks(toy: ToyMaker):
    scene = toy(frames=3, scenes=2)
    for sample in range(6):
        scene.annotate("car", sample, 10, id="o")
        scene.find("car", sample, 20, id="a")
    found = outcomes_of(scene)
    assert [len(miss.rows) for miss in longest_misses(found)] == [3, 3]
    assert [len(track.rows) for track in false_tracks(found)] == [3, 3]


@pytest.mark.parametrize("seed", range(4))
def test_counts_are_those_of_the_official_metrics(toy: ToyMaker, seed: int):
    rng = np.random.default_rng(seed)
    scene = toy(frames=12, scenes=2)
    # Tracks without holes: boxes that fill them are counted in the metrics and are no rows here.
    change = rng.integers(3, 10, 5)
    spread = rng.uniform(0.3, 1.5, 5)
    for sample in range(24):
        for number in range(5):
            name, x, y = ("car", "pedestrian")[number % 2], 8.0 * number - 16, 6.0 * (number % 2)
            scene.annotate(name, sample, x, y, id=number)
            where = np.array([x, y]) + rng.normal(scale=spread[number], size=2)
            identity = (number, sample % 12 < change[number])
            scene.find(name, sample, *where, id=identity, score=rng.random())
    metrics = tracking_metrics(scene.results(), scene.ground_truth())
    thresholds = {name: curve.operating_threshold for name, curve in metrics.curves.items()}
    found = track_outcomes(scene.results(), scene.ground_truth(), thresholds)
    counts = {"fn": (~found.tracked).sum(), "fp": found.wrong.sum(), "ids": found.switched.sum()}
    for name, count in counts.items():
        assert metrics.overall(name) == count, name
    assert metrics.overall("tp") == (found.tracked & ~found.switched).sum()


def test_nothing_at_all(toy: ToyMaker):
    empty = outcomes_of(toy(frames=2))
    assert identity_switches(empty) == [] and longest_misses(empty) == [] and false_tracks(empty) == []
