"""A real nuScenes key frame, put into tables and read back: geometry as the dataset's own tools gave it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
import torch

from syncl.data.images import image_size
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions
from syncl.data.nuscenes.clips.dataset import ClipDataset
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.geometry.poses import quaternion_from_rotation, quaternion_from_yaw, rotation_from_quaternion
from syncl.geometry.projection import project_points

CATEGORY_OF_CLASS = {
    "car": "vehicle.car",
    "truck": "vehicle.truck",
    "bus": "vehicle.bus.rigid",
    "trailer": "vehicle.trailer",
    "construction_vehicle": "vehicle.construction",
    "pedestrian": "human.pedestrian.adult",
    "motorcycle": "vehicle.motorcycle",
    "bicycle": "vehicle.bicycle",
    "barrier": "movable_object.barrier",
    "traffic_cone": "movable_object.trafficcone",
}


@pytest.fixture(scope="module")
def real(nuscenes_sample: Path) -> dict[str, Any]:
    # Unknown velocities are NaN there, which is not JSON to orjson.
    content: dict[str, Any] = json.loads(nuscenes_sample.read_bytes())
    for camera in content["cameras"].values():
        camera["image"] = str(nuscenes_sample.parent.resolve() / camera["image"])
    return content


@pytest.fixture(scope="module")
def index(real: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> NuScenesIndex:
    """The sample as a nuScenes dataset of one key frame, in the lidar frame as the sample's numbers are."""
    root = tmp_path_factory.mktemp("real")
    for name, table in tables_of(real).items():
        path = root / "v1.0-mini" / f"{name}.json"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(orjson.dumps(table))
    return open_nuscenes(root, "v1.0-mini", vehicle_frame="lidar")


def pose(token: str, matrix: np.ndarray) -> dict[str, Any]:
    quaternion = quaternion_from_rotation(matrix[:3, :3])
    return {"token": token, "translation": matrix[:3, 3].tolist(), "rotation": quaternion.tolist()}


