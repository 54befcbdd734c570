import numpy as np
import pytest
import torch

from syncl.geometry.boxes import box_corners
from syncl.rendering.wireframe import (
    EDGES,
    clip_polygon,
    clip_segments,
    corners_of,
    heading_marks,
    to_homogeneous,
    to_pixels,
)

SIZE = (128, 352)


def test_corners_agree_with_the_geometry_room():
    boxes = np.random.default_rng(0).uniform(0.5, 6, (20, 9))
    np.testing.assert_allclose(corners_of(boxes), box_corners(torch.from_numpy(boxes)).numpy(), atol=1e-12)


def test_known_box_lands_on_known_pixels(rig):
    # A camera at height 1.5 m looks ahead; the box's rear face is 10 m away, 2 m wide and 3 m tall.
    projection = rig.projection(0, 200, 352, 128)
    box = np.array([[12.0, 0, 1.5, 4, 2, 3, 0, 0, 0]])
    pixels = to_pixels(to_homogeneous(projection, corners_of(box)))[0]
    # From the lower left corner round by the upper left; the front face is 4 m farther away.
    ring = np.array([(-1, 1), (-1, -1), (1, -1), (1, 1)])
    np.testing.assert_allclose(pixels[4:], [176, 64] + ring * [20, 30])
    np.testing.assert_allclose(pixels[:4], [176, 64] + ring * [200 / 14, 300 / 14])


@pytest.mark.parametrize("yaw_deg", [0, 55, 110, 180, -110, -55])
def test_every_camera_sees_what_lies_on_its_axis_in_its_middle(rig, yaw_deg):
    yaw = np.radians(yaw_deg)
    ahead = np.array([10 * np.cos(yaw), 10 * np.sin(yaw), 1.5])
    homogeneous = to_homogeneous(rig.projection(yaw_deg, 200, 352, 128), ahead)
    np.testing.assert_allclose(to_pixels(homogeneous), [176, 64], atol=1e-9)
    assert homogeneous[2] == pytest.approx(10)


def test_boxes_behind_the_camera_are_not_mirrored_into_the_image(rig):
    projection = rig.projection(0, 200, 352, 128)
    behind = np.array([[-12.0, 0, 1.5, 4, 2, 3, 0, 0, 0]])
    corners = to_homogeneous(projection, corners_of(behind))
    _, visible = clip_segments(corners[:, EDGES], SIZE)
    assert not visible.any()
    assert len(clip_polygon(corners[0, :4], SIZE)) == 0


def test_edges_that_pass_the_camera_end_at_the_rim_of_the_image(rig):
    # A line along the road, 2 m to the left and on the ground, from behind the camera to 20 m ahead.
    projection = rig.projection(0, 200, 352, 128)
    line = to_homogeneous(projection, np.array([[-5.0, 2, 0], [20.0, 2, 0]]))
    pixels, visible = clip_segments(line, SIZE, margin=0)
    assert visible
    np.testing.assert_allclose(pixels[1], [176 - 20, 64 + 15])
    # It leaves through the bottom (v = 128) where depth = 200 * 1.5 / 64; there u = 176 - 400 / depth.
    np.testing.assert_allclose(pixels[0], [176 - 400 / (300 / 64), 128])


def test_clipped_parts_lie_inside_and_on_the_line(rig):
    rng = np.random.default_rng(1)
    projection = rig.projection(20, 200, 352, 128)
    ends = to_homogeneous(projection, rng.uniform(-15, 15, (500, 2, 3)))
    pixels, visible = clip_segments(ends, SIZE, margin=0)
    assert 20 < visible.sum() < 480
    assert np.isfinite(pixels).all()
    shown = pixels[visible]
    assert (shown >= -1e-6).all() and (shown <= np.array([352, 128]) + 1e-6).all()
    # Dense samples of every segment: visible ones, and only those, fall into the image.
    share = np.linspace(0, 1, 4001)[:, None, None]
    points = ends[:, 0] + share * (ends[:, 1] - ends[:, 0])
    in_front = points[..., 2] > 0.2
    u, v = np.moveaxis(points[..., :2] / np.where(in_front, points[..., 2], np.nan)[..., None], -1, 0)
    sampled = (in_front & (u > 0) & (u < 352) & (v > 0) & (v < 128)).any(axis=0)
    assert (sampled & ~visible).sum() == 0
    assert (visible & ~sampled).sum() <= 2  # those that only graze a corner between two samples


def test_polygon_larger_than_the_image_becomes_the_image(rig):
    projection = rig.projection(0, 200, 352, 128)
    wall = np.array([[2.0, 50, -50], [2.0, 50, 50], [2.0, -50, 50], [2.0, -50, -50]])
    polygon = clip_polygon(to_homogeneous(projection, wall), SIZE, margin=0)
    corners = {tuple(point) for point in polygon.round(6)}
    assert corners == {(0, 0), (0, 128), (352, 0), (352, 128)}


def test_heading_marks_lie_on_the_floor_ahead_of_the_front():
    box = np.array([[10.0, 5.0, 1.0, 4.0, 2.0, 1.6, np.pi / 2, 0.0, 0.0]])
    np.testing.assert_allclose(heading_marks(box), [[[10, 7, 0.2], [10, 8.5, 0.2]]], atol=1e-9)
