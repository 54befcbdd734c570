import numpy as np
import pytest

from syncl.rendering import History, RenderStyle
from syncl.rendering.bev import GroundMap
from syncl.rendering.scene_view import advance, judge, trails_in_vehicle, view_frame


def run(frames, style=None):
    style, history = style or RenderStyle(), History()
    for frame in frames:
        view, history = view_frame(frame, history, style)
    return view, history


def test_trail_of_a_parked_car_stays_with_the_car_while_the_vehicle_drives_and_turns(rig):
    # The car is parked at global (130, 60); the vehicle drives 5 m and turns 0.1 rad a frame.
    frames = []
    for step in range(5):
        yaw = 0.1 * step
        offset = np.array([130 - (100 + 5 * step), 60 - 50])
        seen = np.array([[np.cos(yaw), np.sin(yaw)], [-np.sin(yaw), np.cos(yaw)]]) @ offset
        car = rig.objects([*seen, 0.8, 4.5, 1.9, 1.6, -yaw, 0, 0])
        frames.append(rig.frame(car, number=step + 1, ego_x=5 * step, ego_yaw=yaw))
    view, _ = run(frames)
    trail = view.trails["1"]
    assert trail.shape == (5, 3)
    np.testing.assert_allclose(trail, np.tile([*seen, 0.0], (5, 1)), atol=1e-9)


def test_trail_of_a_car_that_keeps_pace_stretches_out_behind_it(rig):
    car = rig.objects([10.0, 0, 0.8, 4.5, 1.9, 1.6, 0, 5, 0])
    view, _ = run([rig.frame(car, number=step + 1, ego_x=2.5 * step) for step in range(4)])
    np.testing.assert_allclose(view.trails["1"][:, 0], [2.5, 5.0, 7.5, 10.0], atol=1e-9)


def test_trails_end_after_their_time_and_with_the_scene(rig):
    car = rig.objects([10.0, 0, 0.8, 4.5, 1.9, 1.6, 0, 5, 0])
    frames = [rig.frame(car, number=step + 1) for step in range(8)]
    view, history = run(frames, RenderStyle(trail_s=1.0))
    assert len(view.trails["1"]) == 3  # now, 0.5 s and 1 s ago
    view, _ = view_frame(rig.frame(car, number=9, scene="scene-0002"), history, RenderStyle())
    assert len(view.trails["1"]) == 1
    view, _ = run(frames, RenderStyle(trail_s=0))
    assert view.trails == {}


def test_tracks_that_ended_are_forgotten(rig):
    car = rig.objects([10.0, 0, 0.8, 4.5, 1.9, 1.6, 0, 5, 0])
    history = advance(History(), "s", car, np.eye(4), 0.0, 2.0)
    assert set(trails_in_vehicle(history, np.eye(4))) == {"1"}
    history = advance(history, "s", rig.objects(), np.eye(4), 2.5, 2.0)
    assert history.trails == {}


def test_bev_has_forward_up_and_left_left():
    ground = GroundMap(height=400, width=600, range_m=50)
    np.testing.assert_allclose(ground(np.zeros(2)), [300, 200])
    np.testing.assert_allclose(ground(np.array([50.0, 0])), [300, 0])
    np.testing.assert_allclose(ground(np.array([[0.0, 10], [-10, 0]])), [[260, 200], [300, 240]])


def box(x, y):
    return [x, y, 0.8, 4.5, 1.9, 1.6, 0, 0, 0]


def test_judge_pairs_by_score_distance_and_class(rig):
    truth = rig.objects(box(0, 0), box(10, 0), box(20, 0), identities=["a", "b", "c"])
    tracks = rig.objects(
        box(0.5, 0),  # nearer to a than the next, but lower score: a is taken
        box(-1.5, 0),
        box(10, 0),  # a truck on a car
        box(20, 1.999),
        box(50, 0),
        scores=[0.3, 0.9, 0.9, 0.5, 0.9],
        labels=["car", "car", "truck", "car", "car"],
    )
    verdict = judge(tracks, truth, former={})
    assert verdict.partner.tolist() == [-1, 0, -1, 2, -1]
    assert verdict.missed.tolist() == [False, True, False]


def test_two_metres_is_too_far(rig):
    verdict = judge(rig.objects(box(2.0, 0)), rig.objects(box(0, 0)), former={})
    assert verdict.partner.tolist() == [-1] and verdict.missed.tolist() == [True]


def test_switches_are_seen_even_after_a_gap(rig):
    style = RenderStyle(mark_errors=True)
    truth = rig.objects(box(10, 0), identities=["a"])
    named = [rig.objects(box(10.5, 0), identities=[name]) for name in ("4", "4", "7", "7")]
    history, seen = History(), []
    tracks = [named[0], rig.objects(), named[1], named[2], named[3]]
    for number, objects in enumerate(tracks):
        view, history = view_frame(rig.frame(objects, truth, number=number), history, style)
        seen.append(view.verdict.switched_from)
    assert seen == [(None,), (), (None,), ("4",), (None,)]


@pytest.mark.parametrize("errors", [False, True])
def test_nothing_is_judged_unless_asked_or_without_ground_truth(rig, errors):
    tracks = rig.objects(box(10, 0))
    view, _ = run([rig.frame(tracks, None)], RenderStyle(mark_errors=errors))
    assert view.verdict is None and view.truth is None
    view, _ = run([rig.frame(tracks, tracks)], RenderStyle(ground_truth=False, mark_errors=errors))
    assert (view.verdict is not None) == errors
