"""Who hides whom: painting order, the identity buffer, and what the tables make of it."""

import dataclasses
from itertools import pairwise

import cv2
import numpy as np
import pytest

from syncl.data.synthetic.actors import Actor
from syncl.data.synthetic.camera import Lens, View, see
from syncl.data.synthetic.class_shapes import _LOOKS, palette_of, shape_of
from syncl.data.synthetic.ground import Ground
from syncl.data.synthetic.mounts import MOUNTS, intrinsics, vehicle_from_camera
from syncl.data.synthetic.movement import clock, stay
from syncl.data.synthetic.scenery import Light, Prop, Scenery
from syncl.data.synthetic.shapes import ShapeBuilder, Tint, back_to_front
from syncl.data.synthetic.stage import Stage
from syncl.data.synthetic.visibility import Visibility

WIDTH, HEIGHT = 352, 128
LIGHT = Light(
    np.array([0.0, 0.6, 0.8]), 0.5, 0.6, np.ones(3), np.full(3, 200.0), np.full(3, 220.0), 300.0, 0.6
)
NO_NOISE = np.full((HEIGHT, WIDTH, 3), 128, np.uint8)
EGO = np.eye(4)


def flat_ground() -> Ground:
    fine, coarse = np.full((64, 64, 4), 90, np.uint8), np.full((16, 16, 4), 90, np.uint8)
    fine[..., 3] = coarse[..., 3] = 0
    return Ground(fine, coarse, np.array([-8.0, -8.0]), 0.25, 1.0, np.full(3, 90.0))


def actor(name: str, x: float, y: float, heading: float = 0.0, look: str | None = None) -> Actor:
    shape = shape_of(look or name)
    palette = palette_of(name, np.random.default_rng(0))
    motion = stay(np.array([x, y]), heading, clock(1.0))
    return Actor(name, look or name, shape.size, palette, motion, "parked")


def wall(x: float, low_y: float, high_y: float, height: float) -> Prop:
    width = high_y - low_y
    builder = ShapeBuilder().box((-0.2, 0.2), (-width / 2, width / 2), (0.0, height), Tint(0))
    shape = builder.build((0.4, width, height))
    return Prop(shape, np.array([x, (low_y + high_y) / 2]), 0.0, shape.size, np.full((3, 3), 120.0))


def front_lens() -> Lens:
    front = MOUNTS[0]
    return Lens(intrinsics(front, WIDTH, HEIGHT), EGO @ vehicle_from_camera(front), WIDTH, HEIGHT)


def look_at(actors: list[Actor], props: tuple[Prop, ...] = (), lens: Lens | None = None) -> View:
    stage = Stage(Scenery(props, ()), tuple(actors), LIGHT)
    return see(stage, flat_ground(), lens or front_lens(), 0.0, NO_NOISE)


def sight_of(view: View, count: int) -> Visibility:
    sight = Visibility(count, WIDTH * HEIGHT)
    sight.add(view)
    return sight


def points_on(view: View, car: Actor) -> int:
    return sight_of(view, 1).lidar_points(0, car.motion.places[0], 0.0, car.size, EGO)


def test_boxes_are_painted_from_the_far_side_of_the_planes_between_them() -> None:
    # From the origin along x: a long near wall (0), a small far box beside it (1), a box behind both (2).
    low = np.array([[2.0, 1.0, 0.0], [9.0, 0.0, 0.0], [20.0, 0.0, 0.0]])
    high = np.array([[12.0, 2.0, 3.0], [10.0, 0.9, 1.0], [22.0, 2.0, 3.0]])
    # By distance of the centres 0 (7 m) would come after 1 (9.5 m); the wall's inner side says otherwise.
    order = back_to_front(low, high, np.array([0.0, 0.0, 1.5]), np.array([7.0, 9.5, 21.0]))
    assert order.tolist() == [2, 0, 1]


def test_painting_order_survives_a_cycle() -> None:
    # Four bars around a square, each ahead of the next as seen from above the middle.
    low = np.array([[0, 0, 0], [3, 0, 0], [1, 3, 0], [0, 1, 0]], float)
    high = np.array([[3, 1, 1], [4, 3, 1], [4, 4, 1], [1, 4, 1]], float)
    order = back_to_front(low, high, np.array([2.0, 2.0, 9.0]), np.arange(4.0))
    assert sorted(order.tolist()) == [0, 1, 2, 3]


@pytest.mark.parametrize("look", sorted(_LOOKS))
def test_shapes_fill_their_boxes_and_face_outwards(look: str) -> None:
    shape = shape_of(look)
    corners = shape.corners.reshape(-1, 3)
    half = shape.size[:2] / 2
    assert (np.abs(corners[:, :2]) <= half + 0.02).all()
    assert corners[:, 2].min() >= 0 and corners[:, 2].max() <= shape.size[2] + 0.01
    # Hardly any air between shape and box: a box must sit tight on what is drawn.
    extent = np.ptp(corners, axis=0)
    stride = np.array([2 * np.abs(shape.swing).max(), 0, 0])
    assert (extent + stride >= shape.size * 0.9).all()
    middle = (shape.low + shape.high)[shape.parts] / 2
    outward = ((shape.corners.mean(1) - middle) * shape.normals).sum(-1)
    assert (outward > 0).all()


def test_an_object_behind_a_wall_is_hidden_in_picture_and_tables() -> None:
    car = actor("car", 20.0, 0.0)
    open_view, hidden = look_at([car]), look_at([car], (wall(12.0, -4.0, 4.0, 3.0),))
    assert (open_view.owners == 0).sum() == open_view.visible[0] > 300
    assert open_view.visible[0] == open_view.alone[0]
    assert sight_of(open_view, 1).level(0) == 4
    assert points_on(open_view, car) > 5
    assert (hidden.owners == 0).sum() == 0
    assert hidden.actors.tolist() == [0] and hidden.visible[0] == 0
    assert hidden.alone[0] == open_view.alone[0]
    assert sight_of(hidden, 1).level(0) == 1
    assert points_on(hidden, car) == 0