def tables_of(real: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    global_from_ego, ego_from_lidar = np.array(real["global_from_ego"]), np.array(real["ego_from_lidar"])
    global_from_lidar = global_from_ego @ ego_from_lidar
    time_us = round(real["timestamp_s"] * 1e6)
    sensors = [{"token": "LIDAR_TOP", "channel": "LIDAR_TOP", "modality": "lidar"}]
    calibrations = [pose("LIDAR_TOP", ego_from_lidar) | {"sensor_token": "LIDAR_TOP", "camera_intrinsic": []}]
    poses = [pose("LIDAR_TOP", global_from_ego)]
    images = [("LIDAR_TOP", "samples/none.bin", 0, 0, time_us)]
    for name, camera in real["cameras"].items():
        ego_from_camera = np.array(camera["ego_from_camera"])
        global_from_camera = global_from_lidar @ np.linalg.inv(camera["camera_from_lidar"])
        sensors.append({"token": name, "channel": name, "modality": "camera"})
        calibrations.append(
            pose(name, ego_from_camera) | {"sensor_token": name, "camera_intrinsic": camera["intrinsics"]}
        )
        poses.append(pose(name, global_from_camera @ np.linalg.inv(ego_from_camera)))
        images.append(
            (name, camera["image"], camera["width"], camera["height"], round(camera["timestamp_s"] * 1e6))
        )
    annotations = []
    for number, box in enumerate(real["boxes"]):
        length, width, height = box["size_lwh_m"]
        heading = rotation_from_quaternion(quaternion_from_yaw(box["yaw_rad"]))
        placed = np.eye(4)
        placed[:3, :3], placed[:3, 3] = heading, box["center_lidar_m"]
        annotations.append(
            pose(f"a{number}", global_from_lidar @ placed)
            | {
                "sample_token": real["token"], "instance_token": f"i{number}", "visibility_token": "",
                "attribute_tokens": [], "size": [width, length, height], "prev": "", "next": "",
                "num_lidar_pts": box["lidar_points"], "num_radar_pts": box["radar_points"],
            }
        )  # fmt: skip
    classes = [box["class"] for box in real["boxes"]]
    return {
        "scene": [{"token": "scene", "name": "scene-0061"}],
        "sample": [{"token": real["token"], "timestamp": time_us, "scene_token": "scene"}],
        "sensor": sensors,
        "calibrated_sensor": calibrations,
        "ego_pose": poses,
        "sample_data": [
            {
                "token": name, "sample_token": real["token"], "ego_pose_token": name,
                "calibrated_sensor_token": name, "timestamp": time, "filename": file,
                "width": width, "height": height, "is_key_frame": True,
            }
            for name, file, width, height, time in images
        ],
        "category": [
            {"token": name, "name": CATEGORY_OF_CLASS.get(name, f"other.{name}")}
            for name in sorted(set(classes))
        ],
        "attribute": [],
        "visibility": [],
        "instance": [{"token": f"i{n}", "category_token": name} for n, name in enumerate(classes)],
        "sample_annotation": annotations,
    }  # fmt: skip


def test_calibration_and_boxes_are_the_datasets_own(real: dict[str, Any], index: NuScenesIndex) -> None:
    sample = index.sample(0)
    assert tuple(camera.channel for camera in sample.cameras) == (
        "CAM_FRONT",
        "CAM_FRONT_RIGHT",
        "CAM_FRONT_LEFT",
        "CAM_BACK",
        "CAM_BACK_LEFT",
        "CAM_BACK_RIGHT",
    )
    for camera in sample.cameras:
        expected = np.array(real["cameras"][camera.channel]["camera_from_lidar"])
        # The file's matrices are orthonormal to single precision only.
        np.testing.assert_allclose(camera.camera_from_vehicle, expected, atol=2e-4)
        assert image_size(camera.path) == (camera.height, camera.width) == (900, 1600)
    boxes = sample.annotations.boxes
    np.testing.assert_allclose(boxes[:, :3], [box["center_lidar_m"] for box in real["boxes"]], atol=1e-3)
    np.testing.assert_allclose(boxes[:, 3:6], [box["size_lwh_m"] for box in real["boxes"]])
    turn = boxes[:, 6] - [box["yaw_rad"] for box in real["boxes"]]
    np.testing.assert_allclose(np.arctan2(np.sin(turn), np.cos(turn)), 0, atol=1e-5)


def test_projection_is_the_same_in_both_vehicle_frames(index: NuScenesIndex) -> None:
    pixels = []
    for frame in ("lidar", "ego"):
        sample = index.with_vehicle_frame(frame).sample(0)
        projections = []
        for camera in sample.cameras:
            matrix = np.eye(4)
            matrix[:3, :3] = camera.intrinsics
            projections.append(matrix @ camera.camera_from_vehicle)
        centres = torch.from_numpy(sample.annotations.boxes[:, :3])
        uv, depth = project_points(torch.from_numpy(np.stack(projections)), centres)
        pixels.append(torch.where(depth[..., None] > 1, uv, torch.zeros_like(uv)))
    torch.testing.assert_close(pixels[0], pixels[1], rtol=1e-9, atol=1e-6)


@pytest.mark.parametrize("resize", ["exact", "fast"])
def test_published_input_size(index: NuScenesIndex, resize: Any) -> None:
    dataset = ClipDataset(
        index,
        index.scene_names,
        clip_length=1,
        images=ImageOptions((320, 800), resize=resize),
        annotations=AnnotationOptions(point_range=(-51.2, -51.2, -5, 51.2, 51.2, 3)),
    )
    frame, annotations = dataset[0].frames[0], dataset[0].annotations[0]
    assert frame.images.shape == (1, 6, 3, 320, 800)
    # Real pictures: something to see in every camera, not a single colour.
    assert (frame.images.float().std(dim=(-1, -2)) > 20).all()
    assert annotations.valid.sum() > 30
    full = index.sample(0).cameras[0].intrinsics
    half = frame.rig.image_from_camera[0, 0].numpy()
    np.testing.assert_allclose(half[:2, 2], full[:2, 2] / 2 - [0, 130])
    pixels, depth = project_points(frame.rig.image_from_vehicle, annotations.boxes[..., :3].double())
    inside = (depth > 1) & (pixels >= 0).all(-1) & (pixels < torch.tensor([800, 320])).all(-1)
    # Every annotated object within range is seen by at least one camera of the ring, most by one or two.
    assert inside.any(dim=1).float().mean() > 0.9
    assert inside.sum(dim=1).max() <= 2
