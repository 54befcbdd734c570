"""A world in Argoverse 2's layout, opened by the official package: images, poses and boxes agree to 1e-6.

Needs a python with av2 0.3.6 (pip install av2 trackeval); its path goes into SYNCL_AV2_PYTHON.
"""

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest

from syncl.data import images
from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.nuscenes.results.submission import TrackingSubmission
from syncl.data.own_results import own_layout
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig
from syncl.geometry.poses import invert_pose, rotation_from_quaternion

TOLERANCE = 1e-6

# What the package says of every sweep: pose, boxes, and each ring camera's image, time, pose and calibration.
OFFICIAL_SCRIPT = """
import sys
from pathlib import Path
import numpy as np
from av2.datasets.sensor.sensor_dataloader import SensorDataloader

rows = {}
loader = SensorDataloader(Path(sys.argv[1]), with_annotations=True, with_cache=False)
for number in range(len(loader)):
    datum = loader[number]
    token = f"{datum.log_id}/{datum.timestamp_ns}"
    poses = datum.timestamp_city_SE3_ego_dict
    rows[f"{token}/pose"] = poses[datum.timestamp_ns].transform_matrix
    rows[f"{token}/categories"] = np.array(datum.annotations.categories)
    for field in ("xyz_center_m", "dims_lwh_m", "vertices_m"):
        rows[f"{token}/{field}"] = getattr(datum.annotations, field)
    for name, image in datum.synchronized_imagery.items():
        camera = image.camera_model
        rows[f"{token}/{name}/time"] = np.array(image.timestamp_ns)
        rows[f"{token}/{name}/image"] = image.img[:, :, ::-1]
        rows[f"{token}/{name}/K"] = camera.intrinsics.K
        rows[f"{token}/{name}/size"] = np.array([camera.width_px, camera.height_px])
        rows[f"{token}/{name}/camera_from_ego"] = camera.extrinsics
        rows[f"{token}/{name}/pose"] = poses[image.timestamp_ns].transform_matrix
np.savez(sys.argv[2], **rows)
"""


@pytest.fixture(scope="module")
def python() -> str:
    path = os.environ.get("SYNCL_AV2_PYTHON")
    if not path:
        pytest.skip("SYNCL_AV2_PYTHON names no python with av2")
    return path


def our_rows(index: NuScenesIndex) -> dict[str, np.ndarray]:
    rows = {}
    for row in range(index.sample_count):
        sample, columns = index.sample(row), index.columns
        boxes = columns.annotation_boxes[columns.annotation_start[row] : columns.annotation_start[row + 1]]
        ego_from_city = invert_pose(sample.global_from_ego)
        rotation = ego_from_city[:3, :3] @ rotation_from_quaternion(boxes[:, 6:])
        signs = np.array([[+1, +1, +1], [+1, -1, +1], [+1, -1, -1], [+1, +1, -1]])
        corners = np.concatenate([signs, signs * [-1, 1, 1]]) * boxes[:, None, 3:6] / 2
        token = sample.token
        rows[f"{token}/pose"] = sample.global_from_ego
        rows[f"{token}/xyz_center_m"] = sample.annotations.boxes[:, :3]
        rows[f"{token}/dims_lwh_m"] = sample.annotations.boxes[:, 3:6]
        centres = sample.annotations.boxes[:, None, :3]
        rows[f"{token}/vertices_m"] = corners @ rotation.swapaxes(1, 2) + centres
        names = [index.dataset.classes[label] for label in sample.annotations.labels]
        rows[f"{token}/categories"] = np.array(names)
        for camera in sample.cameras:
            name = f"{token}/{camera.channel}"
            time_ns = int(camera.path.stem)
            rows[f"{name}/time"] = np.array(time_ns)
            size = (camera.height, camera.width)
            rows[f"{name}/image"] = images.load_image(camera.path, images.test_transform(size, size))
            rows[f"{name}/K"] = camera.intrinsics
            rows[f"{name}/size"] = np.array([camera.width, camera.height])
            rows[f"{name}/camera_from_sweep_ego"] = camera.camera_from_vehicle
    return rows


