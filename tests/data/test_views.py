"""Cameras told apart by where they look."""

import math

import pytest

from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.views import NUSCENES_VIEWS_DEG, apart_deg, cameras_by_view, index_rigs, index_views

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
NUSCENES = dict(zip(CAMERAS, NUSCENES_VIEWS_DEG))


def test_angles_go_round():
    assert apart_deg([170.0, -90.0], [-170.0, 450.0]).tolist() == [[20, 80], [80, 180]]


@pytest.mark.parametrize("frame", ["ego", "lidar"])
def test_the_index_knows_where_cameras_look(tiny_root, frame):
    index = open_nuscenes(tiny_root, "v1.0-mini", cache=False, vehicle_frame=frame)
    found = index_views(index, index.scene_names, index.camera_names)
    ahead = 90 if frame == "lidar" else 0
    assert list(found) == list(CAMERAS)
    for name, degrees in found.items():
        assert apart_deg([degrees], [NUSCENES[name] + ahead])[0, 0] < 1e-6


def test_the_index_knows_how_many_cameras_a_scene_has_and_how_wide_they_see(tiny_root):
    index = open_nuscenes(tiny_root, "v1.0-mini", cache=False)
    images = [camera for row in (0, 4) for camera in index.sample(row).cameras]
    angles_deg = [math.degrees(2 * math.atan(c.width / 2 / c.file_intrinsics[0, 0])) for c in images]
    size = (images[0].height // 2, images[0].width // 2)
    found = index_rigs(index, index.scene_names, index.camera_names, size)
    assert found == pytest.approx((6, 6, min(angles_deg), max(angles_deg)))
    assert index_rigs(index, index.scene_names, ("CAM_BACK", "CAM_FRONT"), size)[:2] == (2, 2)
    assert index_rigs(index, (), index.camera_names, size) is None
    # What is cropped at the sides is not seen.
    narrow = index_rigs(index, index.scene_names, index.camera_names, (size[0], size[1] // 2))
    half_deg = [math.degrees(2 * math.atan(c.width / 4 / c.file_intrinsics[0, 0])) for c in images]
    assert narrow == pytest.approx((6, 6, min(half_deg), max(half_deg)))


def test_an_order_that_fits_stays_though_cameras_are_turned_a_little(recwarn):
    found = {name: degrees + 25 for name, degrees in NUSCENES.items()}
    assert cameras_by_view(NUSCENES_VIEWS_DEG, found, CAMERAS, "data") == CAMERAS
    assert not recwarn.list


def test_other_names_are_matched_by_direction_and_further_cameras_left_out():
    names = ("a", "b", "c", "d", "e", "f", "top left")
    found = dict(zip(names, (111.0, 181.0, -54.0, 1.0, 54.0, -112.0, 80.0)))
    with pytest.warns(UserWarning, match="data: cameras in the order of the model's.*: d, c, e, b, a, f"):
        chosen = cameras_by_view(NUSCENES_VIEWS_DEG, found, names, "data")
    assert chosen == ("d", "c", "e", "b", "a", "f")


def test_a_rig_of_another_kind_is_said():
    found = {str(place): 30.0 * place for place in range(6)}
    with pytest.warns(UserWarning, match=r"looks \d+ degrees away from where the camera looked"):
        cameras_by_view(NUSCENES_VIEWS_DEG, found, tuple(found), "data")


def test_too_few_cameras_are_left_to_the_model(recwarn):
    assert cameras_by_view(NUSCENES_VIEWS_DEG, {"a": 0.0}, ("a",), "data") == ("a",)
    assert not recwarn.list
