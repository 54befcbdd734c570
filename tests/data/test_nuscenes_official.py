"""The index and result files against the official devkit, on a synthetic world and on tilted poses.

Needs a python with nuscenes-devkit 1.2.0; its path goes into SYNCL_OFFICIAL_PYTHON.
"""

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncl.classes import DETECTION_CLASSES
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig

# For every annotation of every sample: its boxes in the lidar and camera frames and its velocity.
OFFICIAL_SCRIPT = """
import sys
import numpy as np
from nuscenes.nuscenes import NuScenes
from nuscenes.utils.geometry_utils import BoxVisibility

nusc = NuScenes(version="v1.0-mini", dataroot=sys.argv[1], verbose=False)
rows = {}
for sample in nusc.sample:
    for channel, token in sample["data"].items():
        if channel != "LIDAR_TOP" and not channel.startswith("CAM"):
            continue
        _, boxes, intrinsics = nusc.get_sample_data(token, box_vis_level=BoxVisibility.NONE)
        for order, box in enumerate(boxes):
            heading = box.orientation.rotation_matrix[:, 0]
            rows[f"{sample['token']}/{channel}/{order}"] = [*box.center, *box.wlh, *heading]
        if intrinsics is not None:
            rows[f"{sample['token']}/{channel}/intrinsics"] = intrinsics.ravel()
    for order, token in enumerate(sample["anns"]):
        rows[f"{sample['token']}/velocity/{order}"] = nusc.box_velocity(token)
np.savez(sys.argv[2], **rows)
"""

# The official format checks, which are the loaders' own assertions.
FORMAT_SCRIPT = """
import sys
from nuscenes.eval.common.loaders import load_prediction
from nuscenes.eval.detection.data_classes import DetectionBox
from nuscenes.eval.tracking.data_classes import TrackingBox
from nuscenes.eval.common.config import config_factory

config_factory("tracking_nips_2019")
for path, kind in ((sys.argv[1], TrackingBox), (sys.argv[2], DetectionBox)):
    boxes, meta = load_prediction(path, 500, kind, verbose=False)
    print(len(boxes.sample_tokens), len(boxes.all), meta["use_camera"])
"""


@pytest.fixture(scope="module")
def official_python() -> str:
    python = os.environ.get("SYNCL_OFFICIAL_PYTHON")
    if not python:
        pytest.skip("set SYNCL_OFFICIAL_PYTHON to a python that has nuscenes-devkit 1.2.0")
    return python


def compare(root: Path, official_python: str, scratch: Path) -> None:
    file = scratch / "official.npz"
    subprocess.run([official_python, "-c", OFFICIAL_SCRIPT, str(root), str(file)], check=True)
    official = np.load(file)
    index = open_nuscenes(root, "v1.0-mini", cache=False, vehicle_frame="lidar")
    compared = 0
    for row in range(index.sample_count):
        sample = index.sample(row)
        boxes = sample.annotations.boxes
        for order, box in enumerate(boxes):
            expected = official[f"{sample.token}/LIDAR_TOP/{order}"]
            np.testing.assert_allclose(box[:3], expected[:3], atol=1e-6)
            np.testing.assert_allclose(box[[4, 3, 5]], expected[3:6], atol=1e-12)
            assert np.isclose(np.cos(box[6] - np.arctan2(expected[7], expected[6])), 1, atol=1e-9)
            lidar_velocity = official[f"{sample.token}/velocity/{order}"]
            planar = sample.global_from_vehicle[:2, :2].T @ lidar_velocity[:2]
            np.testing.assert_allclose(box[7:], planar, atol=1e-9)
            compared += 1
        for camera in sample.cameras:
            key = f"{sample.token}/{camera.channel}"
            np.testing.assert_array_equal(camera.intrinsics.ravel(), official[f"{key}/intrinsics"])
            pose = camera.camera_from_vehicle
            centres = boxes[:, :3] @ pose[:3, :3].T + pose[:3, 3]
            expected = np.array([official[f"{key}/{order}"][:3] for order in range(len(boxes))])
            np.testing.assert_allclose(centres, expected.reshape(-1, 3), atol=1e-6)
    assert compared == index.annotation_count > 0


@pytest.mark.slow
def test_synthetic_world(official_python: str, tmp_path: Path) -> None:
    config = WorldConfig(train_scenes=2, val_scenes=1, keyframes=5, width=96, height=32, seed=3)
    generate_world(tmp_path / "world", config)
    compare(tmp_path / "world", official_python, tmp_path)


@pytest.mark.slow
def test_tilted_poses_and_sensors(official_python: str, tiny: Any, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for table in ("ego_pose", "calibrated_sensor", "sample_annotation"):
        for record in tiny.tables[table]:
            record["rotation"] = rng.normal(size=4).tolist()
            record["translation"] = (np.array(record["translation"]) + rng.normal(size=3)).tolist()
    root = tiny.write(tmp_path / "tiny", images=False)
    # The devkit insists on a map picture and on sensors of every type.
    import cv2

    (root / "maps").mkdir()
    cv2.imwrite(str(root / "maps" / "none.png"), np.zeros((4, 4), np.uint8))
    for record in tiny.tables["map"]:
        record["filename"] = "maps/none.png"
    tiny.write(tmp_path / "tiny", images=False)
    compare(root, official_python, tmp_path)


@pytest.mark.slow
def test_result_files_pass_the_official_checks(official_python: str, tiny: Any, tmp_path: Path) -> None:
    index = open_nuscenes(tiny.write(tmp_path / "tiny", images=False), "v1.0-mini")
    samples = [index.sample(row) for row in range(index.sample_count)]
    tokens = [sample.token for sample in samples]
    tracking = TrackingSubmission(tokens, forecast_step_s=0.5)
    detection = DetectionSubmission(tokens)
    count = 0
    for sample in samples:
        rows = np.flatnonzero(sample.annotations.labels >= 0)
        boxes, scores = sample.annotations.boxes[rows], np.linspace(0.1, 0.9, len(rows))
        names = [DETECTION_CLASSES[label] for label in sample.annotations.labels[rows]]
        pose = sample.global_from_vehicle
        identities = tuple(map(str, sample.annotations.identities[rows]))
        objects = FrameObjects(boxes, tuple(names), scores, identities)
        tracking.add(sample.token, replace(objects, forecasts=np.zeros((len(rows), 8, 2))), pose)
        detection.add(sample.token, objects, pose)
        count += len(rows)
    paths = [tmp_path / "tracking.json", tmp_path / "detection.json"]
    tracking.save(paths[0])
    detection.save(paths[1])
    arguments = [official_python, "-c", FORMAT_SCRIPT, *map(str, paths)]
    printed = subprocess.run(arguments, check=True, capture_output=True, text=True).stdout
    assert printed.splitlines() == [f"7 {count} True"] * 2
