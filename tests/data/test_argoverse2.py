"""Argoverse 2's sensor dataset: a log written by hand, a world in its layout, and what is refused."""

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import torch
from numpy.typing import NDArray

from argoverse2_logs import (
    ANNOTATIONS,
    EXTRINSICS,
    INTRINSICS,
    LOG,
    POSE,
    POSES,
    START,
    SWEEPS,
    Tables,
    write_tables,
    written_log,
)
from syncl.commands.prepare import prepare
from syncl.data.argoverse2.argoverse2_classes import ARGOVERSE2, CLASSES
from syncl.data.argoverse2.log_folders import CAMERAS, RING_CAMERAS
from syncl.data.argoverse2.log_writer import write_log
from syncl.data.dataset_file import find_description
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import NuScenesIndex, open_nuscenes
from syncl.data.nuscenes.past.sources import has_sweeps
from syncl.data.nuscenes.splits import own_split
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.world import WorldConfig
from syncl.errors import SynclError


def open_argoverse2(root: Path, cache: bool = True) -> NuScenesIndex:
    return open_nuscenes(root, "v1.0-mini", cache=cache)


@pytest.fixture(scope="module")
def by_hand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tables(tmp_path_factory.mktemp("by_hand"), written_log())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("argoverse2") / "world"
    config = WorldConfig(train_scenes=1, val_scenes=1, keyframes=3, width=64, layout="argoverse2", seed=5)
    generate_world(root, config)
    return root


def test_sweeps_are_samples_and_boxes_stand_where_the_vehicle_was(by_hand: Path) -> None:
    index = open_argoverse2(by_hand, cache=False)
    assert index.scene_names == index.split_scenes("val") == (LOG,)
    sample = index.sample(1)
    assert sample.token == f"{LOG}/{SWEEPS[1]}" and sample.timestamp_us == round(SWEEPS[1] / 1000)
    np.testing.assert_allclose(sample.global_from_vehicle[:3, 3], [5, 1, 0.3], atol=1e-9)
    annotations = sample.annotations
    assert [ARGOVERSE2.classes[label] for label in annotations.labels] == ["BUS", "DOG"]
    # It keeps its distance to a vehicle that drives at 10 m/s, with its side to it.
    bus = [20, 0, 1, 10, 3, 3.5, np.pi / 2, 10, 0]
    np.testing.assert_allclose(annotations.boxes[0], bus, atol=1e-6)
    assert np.isnan(annotations.boxes[1, 7:]).all() and annotations.num_lidar_pts.tolist() == [5, 0]
    np.testing.assert_allclose(index.columns.annotation_boxes[0, :3], [5, 20, 1.3], atol=1e-9)
    assert len(np.unique(index.columns.annotation_instances)) == 2


def test_a_sweep_has_the_nearest_image_of_each_camera_with_a_pose_of_its_own(by_hand: Path) -> None:
    index = open_argoverse2(by_hand, cache=False)
    cameras = index.sample(1).cameras
    assert tuple(camera.channel for camera in cameras) == index.camera_names == RING_CAMERAS
    assert [camera.timestamp_us - index.sample(1).timestamp_us for camera in cameras] == [
        5000 * number for number in (-3, -2, -1, 0, 1, 2, 3)
    ]
    assert [(camera.width, camera.height) for camera in cameras] == [(48, 64), *[(64, 48)] * 6]
    # The vehicle has driven 0.15 m between the first camera's image and the sweep.
    np.testing.assert_allclose(cameras[0].camera_from_vehicle[:3, 3], [0, 1.4, 0.15 - 1.5], atol=1e-9)
    assert [camera.channel for camera in index.sample(2).cameras] == list(RING_CAMERAS[:6])
    assert not index.missing_images() and not has_sweeps(index, index.scene_names)


def test_frames_of_mixed_shapes_show_what_projects_into_them(by_hand: Path) -> None:
    index = open_argoverse2(by_hand, cache=False)
    stream = SceneStream(index, LOG, ImageOptions((24, 32), None))
    frame = list(stream)[2]
    assert frame.images.shape == (1, 7, 3, 24, 32) and frame.camera_valid.tolist() == [[True] * 6 + [False]]
    # What lies straight ahead of each camera.
    seen = frame.rig.image_from_camera[0, :2] @ torch.tensor([0.0, 0.0, 10.0], dtype=torch.float64)
    centre = (seen[:, :2] / seen[:, 2:]).tolist()
    # A fifth of the upright image is kept above it; wide ones are seen whole.
    assert centre[0] == pytest.approx([16.0, 0.2 * 24], abs=1)
    assert centre[1] == pytest.approx([16.0, 12.0])


