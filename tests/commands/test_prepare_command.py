"""`syncl prepare` on sound and on broken datasets, and the test version that has no annotations."""

import json
import re
import shutil
from pathlib import Path

import orjson
import pytest
from PIL import Image

from syncl.commands.evaluate import evaluate
from syncl.commands.main import main
from syncl.commands.prepare import prepare
from syncl.commands.track import track
from syncl.data.nuscenes.splits import official_scenes
from syncl.data.nuscenes.tables.table_files import table_path
from syncl.errors import SynclError

VERSION = "v1.0-mini"


@pytest.fixture
def world(wide_world: Path, tmp_path: Path) -> Path:
    """A copy of its own for every test, to be spoilt."""
    return shutil.copytree(wide_world, tmp_path / "world", ignore=shutil.ignore_patterns(".syncl"))


def spoil(world: Path, table: str, change) -> None:
    path = table_path(world / VERSION, table)
    records = orjson.loads(path.read_bytes())
    change(records)
    path.write_bytes(orjson.dumps(records))


def test_a_sound_dataset_is_indexed_once(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not list(world.rglob("*.pcd*")), "no lidar files are needed"
    prepare(world, images=True)
    said = capsys.readouterr().out
    assert "2 scenes, 6 samples, 36 images of 6 cameras" in said
    assert "mini_train 1, mini_val 1" in said and "all open" in said
    index = world / ".syncl" / f"{VERSION}.npz"
    written = index.stat().st_mtime_ns
    prepare(world)
    assert index.stat().st_mtime_ns == written and "all there" in capsys.readouterr().out


def test_what_can_be_learned_from_is_counted(world: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prepare(world, files=False)
    said = capsys.readouterr().out
    assert re.search(r"  [1-9]\d* annotations to learn from", said), said
    spoil(world, "category", lambda records: [record.update(name="thing") for record in records])
    prepare(world, files=False)
    said = capsys.readouterr().out
    assert re.search(
        r"  0 annotations to learn from \(\d+ of categories that are none of the classes\)", said
    ), said


def test_each_table_problem_is_listed_once_with_its_count(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def change_annotations(records: list) -> None:
        records.append(dict(records[0]))
        for record in records[1:4]:
            record["instance_token"] = "lost"
        for record in records[4:6]:
            record["size"] = [1.0, None, 1.0]
        del records[6]["rotation"]

    def change_images(records: list) -> None:
        records[0]["ego_pose_token"] = "nowhere"
        records.append(dict(records[1], token="again"))

    spoil(world, "sample_annotation", change_annotations)
    spoil(world, "sample_data", change_images)
    spoil(world, "sensor", lambda records: records.pop(0))
    with pytest.raises(SystemExit) as stopped:
        main(["prepare", str(world)])
    assert stopped.value.code == 2
    error = capsys.readouterr().err
    expected = [
        ("sample_annotation.json", "duplicate token", "1 in all", "merged"),
        ("sample_annotation.json", "instance_token 'lost' is not in instance.json", "3 in all", "incomplete"),
        ("sample_annotation.json", "field 'size' is [1.0, None, 1.0]", "2 in all", "unpack"),
        ("sample_annotation.json", "no field 'rotation'", "1 in all", "unpack"),
        ("sample_data.json", "ego_pose_token 'nowhere' is not in ego_pose.json", "1 in all", "incomplete"),
        ("sample_data.json", "record 'again': its sample already has", "1 in all", "merged"),
        ("calibrated_sensor.json", "sensor_token", "in all", "incomplete"),
    ]
    lines = error.splitlines()
    for parts in expected:
        assert sum(all(part in line for part in parts) for line in lines) == 1, (parts, error)
    assert "Nothing was indexed" in error and not (world / ".syncl").exists()


def test_a_damaged_table_does_not_hide_the_other_problems(world: Path) -> None:
    path = table_path(world / VERSION, "instance")
    path.write_bytes(path.read_bytes()[:-20])
    spoil(world, "sample", lambda records: records.append(dict(records[0])))
    with pytest.raises(SynclError) as raised:
        prepare(world)
    message = str(raised.value)
    assert "2 kinds of problems" in message
    assert "instance.json: damaged or cut off" in message and "sample.json: duplicate token" in message


def test_image_problems_are_listed_by_camera(world: Path) -> None:
    front = sorted((world / "samples" / "CAM_FRONT").iterdir())
    back = sorted((world / "samples" / "CAM_BACK").iterdir())
    front[0].unlink()
    front[1].unlink()
    data = back[0].read_bytes()
    # Cut off, but with an end marker such as a thumbnail's further up.
    back[0].write_bytes(data[:2] + b"\xff\xfe\x00\x04\xff\xd9" + data[2 : len(data) // 2])
    back[1].write_bytes(b"")
    left = sorted((world / "samples" / "CAM_BACK_LEFT").iterdir())
    Image.new("RGB", (48, 32)).save(left[2])
    with pytest.raises(SynclError) as raised:
        prepare(world)
    message = str(raised.value)
    assert f"{front[0]}: this image of CAM_FRONT is missing (2 in all)" in message
    assert "one kind of problem" in message and "1 have all their image files" in message
    with pytest.raises(SynclError) as raised:
        prepare(world, images=True)
    message = str(raised.value)
    assert f"{back[0]}: this image of CAM_BACK is damaged (1 in all)" in message
    assert f"{back[1]}: this image of CAM_BACK is empty (1 in all)" in message
    assert f"{left[2]}: this image of CAM_BACK_LEFT is of another size (1 in all)" in message
    assert (world / ".syncl" / f"{VERSION}.npz").is_file(), "sound tables are indexed all the same"


def test_the_test_split_is_tracked_but_not_evaluated(world: Path, tmp_path: Path, model_file: Path) -> None:
    (world / VERSION).rename(world / "v1.0-test")
    names = official_scenes("test")
    for table in ("sample_annotation", "instance", "attribute", "visibility", "category"):
        (world / "v1.0-test" / f"{table}.json").unlink()
    path = world / "v1.0-test" / "scene.json"
    scenes = orjson.loads(path.read_bytes())
    for scene, name in zip(scenes, names):
        scene["name"] = name
    path.write_bytes(orjson.dumps(scenes))
    prepare(world, version="v1.0-test")
    output = tmp_path / "results.json"
    track(model_file, data=world, output=output, version="v1.0-test", split="test", device="cpu")
    assert len(json.loads(output.read_text())["results"]) == 6
    with pytest.raises(SynclError, match=r"sample_annotation\.json: holds no annotations.*not published"):
        evaluate(output, data=world, version="v1.0-test", split="test")
    (world / "v1.0-test" / "sample_annotation.json").write_text("[]\n")
    with pytest.raises(SynclError, match="not published"):
        evaluate(output, data=world, version="v1.0-test", split="test")


def test_missing_images_stop_tracking_before_it_begins(world: Path, tmp_path: Path, model_file: Path) -> None:
    last = sorted((world / "samples" / "CAM_FRONT").iterdir())[-1]
    last.unlink()
    with pytest.raises(SynclError, match=r"this image is missing"):
        for split in ("mini_train", "mini_val"):
            track(model_file, data=world, output=tmp_path / f"{split}.json", split=split, device="cpu")


def test_options_out_of_range(world: Path) -> None:
    with pytest.raises(SynclError, match=r"workers: -1"):
        prepare(world, workers=-1)
    with pytest.raises(SynclError, match=r"no version 'v1\.0-trainval'"):
        prepare(world, version="v1.0-trainval")


def test_calibrations_that_no_vehicle_has_are_doubted(
    world: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prepare(world)
    assert "calibrations:" not in capsys.readouterr().out

    def change(records: list[dict[str, object]]) -> None:
        cameras = [one for one in records if one["camera_intrinsic"]]
        # Millimetres, and intrinsics of images twice as large.
        cameras[0]["translation"] = [1000 * value for value in cameras[0]["translation"]]
        cameras[-1]["camera_intrinsic"] = [
            [2 * value for value in row] for row in cameras[-1]["camera_intrinsic"]
        ]

    spoil(world, "calibrated_sensor", change)
    prepare(world)
    said = capsys.readouterr().out
    assert re.search(r"CAM_\w+, 1 of \d calibrations: the camera would sit at \[\d{4}\.0,", said)
    assert re.search(
        r"CAM_\w+, 1 of \d calibrations: the optical axis would be at u = \d+ of \d+ pixels", said
    )
