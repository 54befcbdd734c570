"""The index against the hand-written tables: every number here can be checked with pen and paper."""

import json
import os
import shutil
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncl.classes import DETECTION_CLASSES
from syncl.data import json_stream
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.nuscenes.samples import Sample
from syncl.data.nuscenes.tables.cache import cache_path, fingerprint
from syncl.errors import SynclError

CAMERAS = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_FRONT_LEFT", "CAM_BACK", "CAM_BACK_LEFT", "CAM_BACK_RIGHT")
CAR, TRUCK, WALKER, STROLLER = range(4)


@pytest.fixture
def index(tiny_root: Path) -> NuScenesIndex:
    return open_nuscenes(tiny_root, "v1.0-mini", cache=False)


@pytest.fixture
def second(index: NuScenesIndex) -> Sample:
    """Half a second into the first scene; the ego vehicle is at (100, 202) and faces global +y."""
    return index.sample(1)


def test_scenes_and_samples(index: NuScenesIndex) -> None:
    assert index.scene_names == ("scene-0061", "scene-0103")
    assert index.scene_samples("scene-0061") == range(4)
    assert index.scene_samples("scene-0103") == range(4, 7)
    assert [index.sample_token(row) for row in index.scene_samples("scene-0103")] == [
        "scene-0103_t0",
        "scene-0103_t1",
        "scene-0103_t2",
    ]
    assert index.camera_names == CAMERAS
    assert (index.sample_count, index.annotation_count) == (7, 4 * 3 + 1 + 3 * 3 + 1)


def test_splits_keep_only_scenes_that_exist(index: NuScenesIndex) -> None:
    assert index.split_scenes("mini_train") == ("scene-0061",)
    assert index.split_scenes("mini_val") == ("scene-0103",)


def test_sample_identity_pose_and_time(second: Sample) -> None:
    assert (second.token, second.scene_name) == (
        "scene-0061_t1",
        "scene-0061",
    )
    assert second.timestamp_us == 1_000_500_000
    expected = [[0, -1, 0, 100], [1, 0, 0, 202], [0, 0, 1, 0], [0, 0, 0, 1]]
    np.testing.assert_allclose(second.global_from_vehicle, expected, atol=1e-12)
    np.testing.assert_array_equal(second.global_from_ego, second.global_from_vehicle)


def test_boxes_in_the_vehicle_frame(second: Sample) -> None:
    annotations = second.annotations
    assert annotations.tokens[CAR] == "ann_scene-0061_car_1"
    # The car is at (100, 215) and drives along global +y as we do; sizes turn from wlh into lwh.
    np.testing.assert_allclose(
        annotations.boxes[CAR], [13, 0, 0.8, 4.6, 1.9, 1.6, 0, 10, 0], rtol=0, atol=1e-9
    )
    # The truck faces global -x, which is to our left.
    np.testing.assert_allclose(
        annotations.boxes[TRUCK], [-2, 8, 1.5, 7.0, 2.5, 3.0, np.pi / 2, 0, 0], rtol=0, atol=1e-9
    )
    assert [DETECTION_CLASSES[label] for label in annotations.labels[:3]] == ["car", "truck", "pedestrian"]
    assert annotations.labels[STROLLER] == -1
    assert annotations.identities.tolist() == [0, 1, 2, 3]
    assert annotations.visibility.tolist() == [4, 1, 0, 0]
    assert annotations.num_lidar_pts.tolist() == [12, 12, 12, 12]


def test_identities_last_through_a_scene_and_differ_between_scenes(index: NuScenesIndex) -> None:
    first, third, other = (index.sample(row).annotations for row in (0, 2, 4))
    assert first.identities.tolist() == [0, 1, 3] == third.identities.tolist()
    assert not set(first.identities) & set(other.identities)


def test_velocity_is_unknown_for_an_object_seen_once(second: Sample) -> None:
    assert np.isnan(second.annotations.boxes[WALKER, 7:]).all()