def test_a_log_of_the_test_split_is_known_by_its_sweeps(tmp_path: Path) -> None:
    tables = written_log()
    del tables[ANNOTATIONS]
    root = write_tables(tmp_path, tables, "test")
    with pytest.raises(SynclError, match="sensors/lidar: holds no sweep"):
        open_argoverse2(root, cache=False)
    lidar = root / "test" / LOG / "sensors/lidar"
    lidar.mkdir()
    for time in SWEEPS[:2]:
        (lidar / f"{time}.feather").touch()
    index = open_argoverse2(root, cache=False)
    assert index.sample_count == 2 and not index.annotation_count


def test_the_index_is_kept_until_a_table_changes(tmp_path: Path) -> None:
    root = write_tables(tmp_path, written_log())
    before = open_argoverse2(root)
    assert open_argoverse2(root).sample_count == 3
    shutil.rmtree(root / "val" / LOG)
    tables = written_log()
    tables[ANNOTATIONS] = {name: values[:3] for name, values in tables[ANNOTATIONS].items()}
    write_tables(root, tables)
    assert (before.annotation_count, open_argoverse2(root).annotation_count) == (4, 3)


def without(name: str) -> Callable[[Tables], None]:
    return lambda tables: tables.pop(name) and None


def lacking(table: str, column: str) -> Callable[[Tables], None]:
    return lambda tables: tables[table].pop(column) and None


def with_values(table: str, column: str, values: Callable[[list[object]], Any]) -> Callable[[Tables], None]:
    def change(tables: Tables) -> None:
        tables[table][column] = values(tables[table][column])

    return change


def first(value: object) -> Callable[[list[object]], list[object]]:
    return lambda values: [value, *values[1:]]


def unsigned(values: list[object]) -> object:
    return pa.array([2**63, *values[1:]], pa.uint64())


def no_rotation(tables: Tables) -> None:
    for name in POSE[:4]:
        tables[ANNOTATIONS][name][0] = 0.0


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (without(ANNOTATIONS), "annotations.feather: there is no such file"),
        (without(POSES), "city_SE3_egovehicle.feather: there is no such file"),
        (without(INTRINSICS), "intrinsics.feather: there is no such file"),
        (lacking(ANNOTATIONS, "track_uuid"), "no column 'track_uuid'; there are timestamp_ns, category"),
        (lacking(POSES, "qw"), "no column 'qw'"),
        (lacking(INTRINSICS, "fx_px"), "no column 'fx_px'"),
        (
            with_values(ANNOTATIONS, "timestamp_ns", lambda v: [str(x) for x in v]),
            "holds string, expected whole",
        ),
        (with_values(ANNOTATIONS, "timestamp_ns", first(None)), "column 'timestamp_ns' has 1 holes"),
        (with_values(ANNOTATIONS, "tx_m", first(float("nan"))), "column 'tx_m', row 0: nan"),
        (with_values(ANNOTATIONS, "category", lambda v: [1] * len(v)), "holds int64, expected texts"),
        (
            with_values(ANNOTATIONS, "category", first("BUSS")),
            "'BUSS', which Argoverse 2 does not know; did you",
        ),
        (with_values(ANNOTATIONS, "width_m", first(0.0)), r"row 0: size \[10.0, 0.0, 3.5\] is not positive"),
        (no_rotation, "row 0: qw, qx, qy, qz are zero"),
        (
            with_values(ANNOTATIONS, "timestamp_ns", first(START + 7)),
            f"lacks {START + 7}, the time of a sweep",
        ),
        (
            with_values(ANNOTATIONS, "timestamp_ns", first(SWEEPS[1])),
            "track 'bus' has two boxes in one sweep",
        ),
        (with_values(ANNOTATIONS, "num_interior_pts", unsigned), "number beyond 63 bits"),
        (with_values(POSES, "timestamp_ns", first(SWEEPS[0])), "twice"),
        (with_values(POSES, "timestamp_ns", first(1)), "the time of an image"),
        (
            with_values(EXTRINSICS, "sensor_name", first("ring_front_centre")),
            "no ring camera 'ring_front_center'",
        ),
        (with_values(INTRINSICS, "sensor_name", first(RING_CAMERAS[1])), "has 'ring_front_left' twice"),
        (with_values(INTRINSICS, "width_px", first(0)), "camera 'ring_front_center': width_px 0"),
        (with_values(INTRINSICS, "fy_px", first(-1.0)), "fy_px -1 are not those of a camera"),
    ],
)
def test_what_is_wrong_with_a_table_is_said_by_name(
    change: Callable[[Tables], None], said: str, tmp_path: Path
) -> None:
    tables = written_log()
    change(tables)
    root = write_tables(tmp_path, tables)
    with pytest.raises(SynclError, match=said) as caught:
        open_argoverse2(root, cache=False)
    assert LOG in str(caught.value)


