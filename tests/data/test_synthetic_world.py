"""Generated data sets: the nuScenes schema, the truth of what it says, and the same bytes every time."""

import hashlib
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import orjson
import pytest

import syncl.data.synthetic.generation as generation
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.synthetic.generation import generate_world
from syncl.data.synthetic.mounts import MOUNTS
from syncl.data.synthetic.records import ATTRIBUTES, CATEGORIES
from syncl.data.synthetic.scene import SceneJob
from syncl.data.synthetic.world import POPULATIONS, WorldConfig
from syncl.errors import SynclError
from syncl.geometry.poses import invert_pose, rigid_from_pose, yaw_from_quaternion

CONFIG = WorldConfig(train_scenes=2, val_scenes=1, keyframes=8, width=176, height=64, seed=5)
SMALL = WorldConfig(train_scenes=1, val_scenes=1, keyframes=2, width=64, height=32, seed=9)

FIELDS = {
    "attribute": "token name description",
    "calibrated_sensor": "token sensor_token translation rotation camera_intrinsic",
    "category": "token name description",
    "ego_pose": "token timestamp rotation translation",
    "instance": "token category_token nbr_annotations first_annotation_token last_annotation_token",
    "log": "token logfile vehicle date_captured location",
    "map": "category token filename log_tokens",
    "sample": "token timestamp prev next scene_token",
    "sample_annotation": "token sample_token instance_token visibility_token attribute_tokens translation "
    "size rotation prev next num_lidar_pts num_radar_pts",
    "sample_data": "token sample_token ego_pose_token calibrated_sensor_token timestamp fileformat "
    "is_key_frame height width filename prev next",
    "scene": "token log_token nbr_samples first_sample_token last_sample_token name description",
    "sensor": "token channel modality",
    "visibility": "token level description",
}
REFERENCES = {
    ("calibrated_sensor", "sensor_token"): "sensor",
    ("instance", "category_token"): "category",
    ("instance", "first_annotation_token"): "sample_annotation",
    ("instance", "last_annotation_token"): "sample_annotation",
    ("sample", "scene_token"): "scene",
    ("sample_annotation", "sample_token"): "sample",
    ("sample_annotation", "instance_token"): "instance",
    ("sample_annotation", "visibility_token"): "visibility",
    ("sample_data", "sample_token"): "sample",
    ("sample_data", "ego_pose_token"): "ego_pose",
    ("sample_data", "calibrated_sensor_token"): "calibrated_sensor",
    ("scene", "log_token"): "log",
    ("scene", "first_sample_token"): "sample",
    ("scene", "last_sample_token"): "sample",
}

Tables = dict[str, dict[str, dict[str, Any]]]


def read(root: Path, version: str = "v1.0-mini") -> Tables:
    tables = {}
    for name in FIELDS:
        records = orjson.loads((root / version / f"{name}.json").read_bytes())
        tables[name] = {record["token"]: record for record in records}
        assert len(tables[name]) == len(records)
    return tables


