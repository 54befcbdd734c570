"""Streets and motions: speeds, stops, and everybody keeping out of everybody's way."""

from itertools import combinations, pairwise

import numpy as np
import pytest

from syncl.data.synthetic.actors import EGO_MIDDLE_M, EGO_SIZE, Cast, cast_scene
from syncl.data.synthetic.movement import STEP_S, Motion, advance, clock, follow
from syncl.data.synthetic.spacing import Occupancy
from syncl.data.synthetic.streets import CARRIAGEWAY_M, LANE_M, Path, StreetMap, lay_streets
from syncl.data.synthetic.world import POPULATIONS

TIMES = clock(10.0)


def straight(length: float) -> Path:
    return Path.through(np.array([(0.0, 0.0), (length, 0.0)]))


def town(seed: int, difficulty: str = "default") -> tuple[StreetMap, Cast]:
    rng = np.random.default_rng(seed)
    people = POPULATIONS[difficulty]
    streets = lay_streets(rng, 60.0, people.through_streets)
    return streets, cast_scene(rng, streets, people, 9.5)


@pytest.fixture(scope="module", params=[(0, "easy"), (1, "default"), (2, "hard")], ids=lambda p: p[1])
def scene(request) -> tuple[StreetMap, Cast]:
    return town(*request.param)


def test_speed_is_steady_on_an_open_road() -> None:
    along = advance(straight(500.0), 10.0, 5.0, TIMES)
    assert along[0] == pytest.approx(10.0)
    assert along[-1] == pytest.approx(10.0 + 5.0 * (TIMES[-1] - TIMES[0]), abs=1e-6)


def test_a_stop_holds_for_its_time_and_brakes_gently() -> None:
    along = advance(straight(500.0), 0.0, 5.0, TIMES, ((20.0, 3.0),))
    speed = np.gradient(along, STEP_S)
    standing = (np.abs(along - 20.0) < 0.3).sum() * STEP_S
    assert 3.0 <= standing < 6.5
    assert np.abs(np.diff(speed)).max() / STEP_S < 6.0
    assert along[-1] > 21.0


def test_motion_ends_at_the_end_of_the_path() -> None:
    assert advance(straight(30.0), 0.0, 6.0, TIMES)[-1] == pytest.approx(30.0)


def test_bends_are_taken_slowly() -> None:
    angles = np.linspace(0, np.pi / 2, 30)
    bend = np.stack([20 + 5.25 * np.sin(angles), 5.25 - 5.25 * np.cos(angles)], -1)
    path = Path.through(np.concatenate([[(0.0, 0.0)], bend, [(25.25, 60.0)]]))
    along = advance(path, 0.0, 8.0, TIMES)
    speed = np.gradient(along, STEP_S)
    inside = (along > 21) & (along < 27)
    assert inside.any() and speed[inside].max() < 4.0 < speed.max()


def test_vehicles_point_where_they_go() -> None:
    motion = follow(straight(100.0), np.array([5.0, 6.0, 7.0]), 4.0)
    np.testing.assert_allclose(motion.places, [(5, 0), (6, 0), (7, 0)], atol=1e-9)
    np.testing.assert_allclose(motion.headings, 0.0, atol=1e-9)


def test_occupied_ground_is_not_free() -> None:
    ground = Occupancy()
    size = np.array([4.0, 2.0, 1.5])
    lane = follow(straight(200.0), 10.0 + 5.0 * (TIMES - TIMES[0]), 4.0)
    ground.add(lane, size)
    shifted = Motion(lane.places + np.array([0.0, 3.0]), lane.headings, lane.travelled)
    behind = Motion(lane.places - np.array([3.0, 0.0]), lane.headings, lane.travelled)
    oncoming = Motion(lane.places[::-1], lane.headings + np.pi, lane.travelled)
    assert ground.is_free(shifted, size, 0.3)
    assert not ground.is_free(shifted, size, 1.2)
    assert not ground.is_free(behind, size, 0.0)
    assert not ground.is_free(oncoming, size, 0.0)


