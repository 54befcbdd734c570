"""Recordings with annotations: data of one's own without tables."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from own_world import perfect
from syncl.data.nuscenes.clips.annotation_choice import AnnotationOptions, count_learnable
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.splits import own_split
from syncl.data.synthetic.own_data import DESCRIPTION
from syncl.errors import SynclError
from syncl.evaluation import evaluate_tracking, read_ground_truth

Yaml = dict[str, Any]


def test_recordings_open_as_the_tables_they_were_made_of(yard: Path, recordings: Path):
    theirs, ours = open_nuscenes(yard, "own"), open_nuscenes(recordings, "v1.0-mini")
    assert ours.dataset == theirs.dataset and ours.camera_names == theirs.camera_names
    assert ours.split_scenes("val") == theirs.split_scenes("val")
    for row in range(ours.sample_count):
        ours_sample, sample = ours.sample(row), theirs.sample(row)
        assert ours_sample.timestamp_us == sample.timestamp_us
        np.testing.assert_allclose(ours_sample.global_from_vehicle, sample.global_from_vehicle, atol=1e-9)
        for camera, other in zip(ours_sample.cameras, sample.cameras, strict=True):
            assert camera.path.read_bytes() == other.path.read_bytes()
            np.testing.assert_allclose(camera.camera_from_vehicle, other.camera_from_vehicle, atol=1e-9)
            np.testing.assert_allclose(camera.intrinsics, other.intrinsics, atol=1e-9)
        found, truth = ours_sample.annotations, sample.annotations
        kept = (truth.labels >= 0) & (truth.num_lidar_pts > 0)
        assert found.labels.tolist() == truth.labels[kept].tolist()
        np.testing.assert_allclose(found.boxes[:, :7], truth.boxes[kept, :7], atol=1e-6)


def test_recordings_are_scored_as_the_tables_are(yard: Path, recordings: Path, tmp_path: Path):
    tables = evaluate_tracking(perfect(yard, "own", "tracking", tmp_path), yard, "own", "val")
    results = perfect(recordings, "v1.0-mini", "tracking", tmp_path)
    metrics = evaluate_tracking(results, recordings, "v1.0-mini", "val")
    assert metrics.amota == 1
    for name, values in tables.label_metrics.items():
        assert metrics.label_metrics[name] == pytest.approx(values, abs=1e-4), name


def test_a_single_recording_is_a_dataset_of_one_split(recordings: Path):
    folder = next(path.parent for path in sorted(recordings.glob("*/rig.yaml")))
    index = open_nuscenes(folder, "v1.0-mini", dataset=recordings / "dataset.yaml")
    assert index.scene_names == (folder.name,) and own_split("v1.0-mini", folder) == "all"
    with pytest.raises(SynclError, match=r"no split 'vall'; there are all"):
        index.split_scenes("vall")
    with pytest.raises(SynclError, match=r"class: '[a-z]+' is none of the classes of nuScenes"):
        open_nuscenes(folder, "v1.0-mini")


def entry(**changes: object) -> Callable[[Yaml], object]:
    return lambda content: content["annotations"][1].update(changes)


BAD_ANNOTATIONS: dict[str, tuple[Callable[[Yaml], object], str]] = {
    "unknown field": (entry(boxx=1), r"annotations\[1\]: unknown field 'boxx'.*did you mean 'box'"),
    "missing field": (
        lambda c: c["annotations"][1].pop("class"),
        r"annotations\[1\]: field 'class' is missing",
    ),
    "format": (lambda c: c.update(format="x"), r"format: is 'x', expected 'syncl-annotations-1'"),
    "no list": (lambda c: c.update(annotations={}), r"annotations: is \{\}, expected a list"),
    "frame": (
        entry(frame="00001"),
        r"\[1\]\.frame: .* no frame '00001'; did you mean '000001'",
    ),
    "frame a number": (entry(frame=1), r"\[1\]\.frame: .*frames are named by texts"),
    "nan": (entry(box=[1, 2, 3, 4, 5, 6, None]), r"\[1\]\.box: holds None; metres and radians are finite"),
    "short box": (entry(box=[1, 2, 3]), r"\[1\]\.box: is \[1, 2, 3\], expected \[x, y, z, length"),
    "millimetres": (entry(box=[1, 2, 3, 4500, 1900, 1600, 0]), r"\[1\]\.box: has size \[4500, .* metres"),
    "degrees": (entry(box=[1, 2, 3, 4, 2, 2, 90]), r"\[1\]\.box: has yaw 90; it is in radians"),
    "size": (entry(box=[1, 2, 3, 4, 0, 6, 0]), r"\[1\]\.box: has size \[4, 0, 6\]; .* must be positive"),
    "track": (entry(track=None), r"\[1\]\.track: is None, expected a text or a whole number"),
    "class unknown": (
        entry(**{"class": "vann", "track": "new"}),
        r"\[1\]\.class: 'vann' is none of.*did you mean 'van'",
    ),
    "annotated frames": (lambda c: c.update(frames=["000001"]), r"is not among the annotated ones"),
    "frames that are none": (
        lambda c: c.update(frames=["x"]),
        r"frames\[0\]: .* has no frame 'x'",
    ),
}


@pytest.fixture
def recording(recordings: Path, tmp_path: Path) -> Path:
    """A recording whose images are those of another, and whose annotations may be changed."""
    folder = next(path.parent for path in sorted(recordings.glob("*/rig.yaml")))
    (tmp_path / "rig").mkdir()
    for name in ("rig.yaml", "annotations.json"):
        (tmp_path / "rig" / name).write_bytes((folder / name).read_bytes())
    (tmp_path / "rig" / "images").mkdir()
    for camera in (folder / "images").iterdir():
        (tmp_path / "rig" / "images" / camera.name).mkdir()
        for image in camera.iterdir():
            (tmp_path / "rig" / "images" / camera.name / image.name).touch()
    (tmp_path / "rig" / "dataset.yaml").write_text(DESCRIPTION)
    return tmp_path / "rig"


@pytest.mark.parametrize("case", [*BAD_ANNOTATIONS, "class changes", "track twice"])
def test_bad_annotations_are_named(case: str, recording: Path):
    path = recording / "annotations.json"
    content = json.loads(path.read_text())
    first, second = content["annotations"][:2]
    if case == "class changes":
        other = "van" if first["class"] != "van" else "person"
        second |= {"track": first["track"], "class": other, "frame": "000002"}
        words = rf"\[1\]\.class: track '{first['track']}' is '{other}' here and .* one class"
    elif case == "track twice":
        second |= {name: first[name] for name in ("frame", "track", "class")}
        words = rf"track '{first['track']}' has a box in frame '000000' already, annotations\[0\]"
    else:
        change, words = BAD_ANNOTATIONS[case]
        change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SynclError, match=words) as caught:
        read_ground_truth(recording, "v1.0-mini", "all")
    assert str(path) in str(caught.value)


def test_frames_that_nobody_annotated_are_left_out(recording: Path):
    path = recording / "annotations.json"
    content = json.loads(path.read_text())
    content["annotations"] = [one for one in content["annotations"] if one["frame"] != "000001"]
    path.write_text(json.dumps(content | {"frames": ["000000", "000002"]}))
    index = open_nuscenes(recording, "v1.0-mini")
    assert [index.sample_token(row) for row in range(2)] == ["rig/000000", "rig/000002"]
    assert index.sample_count == 2


def test_it_is_said_where_frames_lie_too_far_apart_for_velocities(recording: Path):
    def remark() -> str | None:
        index = open_nuscenes(recording, "v1.0-mini")
        return count_learnable(index, index.scene_names, AnnotationOptions(index.dataset.classes)).remark

    assert remark() is None
    path = recording / "rig.yaml"
    content = yaml.safe_load(path.read_text())
    for frame in content["frames"]:
        frame["timestamp_s"] *= 20
    path.write_text(yaml.safe_dump(content))
    found = re.fullmatch(
        r"velocities: ([\d,]+) of ([\d,]+) are unknown, .* learned as 0; annotate .*", remark() or ""
    )
    assert found and found[1] == found[2]
