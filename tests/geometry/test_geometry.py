"""Poses, transforms, projection and box encodings: hand-worked numbers and round trips."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from syncl.geometry.boxes import box_corners, decode_boxes, encode_boxes
from syncl.geometry.poses import (
    invert_pose,
    move_boxes,
    move_places,
    quaternion_from_rotation,
    quaternion_from_yaw,
    rigid_from_pose,
    rotation_from_quaternion,
    yaw_from_quaternion,
)
from syncl.geometry.projection import project_points
from syncl.geometry.transforms import invert_affine, invert_rigid, rotate_planar, transform_points

angles = st.floats(-3.1, 3.1)
numbers = st.floats(-50, 50)


def test_a_quarter_turn_about_the_vertical_axis():
    quaternion = quaternion_from_yaw(np.pi / 2)
    assert quaternion == pytest.approx([np.sqrt(0.5), 0, 0, np.sqrt(0.5)])
    assert rotation_from_quaternion(quaternion) @ [1, 0, 0] == pytest.approx([0, 1, 0])
    assert yaw_from_quaternion(3 * quaternion) == pytest.approx(np.pi / 2)


@given(st.tuples(*[st.floats(-1, 1)] * 4).filter(lambda q: np.linalg.norm(q) > 0.1))
def test_quaternions_survive_the_way_over_matrices(values):
    quaternion = np.array(values) / np.linalg.norm(values)
    back = quaternion_from_rotation(rotation_from_quaternion(quaternion))
    assert abs(back @ quaternion) == pytest.approx(1) and back[0] >= 0


@given(angles, numbers, numbers)
def test_inverting_a_pose_undoes_it(yaw, x, y):
    pose = rigid_from_pose(np.array([x, y, 1.0]), quaternion_from_yaw(yaw))
    assert invert_pose(pose) @ pose == pytest.approx(np.eye(4), abs=1e-9)
    tensor = torch.from_numpy(pose)
    assert torch.allclose(invert_rigid(tensor) @ tensor, torch.eye(4, dtype=torch.float64), atol=1e-9)


def test_points_and_velocities_move_by_hand():
    destination_from_source = torch.from_numpy(
        rigid_from_pose(np.array([10.0, 0, 0]), quaternion_from_yaw(np.pi / 2))
    )
    points = transform_points(destination_from_source, torch.tensor([[1.0, 0, 2]]))
    assert torch.allclose(points, torch.tensor([[10.0, 1, 2]]), atol=1e-6)
    velocity = rotate_planar(destination_from_source, torch.tensor([[1.0, 0]]))
    assert torch.allclose(velocity, torch.tensor([[0.0, 1]]), atol=1e-6)


def test_far_poses_lose_nothing_in_float32():
    now = rigid_from_pose(np.array([1e5, 2e5, 0.0]), quaternion_from_yaw(0.3))
    before = rigid_from_pose(np.array([1e5 - 2, 2e5 + 1, 0.0]), quaternion_from_yaw(0.31))
    now_from_before = torch.from_numpy(invert_pose(now) @ before)
    there = transform_points(now_from_before, torch.tensor([[5.0, -3, 1]]))
    back = transform_points(invert_rigid(now_from_before), there)
    assert torch.allclose(back, torch.tensor([[5.0, -3, 1]]), atol=1e-5)


@given(numbers, numbers, angles, st.floats(0.1, 20), st.floats(-10, 10))
def test_box_code_round_trip(x, y, yaw, length, speed):
    box = torch.tensor([[x, y, 0.5, length, 1.8, 1.5, yaw, speed, -speed]], dtype=torch.float64)
    assert torch.allclose(decode_boxes(encode_boxes(box)), box, atol=1e-9)


def test_corners_of_a_turned_box():
    box = torch.tensor([[0.0, 0, 1, 4, 2, 2, np.pi / 2, 0, 0]], dtype=torch.float64)
    corners = box_corners(box)[0]
    assert torch.allclose(corners[:4, 1], torch.full((4,), 2.0, dtype=torch.float64))  # front face at y = +2
    assert torch.allclose(corners[4:, 1], torch.full((4,), -2.0, dtype=torch.float64))
    assert corners[:, 0].abs().max().item() == pytest.approx(1)
    assert sorted(set(corners[:, 2].round(decimals=6).tolist())) == [0, 2]


def test_moving_boxes_moves_their_corners():
    boxes = torch.tensor([[3.0, -2, 1, 4, 2, 1.5, 0.4, 1, 2]], dtype=torch.float64)
    motion = torch.from_numpy(rigid_from_pose(np.array([1.0, 2, 0]), quaternion_from_yaw(2.9)))
    moved = torch.from_numpy(move_boxes(motion.numpy(), boxes.numpy()))
    assert torch.allclose(box_corners(moved)[0], transform_points(motion, box_corners(boxes)[0]), atol=1e-9)
    assert moved[0, 7:].norm() == pytest.approx(boxes[0, 7:].norm())


def test_places_ahead_move_like_the_centres_of_boxes_at_their_height():
    tilted = rigid_from_pose(np.array([1.0, 2, 3]), np.array([0.9, 0.3, -0.2, 0.1]))
    boxes = np.array([[3.0, -2, 1, 4, 2, 1.5, 0.4, 1, 2], [5, 6, 0, 4, 2, 1.5, 0.4, 1, 2]])
    moved = move_places(tilted, boxes[:, None, :2], boxes[:, 2])
    np.testing.assert_allclose(moved[:, 0], move_boxes(tilted, boxes)[:, :2], atol=1e-12)


def test_a_tilted_box_turns_with_its_whole_rotation():
    tilt = np.array([0.9, 0.3, -0.2, 0.1])
    box = np.array([[0.0, 0, 0, 4, 2, 1, 0, 0, 0]])
    motion = rigid_from_pose(np.zeros(3), quaternion_from_yaw(0.5))
    moved = move_boxes(motion, box, rotation_from_quaternion(tilt)[None])
    assert moved[0, 6] == pytest.approx(yaw_from_quaternion(tilt) + 0.5)


def test_projection_by_hand():
    # A camera 1 m up that looks along the vehicle's x axis, focal length 100, centre (50, 40).
    camera_from_vehicle = torch.tensor([[0.0, -1, 0, 0], [0, 0, -1, 1], [1, 0, 0, 0], [0, 0, 0, 1]])
    intrinsics = torch.tensor([[100.0, 0, 50, 0], [0, 100, 40, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    projection = (intrinsics @ camera_from_vehicle)[None]
    pixels, depth = project_points(projection, torch.tensor([[10.0, 1, 1], [5, 0, 0], [-1, 0, 0]]))
    assert torch.allclose(pixels[0, :2], torch.tensor([[40.0, 40], [50, 60]]))
    assert depth[0].tolist() == [10, 5, -1]
    assert torch.isfinite(pixels).all()


def test_affine_maps_are_inverted_in_closed_form() -> None:
    torch.manual_seed(0)
    matrices = torch.eye(4, dtype=torch.float64).repeat(50, 1, 1)
    matrices[:, :3] = torch.randn(50, 3, 4, dtype=torch.float64)
    torch.testing.assert_close(invert_affine(matrices), torch.linalg.inv(matrices), rtol=1e-9, atol=1e-9)
