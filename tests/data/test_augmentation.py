"""Augmented worlds must be consistent: every point stays on its pixel, every pose stays rigid."""

import numpy as np
import pytest
import torch

from syncl.data.augmentation import Augmentation, WorldTransform, draw_world_transform
from syncl.errors import SynclError
from syncl.geometry.poses import rigid_from_pose
from syncl.layers.frustum import frustum_points
from syncl.structures import CameraRig

WORLDS = [
    WorldTransform(),
    WorldTransform(rotation_rad=0.4),
    WorldTransform(scale=1.2),
    WorldTransform(mirror=True),
    WorldTransform(rotation_rad=-0.3, scale=0.9, mirror=True),
]


def random_pose(seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rigid_from_pose(rng.normal(size=3) * 5, rng.normal(size=4))


def project(intrinsics: np.ndarray, camera_from_vehicle: np.ndarray, points: np.ndarray) -> np.ndarray:
    camera = points @ camera_from_vehicle[:3, :3].T + camera_from_vehicle[:3, 3]
    image = camera @ intrinsics.T
    return image[:, :2] / image[:, 2:]


def is_rigid(pose: np.ndarray) -> bool:
    rotation = pose[:3, :3]
    return np.allclose(rotation @ rotation.T, np.eye(3)) and np.isclose(np.linalg.det(rotation), 1)


@pytest.mark.parametrize("world", WORLDS)
def test_points_stay_on_their_pixels(world: WorldTransform) -> None:
    intrinsics = np.array([[300.0, 0, 170], [0, 310, 90], [0, 0, 1]])
    camera_from_vehicle = random_pose(1)
    points = np.random.default_rng(2).normal(size=(20, 3)) * 20
    moved_points = points @ world.vehicle_matrix()[:3, :3].T
    moved = project(*world.move_rig(intrinsics, camera_from_vehicle), moved_points)
    np.testing.assert_allclose(moved, project(intrinsics, camera_from_vehicle, points), rtol=1e-6)


@pytest.mark.parametrize("world", WORLDS)
def test_poses_stay_rigid(world: WorldTransform) -> None:
    _, camera_from_vehicle = world.move_rig(np.eye(3), random_pose(1))
    assert is_rigid(camera_from_vehicle @ np.diag([world.scale, world.scale, world.scale, 1]))
    assert is_rigid(world.move_pose(random_pose(2)))


@pytest.mark.parametrize("world", WORLDS)
def test_points_along_rays_move_with_the_world(world: WorldTransform) -> None:
    """Where a pixel's ray is at given depths is moved, turned and scaled, as the originals' matrices do."""
    intrinsics = np.array([[300.0, 0, 170], [0, 310, 90], [0, 0, 1]])
    rig = intrinsics[None], random_pose(1)[None]
    depths = torch.tensor([1.0, 5.0, 40.0])

    def rays(image_from_camera: np.ndarray, camera_from_vehicle: np.ndarray) -> np.ndarray:
        tensors = (torch.from_numpy(array)[None] for array in (image_from_camera, camera_from_vehicle))
        inverse = CameraRig(("CAM",), *tensors).vehicle_from_image
        return frustum_points(inverse, (180, 340), (9, 17), depths).double().numpy()

    # What the originals do to boxes and to `lidar2img` alike.
    matrix = world.vehicle_matrix()
    moved = rays(*rig) @ matrix[:3, :3].T
    np.testing.assert_allclose(rays(*world.move_rig(*rig)), moved, rtol=1e-4, atol=1e-4)
    if world.scale != 1:
        assert not np.allclose(rays(*world.move_rig(*rig)), moved / world.scale, rtol=1e-2)


@pytest.mark.parametrize("world", WORLDS)
def test_static_objects_stay_static_from_frame_to_frame(world: WorldTransform) -> None:
    """What two frames' poses say of one point agrees before and after."""
    first, second = random_pose(3), random_pose(4)
    points = np.random.default_rng(5).normal(size=(10, 3)) * 20
    second_from_first = np.linalg.inv(second) @ first
    in_second = points @ second_from_first[:3, :3].T + second_from_first[:3, 3]
    change = world.vehicle_matrix()[:3, :3].T
    moved = np.linalg.inv(world.move_pose(second)) @ world.move_pose(first)
    moved_in_second = points @ change @ moved[:3, :3].T + moved[:3, 3]
    np.testing.assert_allclose(moved_in_second, in_second @ change, atol=1e-9)


def test_boxes_by_hand() -> None:
    box = np.array([[10.0, 2, 1, 4, 2, 1.5, 0.1, 5, 1]])
    turned = WorldTransform(rotation_rad=np.pi / 2).move_boxes(box)
    np.testing.assert_allclose(turned, [[-2, 10, 1, 4, 2, 1.5, np.pi / 2 + 0.1, -1, 5]], atol=1e-12)
    scaled = WorldTransform(scale=2.0).move_boxes(box)
    np.testing.assert_allclose(scaled, [[20, 4, 2, 8, 4, 3, 0.1, 10, 2]], atol=1e-12)
    mirrored = WorldTransform(mirror=True).move_boxes(box)
    np.testing.assert_allclose(mirrored, [[10, -2, 1, 4, 2, 1.5, -0.1, 5, -1]], atol=1e-12)
    np.testing.assert_allclose(box[0, :3], [10, 2, 1])


@pytest.mark.parametrize("world", WORLDS)
def test_box_heading_follows_its_points(world: WorldTransform) -> None:
    box = np.array([[10.0, 2, 1, 4, 2, 1.5, 2.9, 0, 0]])
    nose = box[0, :2] + 2 * np.array([np.cos(2.9), np.sin(2.9)])
    moved = world.move_boxes(box)[0]
    moved_nose = moved[:2] + moved[3] / 2 * np.array([np.cos(moved[6]), np.sin(moved[6])])
    np.testing.assert_allclose(moved_nose, world.vehicle_matrix()[:2, :2] @ nose, atol=1e-9)
    assert -np.pi <= moved[6] <= np.pi


def test_draws_cover_their_ranges_and_default_to_nothing() -> None:
    rng = np.random.default_rng(0)
    ranges = Augmentation(rotation_rad=0.39, scale_range=(0.95, 1.05), mirror_probability=0.5)
    drawn = [draw_world_transform(rng, ranges) for _ in range(300)]
    turns = np.array([world.rotation_rad for world in drawn])
    assert np.abs(turns).max() <= 0.39 and turns.min() < -0.35 and turns.max() > 0.35
    assert {world.mirror for world in drawn} == {True, False}
    assert all(0.95 <= world.scale <= 1.05 for world in drawn)
    assert draw_world_transform(rng, Augmentation()) == WorldTransform()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"resize_range": (1.2, 0.9)}, "resize_range"),
        ({"scale_range": (0.0, 1.0)}, "scale_range"),
        ({"flip_probability": 1.5}, "flip_probability"),
        ({"mirror_probability": -0.1}, "mirror_probability"),
    ],
)
def test_impossible_ranges_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(SynclError, match=message):
        Augmentation(**wrong)  # type: ignore[arg-type]
