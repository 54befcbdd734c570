"""Grid, axes and horizon: where they land in an image, and that they sit on the ground of a real frame."""

import json
from pathlib import Path

import numpy as np
import pytest

from syncl.rendering.rig_picture import HORIZON, X_AXIS, _camera_rays, draw_lines, project_lines, rig_lines
from syncl.rendering.wireframe import to_homogeneous, to_pixels


def projection(pitch_deg: float = 0.0, height_m: float = 1.5) -> np.ndarray:
    """A camera that looks along x, 100 pixels of focal length, centre (100, 50), pitched down."""
    tilt = np.radians(pitch_deg)
    axes = np.array([[0, -1, 0], [-np.sin(tilt), 0, -np.cos(tilt)], [np.cos(tilt), 0, -np.sin(tilt)]])
    camera_from_vehicle = np.eye(4)
    camera_from_vehicle[:3, :3] = axes
    camera_from_vehicle[:3, 3] = axes @ [0, 0, -height_m]
    intrinsics = np.diag([100.0, 100.0, 1, 1])
    intrinsics[0, 2], intrinsics[1, 2] = 100, 50
    return intrinsics @ camera_from_vehicle


@pytest.mark.parametrize("pitch", [-10.0, 0.0, 7.0])
def test_the_horizon_follows_pitch_and_spans_the_image(pitch: float) -> None:
    pieces = project_lines(rig_lines().horizon, projection(pitch), (100, 200))
    np.testing.assert_allclose(pieces[..., 1], 50 - 100 * np.tan(np.radians(pitch)), atol=0.01)
    assert pieces[..., 0].min() < 1 and pieces[..., 0].max() > 199


def test_the_ground_may_lie_elsewhere() -> None:
    # 20 m ahead and 1.5 m below: 7.5 pixels under the centre; 2 m lower: 17.5.
    for ground, row in ((0.0, 57.5), (-2.0, 67.5)):
        lines = rig_lines(ground)
        at = to_pixels(to_homogeneous(projection(), np.array([20.0, 0, ground])))
        np.testing.assert_allclose(at, [100, row])
        (axis,) = project_lines(lines.x_axis, projection(), (100, 200))
        along = np.interp(row, sorted(axis[:, 1]), axis[np.argsort(axis[:, 1]), 0])
        assert along == pytest.approx(100)


def test_lines_are_drawn_in_their_colours() -> None:
    tile = np.full((100, 200, 3), 90, np.uint8)
    draw_lines(tile, projection(), rig_lines(), 1.0)
    assert np.abs(tile[49:51, 20].astype(int) - HORIZON).sum(axis=-1).min() < 60
    assert np.abs(tile[80, 97:104].astype(int) - X_AXIS).sum(axis=-1).min() < 60
    assert (tile[:36] == 90).all(), "posts end 2 m above the ground, half a metre above the horizon at 5 m"


def test_a_camera_without_an_image_looks_where_it_would_with_one() -> None:
    origin, left, right = _camera_rays(projection(), np.zeros((100, 200, 3), np.uint8))
    np.testing.assert_allclose(origin, [0, 0, 1.5], atol=1e-9)
    np.testing.assert_allclose([left, right], 1.4 * np.sqrt(0.5) * np.array([[1, 1], [1, -1]]))
    for seen, without in zip((origin, left, right), _camera_rays(projection(), None)):
        np.testing.assert_allclose(without, seen, atol=1e-9)


# camera, class, (left, top, right, bottom) pixels of 1600 x 900, read off the images by hand
READ_BY_HAND = [
    ("CAM_FRONT", "car", (719, 464, 786, 530)),
    ("CAM_FRONT", "car", (897, 478, 955, 526)),
    ("CAM_BACK", "pedestrian", (1052, 471, 1090, 588)),
    ("CAM_BACK", "pedestrian", (924, 495, 976, 592)),
]


@pytest.mark.parametrize(("camera", "label", "outline"), READ_BY_HAND)
def test_the_grid_lies_on_the_ground_of_a_real_frame(camera, label, outline, nuscenes_sample: Path) -> None:
    """Ground under an annotated object must be where its feet or wheels are in the picture."""
    content = json.loads(nuscenes_sample.read_text())
    ego_from_lidar = np.array(content["ego_from_lidar"])
    source = content["cameras"][camera]
    image_from_ego = np.eye(4)
    image_from_ego[:3, :3] = source["intrinsics"]
    image_from_ego = image_from_ego @ source["camera_from_lidar"] @ np.linalg.inv(ego_from_lidar)
    left, _, right, bottom = outline
    rows = []
    for box in content["boxes"]:
        centre = ego_from_lidar[:3, :3] @ box["center_lidar_m"] + ego_from_lidar[:3, 3]
        ground = to_homogeneous(image_from_ego, np.array([*centre[:2], 0.0]))
        if box["class"] == label and ground[2] > 1:
            pixel = to_pixels(ground)
            if abs(pixel[0] - (left + right) / 2) < 12:
                rows.append(abs(pixel[1] - bottom))
    # A hand's breadth of slope at 30 m is a few pixels.
    assert rows and min(rows) < 10