def test_velocity_is_one_sided_at_the_ends_and_unknown_over_long_gaps(tiny: Any, tmp_path: Path) -> None:
    # Accelerate: the last annotation of the car jumps ahead by 3 m more.
    last = next(a for a in tiny.tables["sample_annotation"] if a["token"] == "ann_scene-0061_car_3")
    last["translation"][1] += 3.0
    # Scene 2: stretch the gaps to 1.4 s and 1.6 s; 3.0 s centred is still allowed, 1.6 s one-sided not.
    times = {"scene-0103_t0": 0, "scene-0103_t1": 1_400_000, "scene-0103_t2": 3_000_000}
    for sample in tiny.tables["sample"]:
        if sample["token"] in times:
            sample["timestamp"] = 2_000_000_000 + times[sample["token"]]
    index = open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini")

    def speed(row: int) -> float:
        return float(np.hypot(*index.sample(row).annotations.boxes[CAR, 7:]))

    assert speed(0) == pytest.approx(10.0)
    assert speed(2) == pytest.approx((10.0 + 3.0) / 1.0)
    assert speed(3) == pytest.approx((5.0 + 3.0) / 0.5)
    assert speed(4) == pytest.approx(5.0 / 1.4)
    assert speed(5) == pytest.approx(10.0 / 3.0)
    assert np.isnan(speed(6))


def test_future_centres_are_seen_from_the_present_sample(index: NuScenesIndex) -> None:
    # Car, truck, walker and stroller in the second of four samples.
    future = index.future_centres(1, 3)
    assert future.centres.shape == (4, 4, 3)
    assert future.valid.tolist() == [
        [True, True, True, False],
        [True, True, True, False],
        [True, False, False, False],
        [True, True, True, False],
    ]
    sample = index.sample(1)
    np.testing.assert_allclose(future.centres[:, 0], sample.annotations.boxes[:, :3], atol=1e-9)
    # The car drives ahead at 10 m/s, 5 m a key frame; the truck stands; the vehicle's own motion is left out.
    np.testing.assert_allclose(np.diff(future.centres[0, :3], axis=0), [[5, 0, 0], [5, 0, 0]], atol=1e-6)
    np.testing.assert_allclose(np.diff(future.centres[1, :3], axis=0), 0, atol=1e-6)
    assert not future.centres[~future.valid].any()


def test_future_centres_end_at_a_gap(tiny: Any, tmp_path: Path) -> None:
    token = tiny.tables["scene"][0]["token"]
    last = [sample for sample in tiny.tables["sample"] if sample["scene_token"] == token][-1]
    whole = open_nuscenes(tiny.write(tmp_path / "whole", images=False), "v1.0-mini").future_centres(0, 3)
    last["timestamp"] += 300_000  # 0.8 s instead of 0.5
    gap = open_nuscenes(tiny.write(tmp_path / "gap", images=False), "v1.0-mini").future_centres(0, 3)
    assert whole.valid[:, 3].any() and not gap.valid[:, 3].any()
    np.testing.assert_array_equal(gap.valid[:, :3], whole.valid[:, :3])
    np.testing.assert_array_equal(gap.centres[:, :3], whole.centres[:, :3])


def test_future_centres_end_with_the_scene_and_follow_the_vehicle_frame(index: NuScenesIndex) -> None:
    last = index.scene_samples("scene-0061").stop - 1
    assert index.future_centres(last, 2).valid.tolist() == [[True, False, False]] * 3
    other = index.with_vehicle_frame("lidar")
    ego, lidar = index.future_centres(0, 2), other.future_centres(0, 2)
    np.testing.assert_array_equal(ego.valid, lidar.valid)
    forth, back = other.sample(0).global_from_vehicle, index.sample(0).global_from_vehicle
    moved = np.linalg.inv(forth) @ back
    expected = ego.centres @ moved[:3, :3].T + moved[:3, 3]
    np.testing.assert_allclose(lidar.centres[ego.valid], expected[ego.valid], atol=1e-6)