def test_the_route_runs_on_streets_and_keeps_turning() -> None:
    for seed in range(8):
        streets = lay_streets(np.random.default_rng(seed), 150.0, 0.3)
        route = streets.route
        assert all(streets.joined(a, b) for a, b in pairwise(route))
        hops = [(b[0] - a[0], b[1] - a[1]) for a, b in pairwise(route)]
        assert not any(a == b == c for a, b, c in zip(hops, hops[1:], hops[2:], strict=False))


def test_lanes_are_smooth_and_on_the_right() -> None:
    streets = lay_streets(np.random.default_rng(3), 150.0, 0.3)
    lane = streets.lane(list(streets.route), LANE_M)
    turn = np.abs(np.diff(lane.headings()))
    assert turn.max() < 0.15
    start, towards = streets.position(streets.route[0]), streets.position(streets.route[1])
    ahead = (towards - start) / np.linalg.norm(towards - start)
    right = np.array([ahead[1], -ahead[0]])
    assert (lane.points[0] - start) @ right == pytest.approx(LANE_M)


def corners_of(place: np.ndarray, heading: float, size: np.ndarray) -> np.ndarray:
    forward = np.array([np.cos(heading), np.sin(heading)]) * size[0] / 2
    left = np.array([-np.sin(heading), np.cos(heading)]) * size[1] / 2
    return place + np.array([forward + left, forward - left, -forward - left, left - forward])


def overlap_m(a: np.ndarray, b: np.ndarray) -> float:
    """How deep two rectangles are inside each other; negative when a line separates them."""
    depths = []
    for box in (a, b):
        for side in (box[1] - box[0], box[2] - box[1]):
            normal = np.array([side[1], -side[0]]) / np.linalg.norm(side)
            along_a, along_b = a @ normal, b @ normal
            depths.append(min(along_a.max(), along_b.max()) - max(along_a.min(), along_b.min()))
    return min(depths)


def test_nothing_is_ever_inside_anything_else(scene: tuple[StreetMap, Cast]) -> None:
    _, cast = scene
    forward = np.stack([np.cos(cast.ego.headings), np.sin(cast.ego.headings)], -1)
    bodies = [(a.motion.places, a.motion.headings, a.size) for a in cast.actors]
    bodies.append((cast.ego.places + EGO_MIDDLE_M * forward, cast.ego.headings, np.array(EGO_SIZE)))
    for row in range(4, len(cast.ego.headings), 10):
        boxes = [corners_of(places[row], headings[row], size) for places, headings, size in bodies]
        middles = np.array([box.mean(0) for box in boxes])
        for a, b in combinations(range(len(boxes)), 2):
            if np.linalg.norm(middles[a] - middles[b]) < 12:
                assert overlap_m(boxes[a], boxes[b]) < 0.05


def test_speeds_are_modest_and_classes_all_present(scene: tuple[StreetMap, Cast]) -> None:
    _, cast = scene
    limits = {"car": 8.0, "truck": 6.5, "bus": 6.5, "trailer": 6.5, "motorcycle": 7.5, "bicycle": 4.0}
    for actor in cast.actors:
        speed = np.linalg.norm(np.diff(actor.motion.places, axis=0), axis=-1) / STEP_S
        if actor.name == "pedestrian":
            assert speed.max() < 2.2
        elif actor.posture == "driving":
            assert speed.max() < 1.4 * limits[actor.name] + 0.3
        else:
            assert speed.max() == 0.0
    assert {actor.name for actor in cast.actors} >= {*limits, "pedestrian", "traffic_cone", "barrier"}


def test_the_ego_vehicle_stays_on_the_carriageway(scene: tuple[StreetMap, Cast]) -> None:
    streets, cast = scene
    middles = [streets.position(node) for node in streets.route]
    for place in cast.ego.places[::20]:
        away = []
        for start, end in pairwise(middles):
            share = np.clip((place - start) @ (end - start) / ((end - start) @ (end - start)), 0, 1)
            away.append(np.linalg.norm(place - start - share * (end - start)))
        assert min(away) < CARRIAGEWAY_M - 1.5