def digest(root: Path) -> dict[str, str]:
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {str(f.relative_to(root)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("synthetic") / "world"
    report = generate_world(out, CONFIG)
    assert report.version == "v1.0-mini" and report.samples == 24
    assert report.train_scenes == ("scene-0061", "scene-0553") and report.val_scenes == ("scene-0103",)
    return out


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """To be read only."""
    out = tmp_path_factory.mktemp("synthetic") / "small"
    generate_world(out, SMALL, workers=1)
    return out


@pytest.fixture(scope="module")
def tables(root: Path) -> Tables:
    return read(root)


def channel_of(tables: Tables, record: dict[str, Any]) -> str:
    calibration = tables["calibrated_sensor"][record["calibrated_sensor_token"]]
    return str(tables["sensor"][calibration["sensor_token"]]["channel"])


def test_every_table_has_the_official_fields(tables: Tables) -> None:
    for name, fields in FIELDS.items():
        assert tables[name], name
        for record in tables[name].values():
            assert set(record) == set(fields.split()), name


def test_every_reference_leads_somewhere(tables: Tables) -> None:
    for (name, field), target in REFERENCES.items():
        assert {record[field] for record in tables[name].values()} <= set(tables[target]), (name, field)
    attributes = {token for a in tables["sample_annotation"].values() for token in a["attribute_tokens"]}
    assert attributes <= set(tables["attribute"])
    logs = {token for record in tables["map"].values() for token in record["log_tokens"]}
    assert logs == set(tables["log"])


@pytest.mark.parametrize("name", ["sample", "sample_data", "sample_annotation"])
def test_chains_run_both_ways_without_gaps(tables: Tables, name: str) -> None:
    table = tables[name]
    order = {token: k for k, token in enumerate(tables["sample"])}
    for token, record in table.items():
        if record["next"]:
            after = table[record["next"]]
            assert after["prev"] == token
            if name != "sample":
                assert order[after["sample_token"]] == order[record["sample_token"]] + 1
        if record["prev"]:
            assert table[record["prev"]]["next"] == token
    heads = sum(not record["prev"] for record in table.values())
    assert heads == {"sample": 3, "sample_data": 3 * 7, "sample_annotation": len(tables["instance"])}[name]


def test_instances_and_scenes_count_their_members(tables: Tables) -> None:
    members = defaultdict(list)
    for token, record in tables["sample_annotation"].items():
        members[record["instance_token"]].append(token)
    for token, instance in tables["instance"].items():
        assert instance["nbr_annotations"] == len(members[token])
        assert instance["first_annotation_token"] == members[token][0]
        assert instance["last_annotation_token"] == members[token][-1]
    for scene in tables["scene"].values():
        assert scene["nbr_samples"] == CONFIG.keyframes


def test_every_keyframe_has_six_pictures_and_a_lidar_pose(root: Path, tables: Tables) -> None:
    channels = Counter(channel_of(tables, record) for record in tables["sample_data"].values())
    assert channels == dict.fromkeys([*(mount.channel for mount in MOUNTS), "LIDAR_TOP"], 24)
    names = set()
    for record in tables["sample_data"].values():
        names.add(record["filename"])
        if record["fileformat"] == "jpg":
            image = cv2.imread(str(root / record["filename"]))
            assert image.shape == (CONFIG.height, CONFIG.width, 3)
            assert (record["height"], record["width"]) == (CONFIG.height, CONFIG.width)
            assert image.std() > 8  # something is to be seen
    assert len(names) == len(tables["sample_data"])


def test_cameras_fire_at_their_own_time_and_place(tables: Tables) -> None:
    lidar = {}
    for record in tables["sample_data"].values():
        if channel_of(tables, record) == "LIDAR_TOP":
            lidar[record["sample_token"]] = tables["ego_pose"][record["ego_pose_token"]]
            assert record["timestamp"] == tables["sample"][record["sample_token"]]["timestamp"]
    delays = {mount.channel: mount.delay_us for mount in MOUNTS}
    moved = []
    for record in tables["sample_data"].values():
        channel = channel_of(tables, record)
        if channel == "LIDAR_TOP":
            continue
        pose, base = tables["ego_pose"][record["ego_pose_token"]], lidar[record["sample_token"]]
        assert pose["timestamp"] == record["timestamp"]
        assert record["timestamp"] - base["timestamp"] == delays[channel]
        distance = np.linalg.norm(np.subtract(pose["translation"], base["translation"]))
        moved.append(distance / abs(delays[channel] * 1e-6))
    # The distance from the lidar's pose over the delay is the vehicle's speed.
    assert np.max(moved) < 6.2 and np.median(moved) > 2.0


def test_velocities_can_be_had_from_the_tables(tables: Tables) -> None:
    annotations = tables["sample_annotation"]
    attributes = {token: record["name"] for token, record in tables["attribute"].items()}
    checked = 0
    for record in annotations.values():
        if not (record["prev"] and record["next"]):
            continue
        before, after = annotations[record["prev"]], annotations[record["next"]]
        step = np.subtract(after["translation"], before["translation"])
        speed = float(np.linalg.norm(step[:2])) / 1.0
        names = [attributes[token] for token in record["attribute_tokens"]]
        if names and names[0] in ("vehicle.parked", "cycle.without_rider", "pedestrian.sitting_lying_down"):
            assert speed < 1e-6
        elif names == ["vehicle.moving"]:
            heading = yaw_from_quaternion(np.array(record["rotation"]))
            along = step[0] * np.cos(heading) + step[1] * np.sin(heading)
            assert along > 0.75 * np.linalg.norm(step[:2])  # forwards, also in bends
            assert speed < 8.3
            checked += speed > 1.0
        elif names == ["pedestrian.moving"]:
            assert speed < 2.0
    assert checked > 20


def test_attributes_fit_their_categories(tables: Tables) -> None:
    attributes = {token: record["name"] for token, record in tables["attribute"].items()}
    allowed = {
        "vehicle.bicycle": "cycle",
        "vehicle.motorcycle": "cycle",
        "human.pedestrian.adult": "pedestrian",
    }
    found = set()
    for record in tables["sample_annotation"].values():
        instance = tables["instance"][record["instance_token"]]
        category = tables["category"][instance["category_token"]]["name"]
        names = [attributes[token] for token in record["attribute_tokens"]]
        if category.startswith("movable_object"):
            assert names == []
        else:
            assert len(names) == 1 and names[0].startswith(allowed.get(category, "vehicle") + ".")
            found.add(names[0])
    assert {record["name"] for record in tables["attribute"].values()} == set(ATTRIBUTES)
    assert found >= {
        "vehicle.moving",
        "vehicle.parked",
        "cycle.with_rider",
        "cycle.without_rider",
        "pedestrian.moving",
    }


def test_sizes_are_true_to_class_and_boxes_stand_on_the_ground(tables: Tables) -> None:
    ranges = {
        "vehicle.car": (4.0, 5.4),
        "vehicle.bus.rigid": (9.0, 12.0),
        "human.pedestrian.adult": (0.5, 0.9),
    }
    for record in tables["sample_annotation"].values():
        width, length, height = record["size"]
        assert min(width, length, height) > 0.2
        assert record["translation"][2] == pytest.approx(height / 2)
        category = tables["category"][tables["instance"][record["instance_token"]]["category_token"]]["name"]
        low, high = ranges.get(category, (0.2, 13.0))
        assert low <= length <= high
        assert np.linalg.norm(record["rotation"]) == pytest.approx(1.0)


def test_hidden_objects_have_no_points_and_seen_ones_are_near(tables: Tables) -> None:
    levels = Counter(record["visibility_token"] for record in tables["sample_annotation"].values())
    assert set(levels) == {"1", "2", "3", "4"}
    points = [(r["visibility_token"], r["num_lidar_pts"]) for r in tables["sample_annotation"].values()]
    assert all(count > 0 for level, count in points if level == "4" and count != 0)
    well_seen = [count for level, count in points if level == "4"]
    barely = [count for level, count in points if level == "1"]
    assert np.mean([count == 0 for count in barely]) > 0.5
    assert np.mean([count > 0 for count in well_seen]) > 0.9


def test_points_end_at_the_lidar_range_of_the_difficulty(tables: Tables) -> None:
    lidar = {}
    for record in tables["sample_data"].values():
        if channel_of(tables, record) == "LIDAR_TOP":
            lidar[record["sample_token"]] = tables["ego_pose"][record["ego_pose_token"]]["translation"]
    reach = POPULATIONS[CONFIG.difficulty].lidar_range_m
    beyond = 0
    for record in tables["sample_annotation"].values():
        distance = np.linalg.norm(np.subtract(record["translation"], lidar[record["sample_token"]])[:2])
        assert distance < 110
        if distance > reach + 1.0:  # the lidar sits 0.94 m before the rear axle
            beyond += 1
            assert record["num_lidar_pts"] == 0
    assert beyond > 50


def test_coloured_pixels_are_where_the_tables_say(root: Path, tables: Tables) -> None:
    """Traffic cones are bright orange: project their annotations through the tables and look there."""
    hits = misses = 0
    for data in tables["sample_data"].values():
        channel = channel_of(tables, data)
        if channel == "LIDAR_TOP":
            continue
        calibration = tables["calibrated_sensor"][data["calibrated_sensor_token"]]
        pose = tables["ego_pose"][data["ego_pose_token"]]
        global_from_vehicle = rigid_from_pose(np.array(pose["translation"]), np.array(pose["rotation"]))
        vehicle_from_camera = rigid_from_pose(
            np.array(calibration["translation"]), np.array(calibration["rotation"])
        )
        camera_from_global = invert_pose(global_from_vehicle @ vehicle_from_camera)
        image = cv2.imread(str(root / data["filename"])).astype(float)
        for record in tables["sample_annotation"].values():
            if record["sample_token"] != data["sample_token"] or record["visibility_token"] != "4":
                continue
            category = tables["instance"][record["instance_token"]]["category_token"]
            if tables["category"][category]["name"] != CATEGORIES["traffic_cone"]:
                continue
            x, y, z = (camera_from_global @ [*record["translation"], 1.0])[:3]
            if not 2.0 < z < 12.0:
                continue
            u, v, _ = np.array(calibration["camera_intrinsic"]) @ (x / z, y / z, 1.0)
            if not (4 < u < CONFIG.width - 4 and 4 < v < CONFIG.height - 4):
                continue
            redness = (image[int(v) - 2 : int(v) + 3, int(u) - 1 : int(u) + 2] @ [-1.0, 0.0, 1.0]).max()
            hits += redness > 60
            misses += redness <= 60
    assert hits >= 8 and hits > 8 * misses


def test_our_reader_opens_it(root: Path) -> None:
    index = open_nuscenes(root, "v1.0-mini", cache=False)
    assert index.sample_count == 24
    assert set(index.split_scenes("mini_train")) == {"scene-0061", "scene-0553"}
    assert index.split_scenes("mini_val") == ("scene-0103",)
    index.check_images()


def test_same_options_same_bytes_whatever_the_workers(small: Path, tmp_path: Path) -> None:
    generate_world(tmp_path / "b", SMALL, workers=2)
    assert digest(small) == digest(tmp_path / "b")


def test_scenes_do_not_depend_on_their_neighbours_but_on_the_seed(small: Path, tmp_path: Path) -> None:
    generate_world(tmp_path / "val", WorldConfig(0, 1, 2, 64, 32, 9))
    generate_world(tmp_path / "other", WorldConfig(0, 1, 2, 64, 32, 10))

    def pictures(world: Path) -> set[str]:
        return {value for file, value in digest(world).items() if file.endswith(".jpg")}

    both, val, other = (pictures(world) for world in (small, tmp_path / "val", tmp_path / "other"))
    assert len(both) == 24  # training and validation differ
    assert val < both and not val & other


def test_more_scenes_than_mini_make_a_trainval_version(tmp_path: Path) -> None:
    out = tmp_path / "w"
    report = generate_world(out, WorldConfig(1, 3, 2, 32, 16, 0))
    assert report.version == "v1.0-trainval"
    assert report.train_scenes == ("scene-0001",)
    assert report.val_scenes == ("scene-0003", "scene-0012", "scene-0013")
    assert len(read(out, "v1.0-trainval")["scene"]) == 4
    assert orjson.loads((out / "world.json").read_bytes())["val_scenes"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"width": -352}, "width: -352 is outside"),
        ({"height": 0}, "height: 0 is outside"),
        ({"train_scenes": 701}, "train_scenes: 701 is outside 0 to 700"),
        ({"val_scenes": 151}, "val_scenes: 151 is outside 0 to 150"),
        ({"train_scenes": 0, "val_scenes": 0}, "at least one scene"),
        ({"keyframes": 1}, "keyframes: 1 is outside"),
        ({"seed": -1}, "seed: -1 is outside"),
        (
            {"difficulty": "nightmare"},
            "difficulty: unknown value 'nightmare'; choose one of easy, default, hard",
        ),
        ({"width": 35.5}, "width: expected a whole number, got 35.5"),
    ],
)
def test_impossible_worlds_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(SynclError, match=message):
        WorldConfig(**options)