def test_cameras_include_the_motion_between_image_and_lidar(second: Sample) -> None:
    assert tuple(camera.channel for camera in second.cameras) == CAMERAS
    front = second.cameras[0]
    assert (front.width, front.height) == (160, 90)
    assert front.path.name == "scene-0061_t1.jpg" and front.path.parent.name == "CAM_FRONT"
    assert second.timestamp_us - front.timestamp_us == 10_000
    # The image is 10 ms older: at 4 m/s the camera was 0.04 m farther back than 1.5 m.
    expected = [[0, -1, 0, 0], [0, 0, -1, 1.6], [1, 0, 0, -1.46], [0, 0, 0, 1]]
    np.testing.assert_allclose(front.camera_from_vehicle, expected, atol=1e-9)
    np.testing.assert_array_equal(front.intrinsics, [[130, 0, 80], [0, 130, 45], [0, 0, 1]])


def test_lidar_vehicle_frame_moves_everything_consistently(index: NuScenesIndex) -> None:
    ego, lidar = index.sample(1), index.with_vehicle_frame("lidar").sample(1)
    # The lidar sits 1 m ahead and 1.8 m up, its x axis to the right: the car is 12 m along its y axis.
    np.testing.assert_allclose(
        lidar.annotations.boxes[CAR], [0, 12, -1, 4.6, 1.9, 1.6, np.pi / 2, 0, 10], atol=1e-9
    )
    np.testing.assert_array_equal(lidar.global_from_ego, ego.global_from_vehicle)
    for a, b in zip(ego.cameras, lidar.cameras):
        point = np.array([7.0, 3, 1, 1])
        through_ego = a.camera_from_vehicle @ np.linalg.inv(ego.global_from_vehicle) @ point
        through_lidar = b.camera_from_vehicle @ np.linalg.inv(lidar.global_from_vehicle) @ point
        np.testing.assert_allclose(through_ego, through_lidar, atol=1e-9)


def without_lidar(tiny: Any) -> None:
    tiny.tables["sample_data"] = [r for r in tiny.tables["sample_data"] if "LIDAR" not in r["token"]]


def test_works_without_lidar_in_the_ego_frame_of_the_front_camera(tiny: Any, tmp_path: Path) -> None:
    without_lidar(tiny)
    index = open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini")
    np.testing.assert_allclose(index.sample(1).global_from_vehicle[:3, 3], [100, 201.96, 0], atol=1e-9)
    with pytest.raises(SynclError, match=r"scene-0061_t0.*no LIDAR_TOP.*7 such samples"):
        index.with_vehicle_frame("lidar")


def test_any_cameras_in_published_order_then_by_name(tiny: Any, tmp_path: Path) -> None:
    for sensor in tiny.tables["sensor"]:
        sensor["channel"] = {"CAM_BACK_LEFT": "ZOOM", "CAM_FRONT_LEFT": "FISHEYE"}.get(
            sensor["channel"], sensor["channel"]
        )
    tiny.tables["sample_data"] = [
        r for r in tiny.tables["sample_data"] if r["token"] != "data_scene-0061_t1_CAM_BACK"
    ]
    index = open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini")
    expected = ("CAM_FRONT", "CAM_FRONT_RIGHT", "CAM_BACK", "CAM_BACK_RIGHT", "FISHEYE", "ZOOM")
    assert tuple(camera.channel for camera in index.sample(0).cameras) == expected
    missing_back = tuple(camera.channel for camera in index.sample(1).cameras)
    assert missing_back == tuple(name for name in expected if name != "CAM_BACK")


def test_test_version_without_annotations(tiny: Any, tmp_path: Path) -> None:
    for table in ("sample_annotation", "instance"):
        tiny.tables[table] = []
    del tiny.tables["visibility"]
    index = open_nuscenes(tiny.write(tmp_path, "v1.0-test", images=False), "v1.0-test")
    sample = index.sample(3)
    assert len(sample.cameras) == 6
    assert sample.annotations.boxes.shape == (0, 9)
    assert index.annotation_count == 0


def test_samples_are_in_time_order_whatever_the_table_order(tiny: Any, tmp_path: Path) -> None:
    for table in ("sample", "sample_data", "sample_annotation", "ego_pose"):
        tiny.tables[table].reverse()
    index = open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini")
    assert [index.sample_token(row) for row in index.scene_samples("scene-0061")] == [
        f"scene-0061_t{k}" for k in range(4)
    ]
    # Annotations keep the order of their table within a sample, as the official evaluation does.
    assert index.sample(1).annotations.tokens[0] == "ann_scene-0061_stroller_1"