def test_a_wall_before_half_an_object_leaves_the_other_half() -> None:
    car = actor("car", 20.0, 0.0)
    view = look_at([car], (wall(12.0, 0.0, 6.0, 3.0),))
    share = sight_of(view, 1).share(0)
    assert 0.4 < share < 0.6
    columns = np.flatnonzero((view.owners == 0).any(0))
    assert columns.min() >= WIDTH / 2 - 2  # the left half of the picture is the wall's
    full = points_on(look_at([car]), car)
    assert abs(points_on(view, car) - share * full) <= 1


def test_a_wall_behind_hides_nothing() -> None:
    view = look_at([actor("pedestrian", 14.0, 1.0)], (wall(16.0, -4.0, 4.0, 3.0),))
    assert view.visible[0] == view.alone[0] > 100


def test_nearer_objects_hide_farther_ones_whatever_their_order() -> None:
    near, far = actor("truck", 12.0, 0.0), actor("car", 24.0, 0.0)
    for cast, behind in (([near, far], 1), ([far, near], 0)):
        view = look_at(cast)
        assert view.visible[behind] == 0
        assert view.visible[1 - behind] == view.alone[1 - behind]


def test_lidar_points_fall_with_the_square_of_the_distance() -> None:
    near, far = actor("car", 10.94, 0.0), actor("car", 30.94, 0.0)
    few, many = points_on(look_at([far]), far), points_on(look_at([near]), near)
    assert many / few == pytest.approx(9.0, rel=0.1)
    away = actor("car", 72.0, 0.0)
    assert points_on(look_at([away]), away) == 0


def test_a_handful_of_pixels_is_not_a_sighting() -> None:
    sight = Visibility(1, WIDTH * HEIGHT)
    view = look_at([actor("car", 20.0, 0.0)])
    sight.add(dataclasses.replace(view, visible=np.array([3])))
    assert sight.share(0) == 0.0 and sight.level(0) == 1


@pytest.mark.parametrize(
    ("seen", "level"), [(0, 1), (40, 1), (41, 2), (60, 2), (61, 3), (80, 3), (81, 4), (100, 4)]
)
def test_visibility_levels_are_nuscenes_ones(seen: int, level: int) -> None:
    view = look_at([actor("car", 20.0, 0.0)])
    sight = Visibility(1, WIDTH * HEIGHT)
    sight.add(dataclasses.replace(view, visible=np.array([seen]), alone=np.array([100])))
    assert sight.level(0) == level


@pytest.mark.parametrize("mount", MOUNTS, ids=lambda mount: mount.channel)
@pytest.mark.parametrize("look", ["car", "bus", "pedestrian", "bicycle.rider", "barrier", "trailer"])
def test_boxes_enclose_exactly_what_is_drawn(mount, look: str) -> None:
    lens = Lens(intrinsics(mount, WIDTH, HEIGHT), EGO @ vehicle_from_camera(mount), WIDTH, HEIGHT)
    forward = lens.world_from_camera[:2, 2]
    for heading in (0.3, 1.9, 4.0):
        place = lens.place[:2] + 17.0 * forward
        something = actor(look.split(".")[0], *place, heading, look)
        view = look_at([something], lens=lens)
        local = (
            np.array([(x, y, z) for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (0, 1)]) * something.size
        )
        cos, sin = np.cos(heading), np.sin(heading)
        corners = local @ np.array([[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]]).T + np.append(place, 0)
        pixels = lens.project(lens.into_camera(corners)).astype(np.float32)
        hull = np.zeros((HEIGHT, WIDTH), np.uint8)
        outline = cv2.convexHull(np.round((pixels - 0.5) * 16).astype(np.int32))
        cv2.fillConvexPoly(hull, outline, 1, cv2.LINE_8, 4)
        drawn = (view.owners == 0).astype(np.uint8)
        grown = cv2.dilate(hull, np.ones((3, 3), np.uint8))
        assert (drawn <= grown).all()
        rows, columns = np.nonzero(drawn)
        low, high = pixels.min(0), pixels.max(0)
        # The silhouette reaches the sides of its box; slack for tapered roofs, stride and rounding.
        slack = 2.0 + 0.16 * (high - low)
        seen_low, seen_high = (
            np.array([columns.min(), rows.min()]),
            np.array([columns.max() + 1, rows.max() + 1]),
        )
        assert (np.abs(seen_low - np.maximum(low, 0)) < slack).all()
        assert (np.abs(seen_high - high) < slack).all()


def test_fields_of_view_are_70_and_110_degrees_and_overlap_all_around() -> None:
    edges = []
    for mount in MOUNTS:
        matrix = intrinsics(mount, WIDTH, HEIGHT)
        across = 2 * np.degrees(np.arctan(WIDTH / 2 / matrix[0, 0]))
        assert across == pytest.approx(110.0 if mount.channel == "CAM_BACK" else 70.0)
        forward = vehicle_from_camera(mount)[:3, 2]
        yaw = np.degrees(np.arctan2(forward[1], forward[0])) % 360
        assert yaw == pytest.approx(mount.yaw_deg % 360)
        edges.append((yaw - across / 2, yaw + across / 2))
    edges.sort()
    for (_, end), (start, _) in pairwise([*edges, (edges[0][0] + 360, 0.0)]):
        assert end - start > 10