def test_existing_folders_are_not_overwritten_unless_told(tmp_path: Path) -> None:
    out = tmp_path / "world"
    out.mkdir()
    (out / "precious.txt").write_text("keep me")
    with pytest.raises(SynclError, match="already exists"):
        generate_world(out, SMALL)
    # What is no world is never replaced by one.
    with pytest.raises(
        SynclError, match=r"holds other things .* \(it has no world\.json\), and --overwrite would"
    ):
        generate_world(out, SMALL, overwrite=True)
    assert (out / "precious.txt").read_text() == "keep me"
    (out / "precious.txt").unlink()
    generate_world(out, WorldConfig(0, 1, 2, 64, 32, 9), overwrite=True)
    with pytest.raises(SynclError, match="already exists"):
        generate_world(out, SMALL)
    generate_world(out, WorldConfig(0, 1, 3, 64, 32, 9), overwrite=True)
    assert len(list((out / "samples" / "CAM_FRONT").iterdir())) == 3


def test_a_file_in_the_way_and_no_workers_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SynclError, match="is a file"):
        generate_world(tmp_path / "file", SMALL, overwrite=True)
    with pytest.raises(SynclError, match="workers: 0"):
        generate_world(tmp_path / "w", SMALL, workers=0)


def test_a_failure_half_way_leaves_the_old_world_and_nothing_else(
    small: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = shutil.copytree(small, tmp_path / "world")
    before = digest(out)
    make = generation.make_scene

    def fail_at_validation(job: SceneJob) -> object:
        if job.split == "val":
            raise OSError("disk full")
        return make(job)

    monkeypatch.setattr(generation, "make_scene", fail_at_validation)
    with pytest.raises(OSError, match="disk full"):
        generate_world(out, SMALL, overwrite=True)
    assert digest(out) == before
    assert [path.name for path in tmp_path.iterdir()] == ["world"]
