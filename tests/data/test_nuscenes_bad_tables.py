"""Tables that are missing, damaged or do not fit together: the message must say what to mend."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncl.data.nuscenes.index import CAMERAS, open_nuscenes
from syncl.data.nuscenes.tables.cache import cache_path
from syncl.errors import SynclError
from syncl.evaluation import read_ground_truth
from syncl.geometry.poses import quaternion_from_yaw

Tables = dict[str, list[dict[str, Any]]]


def record(tables: Tables, table: str, token: str) -> dict[str, Any]:
    return next(entry for entry in tables[table] if entry["token"] == token)


def repeat_sample(tables: Tables) -> None:
    tables["sample"].append(dict(tables["sample"][2]))


def repeat_annotation(tables: Tables) -> None:
    tables["sample_annotation"].append(dict(tables["sample_annotation"][2]))


def repeat_scene_name(tables: Tables) -> None:
    tables["scene"][1]["name"] = "scene-0061"


def second_front_image(tables: Tables) -> None:
    tables["sample_data"].append(dict(tables["sample_data"][0], token="again"))


def set_field(table: str, token: str, field: str, value: object) -> Callable[[Tables], None]:
    def spoil(tables: Tables) -> None:
        record(tables, table, token)[field] = value

    return spoil


def drop_field(table: str, token: str, field: str) -> Callable[[Tables], None]:
    def spoil(tables: Tables) -> None:
        del record(tables, table, token)[field]

    return spoil


def drop_record(table: str, token: str) -> Callable[[Tables], None]:
    def spoil(tables: Tables) -> None:
        tables[table].remove(record(tables, table, token))

    return spoil


def drop_images_of(sample: str) -> Callable[[Tables], None]:
    def spoil(tables: Tables) -> None:
        tables["sample_data"] = [r for r in tables["sample_data"] if r["sample_token"] != sample]

    return spoil


CAR = "ann_scene-0061_car_1"

REMEDIES = (
    r"copy or unpack|two versions of the tables merged|do not belong together|version of the data is empty"
)

CASES: dict[str, tuple[Callable[[Tables], None], str]] = {
    "duplicate sample": (repeat_sample, r"sample\.json: duplicate token 'scene-0061_t2'"),
    "duplicate annotation": (repeat_annotation, r"sample_annotation\.json: duplicate token"),
    "duplicate scene name": (repeat_scene_name, r"scene.*duplicate token 'scene-0061'"),
    "two images of one camera": (
        second_front_image,
        r"sample_data\.json: record 'again': its sample already",
    ),
    "missing key frame flag": (
        drop_field("sample_data", "data_scene-0061_t1_CAM_BACK", "is_key_frame"),
        r"sample_data\.json: record 'data_scene-0061_t1_CAM_BACK' has no field 'is_key_frame'",
    ),
    "null": (
        set_field("ego_pose", "pose_scene-0061_t1_CAM_BACK", "translation", [1.0, None, 0.0]),
        r"ego_pose\.json: .*field 'translation' is \[1\.0, None, 0\.0\], expected a list of 3 numbers",
    ),
    "number for a token": (
        set_field("sample_annotation", CAR, "sample_token", 5),
        r"field 'sample_token' is 5, expected a text",
    ),
    "intrinsics empty": (
        set_field("calibrated_sensor", "k_CAM_FRONT", "camera_intrinsic", []),
        r"calibrated_sensor\.json: record 'k_CAM_FRONT': field 'camera_intrinsic' is empty; .* 3x3",
    ),
    "intrinsics of the wrong shape": (
        set_field("calibrated_sensor", "k_CAM_FRONT", "camera_intrinsic", [[1.0, 2.0], [3.0, 4.0]]),
        r"calibrated_sensor\.json: record 'k_CAM_FRONT': field 'camera_intrinsic'.*3x3",
    ),
    "unknown sample": (
        set_field("sample_annotation", CAR, "sample_token", "lost"),
        rf"sample_annotation\.json: record '{CAR}': sample_token 'lost' is not in sample\.json \(1 such",
    ),
    "unknown instance": (
        drop_record("instance", "scene-0061_car"),
        r"instance_token 'scene-0061_car' is not in instance\.json \(4 such records\)",
    ),
    "unknown category": (
        drop_record("category", "cat3"),
        r"instance\.json: .*category_token 'cat3' is not in category\.json",
    ),
    "unknown pose": (
        drop_record("ego_pose", "pose_scene-0103_t1_LIDAR_TOP"),
        r"sample_data\.json: .*ego_pose_token 'pose_scene-0103_t1_LIDAR_TOP' is not in ego_pose\.json",
    ),
    "unknown sensor": (
        drop_record("sensor", "s_CAM_BACK"),
        r"calibrated_sensor\.json: record 'k_CAM_BACK': sensor_token 's_CAM_BACK' is not in sensor",
    ),
    "unknown scene": (
        drop_record("scene", "tok_scene-0103"),
        r"sample\.json: .*scene_token 'tok_scene-0103' is not in scene\.json \(3 such",
    ),
    "sample without sensors": (
        drop_images_of("scene-0061_t3"),
        r"sample_data\.json: sample 'scene-0061_t3' has no key frame of any camera or LIDAR_TOP",
    ),
    "no samples": (lambda tables: tables["sample"].clear(), r"sample\.json: no samples"),
}


def every(table: str, change: Callable[[dict[str, Any]], object]) -> Callable[[Tables], None]:
    def spoil(tables: Tables) -> None:
        for entry in tables[table]:
            change(entry)

    return spoil


def of_lidar(tables: Tables) -> None:
    for entry in tables["sample_data"]:
        if "LIDAR" in entry["token"]:
            entry.update(width=None, height=None, filename=None, timestamp="early")


def nobody_reads(tables: Tables) -> None:
    for table, entries in tables.items():
        for entry in entries:
            entry["note"] = float("nan") if table != "scene" else {"nested": [{}, {}]}


# What the official evaluation of the other split, or of every split, takes without a word.
ACCEPTED: dict[str, Callable[[Tables], None]] = {
    "fractional times": every("sample", lambda r: r.update(timestamp=r["timestamp"] + 0.4)),
    "fractional times of images": every("sample_data", lambda r: r.update(timestamp=r["timestamp"] + 0.4)),
    "times as whole floats": every("sample", lambda r: r.update(timestamp=float(r["timestamp"]))),
    "what cameras have, null in the lidar's records": of_lidar,
    "nan and nested values in fields that nobody reads": nobody_reads,
    "unknown visibility": set_field("sample_annotation", CAR, "visibility_token", "9"),
    "no visibility": drop_field("sample_annotation", CAR, "visibility_token"),
    "no table of visibility levels": lambda tables: tables.pop("visibility"),
    "unknown neighbour": set_field("sample_annotation", CAR, "next", "lost"),
    "unknown numbers of points": set_field("sample_annotation", CAR, "num_lidar_pts", -1),
    "numbers of points as text": set_field("sample_annotation", CAR, "num_lidar_pts", "many"),
    "no numbers of points": drop_field("sample_annotation", CAR, "num_radar_pts"),
    "levels of visibility without tokens": every("visibility", lambda r: r.update(token=None)),
    "a category without a name": set_field("category", "cat3", "name", None),
    "categories with names that are no texts": set_field("category", "cat3", "name", 0.25),
    "an attribute without a name": set_field("attribute", "att0", "name", ""),
    "an attribute twice": lambda tables: tables["attribute"].append(dict(tables["attribute"][0])),
    "numbers of points as truth values": every("sample_annotation", lambda r: r.update(num_radar_pts=True)),
    "a lidar that is nowhere": set_field("calibrated_sensor", "k_lidar", "rotation", None),
    "attributes that are none": set_field("sample_annotation", CAR, "attribute_tokens", None),
}


@pytest.mark.parametrize("case", ACCEPTED)
def test_what_the_official_evaluation_accepts(case: str, tiny: Any, tmp_path: Path) -> None:
    ACCEPTED[case](tiny.tables)
    root = tiny.write(tmp_path, images=False)
    index = open_nuscenes(root, "v1.0-mini")
    assert index.sample(1).annotations.labels[0] == 0
    assert len(read_ground_truth(root, "v1.0-mini", "mini_val").boxes)


def test_boxes_that_are_none_are_reported_and_refused_where_they_are_evaluated(
    tiny: Any, tmp_path: Path
) -> None:
    record(tiny.tables, "sample_annotation", CAR)["size"] = [1.0, 2.0]
    root = tiny.write(tmp_path, images=False)
    with pytest.warns(UserWarning, match=rf"record '{CAR}' is no box.* \(1 such records\)"):
        index = open_nuscenes(root, "v1.0-mini")
    assert index.sample(1).annotations.labels[0] == -1
    assert len(read_ground_truth(root, "v1.0-mini", "mini_val").boxes)
    with pytest.raises(SynclError, match=rf"annotation {CAR} has no size that is a list of 3 numbers"):
        read_ground_truth(root, "v1.0-mini", "mini_train")


@pytest.mark.parametrize("field", ["name", "token"])
def test_only_detection_is_refused_for_attributes_without(field: str, tiny: Any, tmp_path: Path) -> None:
    every("attribute", lambda r: r.update({field: None}))(tiny.tables)
    root = tiny.write(tmp_path, images=False)
    open_nuscenes(root, "v1.0-mini")
    assert len(read_ground_truth(root, "v1.0-mini", "mini_val", velocities=False).boxes)
    with pytest.raises(SynclError, match="has an unknown attribute"):
        read_ground_truth(root, "v1.0-mini", "mini_val")


@pytest.mark.parametrize("field", ["width", "height", "filename", "timestamp"])
def test_only_cameras_are_refused_for_what_only_cameras_need(field: str, tiny: Any, tmp_path: Path) -> None:
    record(tiny.tables, "sample_data", "data_scene-0061_t1_CAM_BACK")[field] = None
    root = tiny.write(tmp_path, images=False)
    with pytest.raises(SynclError, match=rf"t1_CAM_BACK': field '{field}' is None, expected"):
        open_nuscenes(root, "v1.0-mini")
    assert len(read_ground_truth(root, "v1.0-mini", "mini_train").boxes)


@pytest.mark.parametrize("case", CASES)
def test_inconsistent_tables(case: str, tiny: Any, tmp_path: Path) -> None:
    spoil, message = CASES[case]
    spoil(tiny.tables)
    root = tiny.write(tmp_path, images=False)
    with pytest.raises(SynclError, match=message) as raised:
        open_nuscenes(root, "v1.0-mini")
    assert re.search(REMEDIES, str(raised.value)), "what to do"
    assert not cache_path(root, "v1.0-mini", CAMERAS).exists(), "what is broken must not be cached"


@pytest.mark.parametrize("table", ["sample", "sample_data", "sample_annotation", "ego_pose", "category"])
def test_missing_table(table: str, tiny: Any, tmp_path: Path) -> None:
    del tiny.tables[table]
    root = tiny.write(tmp_path, images=False)
    with pytest.raises(SynclError, match=rf"{table}\.json: this table is missing"):
        open_nuscenes(root, "v1.0-mini")


@pytest.mark.parametrize("keep", [0.0, 0.4, 0.99])
def test_truncated_table(keep: float, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = tiny.write(tmp_path, images=False)
    path = root / "v1.0-mini" / "sample_data.json"
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * keep)])
    for piece in (2**20, 2000):
        monkeypatch.setattr("syncl.data.json_stream._PIECE_BYTES", piece)
        with pytest.raises(SynclError, match=r"sample_data\.json: (damaged or cut off|not a nuScenes table)"):
            open_nuscenes(root, "v1.0-mini")


@pytest.mark.parametrize("content", ['{"a": 1}', "[1, 2]", '"text"', "PK\x03\x04"])
def test_a_file_that_is_no_table(content: str, tiny: Any, tmp_path: Path) -> None:
    root = tiny.write(tmp_path, images=False)
    (root / "v1.0-mini" / "scene.json").write_text(content)
    with pytest.raises(SynclError, match=r"scene\.json: not a nuScenes table"):
        open_nuscenes(root, "v1.0-mini")


def test_box_without_volume_is_reported_and_ignored(tiny: Any, tmp_path: Path) -> None:
    record(tiny.tables, "sample_annotation", CAR)["size"] = [1.9, 0.0, 1.6]
    root = tiny.write(tmp_path, images=False)
    with pytest.warns(UserWarning, match=rf"'{CAR}' is no box"):
        index = open_nuscenes(root, "v1.0-mini")
    assert index.sample(1).annotations.labels[0] == -1


def test_wrong_folder_and_version(tiny_root: Path, tmp_path: Path) -> None:
    with pytest.raises(SynclError, match="no such folder"):
        open_nuscenes(tmp_path / "nowhere", "v1.0-mini")
    with pytest.raises(SynclError, match="no nuScenes tables at all"):
        open_nuscenes(tmp_path, "v1.0-mini")
    with pytest.raises(SynclError, match=r"no version 'v1\.0-trainval'; it holds v1\.0-mini"):
        open_nuscenes(tiny_root, "v1.0-trainval")


def test_unknown_scene_and_split(tiny_root: Path) -> None:
    index = open_nuscenes(tiny_root, "v1.0-mini", cache=False)
    with pytest.raises(SynclError, match=r"no scene 'scene-9999'; there are 2: scene-0061, scene-0103"):
        index.scene_samples("scene-9999")
    with pytest.raises(SynclError, match="split 'train' belongs to versions that end in 'trainval'"):
        index.split_scenes("train")
    with pytest.raises(SynclError, match="unheard_of"):
        index.split_scenes("unheard_of")


def test_split_without_scenes(tiny: Any, tmp_path: Path) -> None:
    index = open_nuscenes(tiny.write(tmp_path, "v1.0-trainval", images=False), "v1.0-trainval")
    assert index.split_scenes("val") == ("scene-0103",)
    tiny.tables["scene"][1]["name"] = "scene-7777"
    index = open_nuscenes(tiny.write(tmp_path, "v1.0-trainval", images=False), "v1.0-trainval")
    with pytest.raises(SynclError, match=r"none of the 150 scenes of split 'val'.*2 scenes.*scene-0061"):
        index.split_scenes("val")


def test_missing_images_are_counted(tiny: Any, tmp_path: Path) -> None:
    root = tiny.write(tmp_path)
    index = open_nuscenes(root, "v1.0-mini")
    index.check_images()
    for k in (0, 2):
        (root / "samples" / "CAM_BACK" / f"scene-0103_t{k}.jpg").unlink()
    index.check_images(["scene-0061"])
    with pytest.raises(SynclError, match=r"CAM_BACK/scene-0103_t0\.jpg: this image is missing \(2 missing"):
        index.check_images()


def scaled(factor: float, *names: str) -> Callable[[Tables], None]:
    def spoil(tables: Tables) -> None:
        for name in names:
            for entry in tables[name]:
                entry["timestamp"] = int(entry["timestamp"] * factor)

    return spoil


def turned(table: str) -> Callable[[Tables], None]:
    """Rotations as x, y, z, w."""
    return every(table, lambda entry: entry.update(rotation=[*entry["rotation"][1:], entry["rotation"][0]]))


def heading(degrees: float, *then: Callable[[Tables], None]) -> Callable[[Tables], None]:
    """Vehicles that drive that way, and further changes."""
    direction = np.array([np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees)), 0.0])

    def spoil(tables: Tables) -> None:
        for entry in tables["ego_pose"]:
            driven = entry["translation"][1] - 200
            entry["translation"] = ([100.0, 200.0, 0.0] + driven * direction).tolist()
            entry["rotation"] = quaternion_from_yaw(np.deg2rad(degrees)).tolist()
        for change in then:
            change(tables)

    return spoil


IMPLAUSIBLE: dict[str, tuple[Callable[[Tables], None], str]] = {
    "milliseconds": (
        scaled(1e-3, "sample", "sample_data"),
        r"sample\.json: .*'scene-0061' lie 0\.0005 s apart",
    ),
    "nanoseconds": (scaled(1e3, "sample", "sample_data"), r"sample\.json: .* lie 500 s apart .*microseconds"),
    "images in milliseconds": (
        scaled(1e-3, "sample_data"),
        r"sample_data\.json: field 'timestamp' of images is -",
    ),
    "poses as x y z w": (
        turned("ego_pose"),
        r"ego_pose\.json: .*up axis does not point up but along \[.*w, x, y, z",
    ),
    "poses of vehicles that head east as x y z w": (
        heading(10, turned("ego_pose")),
        r"ego_pose\.json: .* backwards in 5 of the 5 steps .*: .* holds x, y, z, w, by which all",
    ),
    "everything as x y z w, heading due east": (
        heading(0, turned("ego_pose"), turned("calibrated_sensor")),
        r"ego_pose\.json: .* backwards in 5 of the 5 steps .*: .* holds x, y, z, w, by which all",
    ),
    "calibrations as x y z w": (
        turned("calibrated_sensor"),
        r"calibrated_sensor\.json: .* 3 of 6 cameras hang upside down, and LIDAR_TOP .*: .* x, y, z, w",
    ),
    "boxes as x y z w": (
        turned("sample_annotation"),
        r"sample_annotation\.json: 14 of 16 boxes lie on their side, record '.*' the first: .* x, y, z, w",
    ),
}


@pytest.mark.parametrize("case", IMPLAUSIBLE)
def test_other_units_and_orders_are_refused_by_whoever_looks_through_cameras(
    case: str, tiny: Any, tmp_path: Path
) -> None:
    spoil, message = IMPLAUSIBLE[case]
    spoil(tiny.tables)
    root = tiny.write(tmp_path, images=False)
    with pytest.raises(SynclError, match=message):
        open_nuscenes(root, "v1.0-mini")
    truth = read_ground_truth(root, "v1.0-mini", "mini_train")
    assert len(truth.boxes), "the official evaluation takes them"
    assert len(truth.remarks) == (case in ("milliseconds", "nanoseconds"))


def test_vehicles_that_always_drive_backwards_are_told_of(tiny: Any, tmp_path: Path) -> None:
    # What x, y, z, w of a vehicle that heads east comes to: about as upright, and turned round.
    every("ego_pose", lambda entry: entry.update(rotation=[0.7, 0.0, 0.0, -0.7]))(tiny.tables)
    with pytest.warns(UserWarning, match=r"ego_pose\.json: .* drives backwards in 5 of the 5 steps"):
        open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini")


def test_what_may_be_so_is_said(tiny: Any, tmp_path: Path) -> None:
    # A vehicle whose x axis points back, one box that fell over, and a camera mounted upside down.
    heading(180)(tiny.tables)
    heading_east = every(
        "ego_pose", lambda entry: entry["translation"].__setitem__(0, 300 - entry["translation"][0])
    )
    heading_east(tiny.tables)
    tiny.tables["sample_annotation"][0]["rotation"] = [1.0, 1.0, 0.0, 0.0]
    front = tiny.tables["calibrated_sensor"][0]
    front["rotation"] = [0.5, 0.5, 0.5, 0.5]
    with pytest.warns(UserWarning) as said:
        open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini")
    texts = [str(warning.message) for warning in said]
    assert [text.partition(": ")[0].rpartition("/")[2] for text in texts] == [
        "sample_annotation.json", "ego_pose.json", "calibrated_sensor.json",
    ]  # fmt: skip
    assert "1 of 16 boxes lie on their side, record 'ann_scene-0061_car_0'" in texts[0]
    assert "5 of the 5 steps" in texts[1] and "1 of 6 cameras hang upside down" in texts[2]


def test_a_lidar_on_its_side_is_refused_where_it_is_the_vehicle(tiny: Any, tmp_path: Path) -> None:
    lidar = tiny.tables["calibrated_sensor"][-1]
    lidar["rotation"] = [*lidar["rotation"][1:], lidar["rotation"][0]]
    index = open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini")
    with pytest.raises(SynclError, match=r"LIDAR_TOP's up axis does not point up but along \[0\.0, -1"):
        index.with_vehicle_frame("lidar")


@pytest.mark.parametrize(
    ("field", "value"), [("width", 2**33), ("height", 70_000), ("width", -5), ("timestamp", 1e300)]
)
def test_sizes_and_times_that_no_image_has(field: str, value: object, tiny: Any, tmp_path: Path) -> None:
    record(tiny.tables, "sample_data", "data_scene-0061_t1_CAM_BACK")[field] = value
    with pytest.raises(SynclError, match="t1_CAM_BACK' has a value that is not finite, or a size that is no"):
        open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini")


@pytest.mark.parametrize("time", [float("nan"), float("inf")])
def test_evaluation_takes_times_that_are_none_as_the_official_does(
    time: float, tiny: Any, tmp_path: Path
) -> None:
    root = tiny.write(tmp_path, images=False)
    record(tiny.tables, "sample", "scene-0103_t1")["timestamp"] = time
    (root / "v1.0-mini" / "sample.json").write_text(json.dumps(tiny.tables["sample"]))
    (remark,) = read_ground_truth(root, "v1.0-mini", "mini_val").remarks
    assert "scene-0103_t1': field 'timestamp' is " in remark
    with pytest.raises(SynclError, match=r"scene-0103_t1': field 'timestamp' is .*no time"):
        open_nuscenes(root, "v1.0-mini")


def test_evaluation_takes_what_is_wrong_with_times_and_tokens_as_the_official_does(
    tiny: Any, tmp_path: Path
) -> None:
    record(tiny.tables, "sample", "scene-0103_t1")["timestamp"] = float("nan")
    every("sample_data", lambda entry: entry.update(token=None))(tiny.tables)
    root = tiny.write(tmp_path, images=False)
    (root / "v1.0-mini" / "sample.json").write_text(json.dumps(tiny.tables["sample"]))
    assert len(read_ground_truth(root, "v1.0-mini", "mini_val").boxes)
    with pytest.raises(SynclError):
        open_nuscenes(root, "v1.0-mini")


@pytest.mark.parametrize("value", [None, [], [0.0] * 5])
def test_cameras_without_distortion(value: object, tiny: Any, tmp_path: Path) -> None:
    every("calibrated_sensor", lambda entry: entry.update(camera_distortion=value))(tiny.tables)
    index = open_nuscenes(tiny.write(tmp_path, images=False), "v1.0-mini")
    assert all(camera.lens is None for camera in index.sample(0).cameras)


@pytest.mark.parametrize("value", [[0.1] * 6, "none", [0.1, 0.0, None, 0.0], [float("nan")] * 5, {"k1": 0.1}])
def test_a_distortion_that_is_none_is_refused_of_cameras_only(
    value: object, tiny: Any, tmp_path: Path
) -> None:
    record(tiny.tables, "calibrated_sensor", "k_lidar")["camera_distortion"] = value
    root = tiny.write(tmp_path, images=False)
    open_nuscenes(root, "v1.0-mini", cache=False)
    record(tiny.tables, "calibrated_sensor", "k_CAM_BACK")["camera_distortion"] = value
    tiny.write(tmp_path, images=False)
    with pytest.raises(
        SynclError, match=r"calibrated_sensor\.json: record '?k_CAM_BACK'?.*(distortion|finite)"
    ):
        open_nuscenes(root, "v1.0-mini", cache=False)
    assert len(read_ground_truth(root, "v1.0-mini", "mini_train").boxes)