class TestCache:
    def test_same_content_and_no_second_reading(
        self, tiny_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        root = shutil.copytree(tiny_root, tmp_path / "data")
        built = open_nuscenes(root, "v1.0-mini")
        for part in ("scene", "camera"):
            builder = f"syncl.data.nuscenes.index.build_{part}_columns"
            monkeypatch.setattr(builder, lambda *_: pytest.fail("rebuilt"))
        cached = open_nuscenes(root, "v1.0-mini")
        for name, column in vars(built.columns).items():
            np.testing.assert_array_equal(getattr(cached.columns, name), column, err_msg=name)

    def test_rebuilt_when_a_table_changes(self, tiny: Any, tmp_path: Path) -> None:
        root = tiny.write(tmp_path, images=False)
        open_nuscenes(root, "v1.0-mini")
        tiny.tables["sample_annotation"][0]["num_lidar_pts"] = 777
        tiny.write(tmp_path, images=False)
        assert 777 in open_nuscenes(root, "v1.0-mini").columns.annotation_points

    def test_damaged_cache_is_reported_and_rebuilt(self, tiny: Any, tmp_path: Path) -> None:
        root = tiny.write(tmp_path, images=False)
        open_nuscenes(root, "v1.0-mini")
        file = cache_path(root, "v1.0-mini")
        file.write_bytes(file.read_bytes()[:1000])
        with pytest.warns(UserWarning, match="damaged index cache"):
            assert open_nuscenes(root, "v1.0-mini").sample_count == 7
        assert open_nuscenes(root, "v1.0-mini").sample_count == 7

    def test_the_cache_of_an_older_version_is_rebuilt_in_silence(self, tiny: Any, tmp_path: Path) -> None:
        root = tiny.write(tmp_path, images=False)
        file = cache_path(root, "v1.0-mini")
        file.parent.mkdir()
        older = json.dumps([1, *json.loads(fingerprint(root / "v1.0-mini"))[1:]])
        np.savez(file, fingerprint=np.array(older), scene_tokens=np.array([b"gone"]))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert open_nuscenes(root, "v1.0-mini").sample_count == 7
        with np.load(file) as stored:
            assert "sample_ego_xy" in stored

    def test_folder_that_cannot_be_written_warns_and_works(self, tiny: Any, tmp_path: Path) -> None:
        root = tiny.write(tmp_path, images=False)
        # A file where the cache folder should be: refused for every user, root included.
        (root / ".syncl").write_text("in the way")
        with pytest.warns(UserWarning, match="cannot be cached"):
            assert open_nuscenes(root, "v1.0-mini").sample_count == 7

    def test_cache_false_writes_nothing(self, tiny: Any, tmp_path: Path) -> None:
        root = tiny.write(tmp_path, images=False)
        open_nuscenes(root, "v1.0-mini", cache=False)
        assert not (root / ".syncl").exists()


def test_tables_read_in_small_pieces_give_the_same_index(
    index: NuScenesIndex, tiny_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncl.data.json_stream._PIECE_BYTES", 700)
    pieces = open_nuscenes(tiny_root, "v1.0-mini", cache=False)
    for name, column in vars(index.columns).items():
        np.testing.assert_array_equal(getattr(pieces.columns, name), column, err_msg=name)


def test_the_longest_tables_are_gone_through_once(tiny_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    read = json_stream._record_pieces
    monkeypatch.setattr(json_stream, "_record_pieces", lambda path: opened.append(path.stem) or read(path))
    open_nuscenes(tiny_root, "v1.0-mini", cache=False)
    assert (opened.count("sample_data"), opened.count("ego_pose")) == (1, 1)


def test_reading_needs_no_torch(tiny_root: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from syncl.data.nuscenes.index import open_nuscenes; "
        f"open_nuscenes(Path({str(tiny_root)!r}), 'v1.0-mini', cache=False).sample(0); "
        "import syncl.data.nuscenes.results.submission; assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ)
