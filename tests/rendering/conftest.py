"""A six-camera rig with round numbers, and frames of it, for the rendering tests."""

import importlib.util
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from syncl.rendering import FrameObjects, RenderFrame

YAWS_DEG = {
    "CAM_FRONT": 0,
    "CAM_FRONT_RIGHT": -55,
    "CAM_FRONT_LEFT": 55,
    "CAM_BACK": 180,
    "CAM_BACK_LEFT": 110,
    "CAM_BACK_RIGHT": -110,
}


def projection(yaw_deg: float, focal: float, width: int, height: int, camera_height_m: float = 1.5):
    """image_from_vehicle of a level camera above the origin that looks along `yaw_deg`."""
    yaw = np.radians(yaw_deg)
    forward, right = [np.cos(yaw), np.sin(yaw), 0], [np.sin(yaw), -np.cos(yaw), 0]
    camera_from_vehicle = np.eye(4)
    camera_from_vehicle[:3, :3] = [right, [0, 0, -1], forward]
    camera_from_vehicle[:3, 3] = -camera_from_vehicle[:3, :3] @ [0, 0, camera_height_m]
    intrinsics = np.array([[focal, 0, width / 2, 0], [0, focal, height / 2, 0], [0, 0, 1, 0], [0, 0, 0, 1]])
    return intrinsics @ camera_from_vehicle


def objects(*rows, identities=None, labels=None, scores=None):
    """Boxes of nine numbers each; identities count from 1, all are cars."""
    count = len(rows)
    return FrameObjects(
        np.array(rows, float).reshape(count, 9),
        tuple(labels or ["car"] * count),
        np.array(scores if scores is not None else [0.9] * count),
        tuple(identities or [str(row + 1) for row in range(count)]),
    )


def frame(tracks=None, truth=None, number=1, ego_x=0.0, ego_yaw=0.0, scene="scene-0001", cameras=YAWS_DEG):
    """A frame of grey images, 352 x 128."""
    width, height = 352, 128
    image = np.full((height, width, 3), 90, np.uint8)
    global_from_vehicle = np.eye(4)
    global_from_vehicle[:2, :2] = [
        [np.cos(ego_yaw), -np.sin(ego_yaw)],
        [np.sin(ego_yaw), np.cos(ego_yaw)],
    ]
    global_from_vehicle[:3, 3] = [ego_x + 100, 50, 0.3]
    return RenderFrame(
        images=(image,) * len(cameras),
        cameras=tuple(cameras),
        image_from_vehicle=np.stack([projection(yaw, 200, width, height) for yaw in cameras.values()]),
        global_from_vehicle=global_from_vehicle,
        timestamp_s=1000 + 0.5 * number,
        objects=tracks if tracks is not None else FrameObjects.empty(),
        ground_truth=truth,
        scene=scene,
        number=number,
        total=10,
        elapsed_s=0.5 * number,
    )


@pytest.fixture(scope="session")
def rig():
    """The helpers of this file."""
    return SimpleNamespace(projection=projection, objects=objects, frame=frame, yaws_deg=YAWS_DEG)


@pytest.fixture
def tiny_nuscenes(tmp_path):
    """Root of the hand-written dataset of tests/data: 2 scenes, 160 x 90 images, no results."""
    path = Path(__file__).parents[1] / "data" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_nuscenes_tables", path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.make_tiny().write(tmp_path / "tiny")
