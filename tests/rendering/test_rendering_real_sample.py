"""Our overlays on a real nuScenes frame, against outlines of objects read off the images by hand."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from syncl.rendering import FrameObjects, RenderFrame, draw_frame
from syncl.rendering.wireframe import EDGES, clip_segments, corners_of, to_homogeneous

# camera, class, (left, top, right, bottom) pixels of 1600 x 900
READ_BY_HAND = [
    ("CAM_FRONT", "car", (719, 464, 786, 530)),
    ("CAM_FRONT", "car", (897, 478, 955, 526)),
    ("CAM_BACK", "pedestrian", (1052, 471, 1090, 588)),
    ("CAM_BACK", "pedestrian", (924, 495, 976, 592)),
]


@pytest.fixture(scope="module")
def sample(nuscenes_sample: Path):
    content = json.loads(nuscenes_sample.read_text())
    # nuScenes' lidar frame has x to the right; a quarter turn makes it a vehicle frame.
    lidar_from_vehicle = np.eye(4)
    lidar_from_vehicle[:2, :2] = [[0, -1], [1, 0]]
    turn = lidar_from_vehicle[:3, :3]
    boxes = np.array(
        [
            [
                *(turn.T @ box["center_lidar_m"]),
                *box["size_lwh_m"],
                box["yaw_rad"] - np.pi / 2,
                *(turn[:2, :2].T @ box["velocity_mps"]),
            ]
            for box in content["boxes"]
        ]
    )
    seen = np.array([box["lidar_points"] > 0 for box in content["boxes"]])
    names = tuple(box["class"] for box in content["boxes"])
    numbers = tuple(str(number) for number in range(len(names)))
    projections = []
    for camera in content["cameras"].values():
        intrinsics = np.eye(4)
        intrinsics[:3, :3] = camera["intrinsics"]
        projections.append(intrinsics @ camera["camera_from_lidar"] @ lidar_from_vehicle)
    return RenderFrame(
        images=tuple(
            cv2.cvtColor(cv2.imread(str(nuscenes_sample.parent / camera["image"])), cv2.COLOR_BGR2RGB)
            for camera in content["cameras"].values()
        ),
        cameras=tuple(content["cameras"]),
        image_from_vehicle=np.stack(projections),
        global_from_vehicle=np.array(content["global_from_ego"]),
        timestamp_s=content["timestamp_s"],
        objects=FrameObjects(boxes, names, np.ones(len(names)), numbers).select(seen),
    )


@pytest.mark.parametrize(("camera", "label", "outline"), READ_BY_HAND)
def test_boxes_sit_on_real_objects(sample, camera, label, outline):
    projection = sample.image_from_vehicle[sample.cameras.index(camera)]
    edges, visible = clip_segments(
        to_homogeneous(projection, corners_of(sample.objects.boxes))[:, EDGES], (900, 1600)
    )
    left, top, right, bottom = outline
    candidates = []
    for row in np.flatnonzero(visible.all(axis=1)):
        low, high = edges[row].min(axis=(0, 1)), edges[row].max(axis=(0, 1))
        offset = (low + high - [left + right, top + bottom]) / 2
        if sample.objects.classes[row] == label:
            candidates.append((np.hypot(*offset), (high[1] - low[1]) / (bottom - top)))
    distance, height_ratio = min(candidates)
    # Boxes enclose their objects with some air, limbs included.
    assert distance < 9
    assert 0.9 < height_ratio < 1.3


def test_real_frame_is_drawn(sample):
    picture, _ = draw_frame(sample)
    assert picture.shape[1] == 1280 and picture.std() > 40