def test_missing_folders_and_names_that_are_no_times_are_refused(tmp_path: Path) -> None:
    root = write_tables(tmp_path, written_log())
    log = root / "val" / LOG
    (log / CAMERAS / RING_CAMERAS[2] / "front.jpg").touch()
    with pytest.raises(SynclError, match=r"front.jpg: the name is not a time in nanoseconds"):
        open_argoverse2(root, cache=False)
    shutil.rmtree(log / CAMERAS / RING_CAMERAS[2])
    with pytest.raises(SynclError, match=r"ring_front_right: there is no such folder of a ring camera"):
        open_argoverse2(root, cache=False)
    shutil.copytree(log, root / "train" / LOG)
    with pytest.raises(SynclError, match="lies in train too"):
        open_argoverse2(root, cache=False)
    with pytest.raises(SynclError, match="name the folder that holds these three"):
        open_argoverse2(root / "val")


def test_a_table_that_is_cut_off_is_refused(tmp_path: Path) -> None:
    path = write_tables(tmp_path, written_log()) / "val" / LOG / ANNOTATIONS
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(SynclError, match=r"annotations.feather: no feather table, or a damaged one"):
        open_argoverse2(tmp_path, cache=False)


def test_without_pyarrow_the_extra_is_named(by_hand: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow.feather", None)
    with pytest.raises(SynclError, match=r"pip install 'syncl\[argoverse2\]'"):
        open_argoverse2(by_hand, cache=False)


def test_a_folder_tells_what_it_is(by_hand: Path, world: Path, tmp_path: Path) -> None:
    assert find_description(world, "v1.0-mini") == ARGOVERSE2 and len(CLASSES) == 26
    assert own_split("v1.0-mini", world) == "val" and own_split("v1.0-mini", world, training=True) == "train"
    index = open_argoverse2(world)
    assert len(index.choose_scenes("train")) == len(index.choose_scenes("val")) == 1
    with pytest.raises(SynclError, match="no split 'test'; there are train, val"):
        index.split_scenes("test")
    with pytest.raises(SynclError, match="the vehicle frame cannot be 'lidar'"):
        index.with_vehicle_frame("lidar")
    with pytest.raises(SynclError, match="no nuScenes tables at all"):
        open_argoverse2(tmp_path)


def test_a_world_in_this_layout_has_seven_cameras_and_comes_back_as_it_was_written(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    index = prepare(world)
    assert "2 scenes, 6 samples, 42 images of 7 cameras" in capsys.readouterr().out
    assert {(camera.width, camera.height) for camera in index.sample(0).cameras} == {(64, 48), (48, 64)}
    times = index.columns.sample_timestamps_us[:3]
    assert np.diff(times).tolist() == [100_000, 100_000]
    identity = {name: name for name in CLASSES}
    for split in ("train", "val"):
        for scene in index.split_scenes(split):
            write_log(index, scene, tmp_path / split / scene, shutil.copyfile, identity)
    again = open_argoverse2(tmp_path, cache=False)
    for name in ("annotation_boxes", "annotation_velocities", "image_poses", "sample_poses", "intrinsics"):
        np.testing.assert_allclose(getattr(again.columns, name), getattr(index.columns, name), atol=1e-9)
    for name in ("sample_tokens", "image_files", "image_sizes", "annotation_labels", "annotation_points"):
        np.testing.assert_array_equal(getattr(again.columns, name), getattr(index.columns, name))


def test_boxes_of_a_world_project_onto_what_is_painted_there(world: Path) -> None:
    """A box in the middle of an image is where its pixels differ from the frame before it stood there."""
    index = open_argoverse2(world, cache=False)
    sample = index.sample(0)
    seen = 0
    for camera in sample.cameras:
        points = sample.annotations.boxes[:, :3] @ camera.camera_from_vehicle[:3, :3].T
        points = points + camera.camera_from_vehicle[:3, 3]
        pixels = points @ camera.intrinsics.T
        pixels = pixels[:, :2] / pixels[:, 2:]
        inside: NDArray[np.bool_] = (points[:, 2] > 1) & (pixels > 0).all(axis=1)
        seen += int((inside & (pixels < [camera.width, camera.height]).all(axis=1)).sum())
    assert seen >= len(sample.annotations.labels) // 2