@pytest.mark.slow
def test_the_official_package_reads_what_we_write_and_read(tmp_path: Path, python: str) -> None:
    root = tmp_path / "world"
    generate_world(root, WorldConfig(2, 1, keyframes=4, width=96, layout="argoverse2"))
    official_file = tmp_path / "official.npz"
    # It keeps caches below the home folder, and reads those of other data without a word.
    environment = {**os.environ, "HOME": str(tmp_path)}
    command = [python, "-c", OFFICIAL_SCRIPT, str(root), str(official_file)]
    subprocess.run(command, check=True, env=environment, timeout=600)
    ours = our_rows(open_nuscenes(root, "v1.0-mini", cache=False))
    with np.load(official_file) as official:
        sweeps = [name.removesuffix("/categories") for name in official if name.endswith("/categories")]
        images = [name.removesuffix("/image") for name in official if name.endswith("/image")]
        assert len(sweeps) == 12 and len(images) == 12 * 7
        assert {name.removesuffix("/image") for name in ours if name.endswith("/image")} == set(images)
        for sweep in sweeps:
            assert official[f"{sweep}/categories"].tolist() == ours[f"{sweep}/categories"].tolist()
            for what in ("pose", "xyz_center_m", "dims_lwh_m", "vertices_m"):
                name = f"{sweep}/{what}"
                np.testing.assert_allclose(ours[name], official[name], rtol=0, atol=TOLERANCE, err_msg=name)
        for image in images:
            for what in ("time", "image", "size"):
                np.testing.assert_array_equal(ours[f"{image}/{what}"], official[f"{image}/{what}"])
            np.testing.assert_allclose(ours[f"{image}/K"], official[f"{image}/K"], rtol=0, atol=TOLERANCE)
            sweep_pose = official[f"{image.rpartition('/')[0]}/pose"]
            moved = np.linalg.inv(official[f"{image}/pose"]) @ sweep_pose
            expected = official[f"{image}/camera_from_ego"] @ moved
            found = ours[f"{image}/camera_from_sweep_ego"]
            np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.slow
def test_perfect_results_are_perfect_by_the_official_scores(tmp_path: Path, python: str) -> None:
    root, results, scores = tmp_path / "world", tmp_path / "results.feather", tmp_path / "scores.json"
    generate_world(root, WorldConfig(0, 1, keyframes=5, width=64, layout="argoverse2"))
    index = open_nuscenes(root, "v1.0-mini", cache=False)
    submission = TrackingSubmission(
        [index.sample_token(row) for row in range(index.sample_count)], dataset=index.dataset
    )
    for row in range(index.sample_count):
        sample = index.sample(row)
        known, seen = sample.annotations, sample.annotations.num_lidar_pts > 0
        names = tuple(index.dataset.classes[label] for label in known.labels[seen])
        identities = tuple(f"track {number}" for number in known.identities[seen])
        objects = FrameObjects(known.boxes[seen], names, np.ones(len(names)), identities)
        submission.add(sample.token, objects, sample.global_from_vehicle)
    layout = own_layout(root, results)
    assert layout is not None
    layout.write(index, submission.written, results, False)
    script = Path(__file__).parents[2] / "tools/reliability/av2_scores.py"
    command = [python, str(script), str(results), str(root / "val"), "--output", str(scores)]
    subprocess.run(command, check=True, env={**os.environ, "HOME": str(tmp_path)}, timeout=600)
    found = json.loads(scores.read_text())
    present = {index.dataset.classes[label] for label in index.columns.annotation_labels}
    scored = [name for name in present if found["detection"][name]["AP"] > 0]
    assert len(scored) >= 5
    for name in scored:
        assert found["detection"][name] == {"AP": 1, "ATE": 0, "ASE": 0, "AOE": 0, "CDS": 1}
    for metric in ("HOTA", "MOTA"):
        best = found["tracking"][metric]["best"]
        assert set(best) >= set(scored) and all(value == pytest.approx(1) for value in best.values())
