import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from syncl.classes import DETECTION_CLASSES
from syncl.errors import SynclError
from syncl.evaluation import read_ground_truth


def change(dataset: Any, table: str, edit: Callable[[list[dict[str, Any]]], object]) -> None:
    path: Path = dataset.root / "v1.0-mini" / f"{table}.json"
    rows = json.loads(path.read_text())
    edit(rows)
    path.write_text(json.dumps(rows))


def read(dataset: Any, **more: Any) -> Any:
    return read_ground_truth(dataset.root, "v1.0-mini", "mini_val", **more)


def test_columns(dataset: Any):
    truth = read(dataset)
    assert truth.samples.tokens == ("s0", "s1", "s2")
    assert truth.samples.ego_xy.tolist() == [[100, 50]] * 3
    assert truth.boxes.centre.tolist() == [[110, 50, 1]] * 3
    assert truth.boxes.identity.tolist() == [0, 0, 0]
    assert truth.boxes.points.tolist() == [3, 3, 3]


def test_velocities_are_centred_differences_within_limits(dataset: Any):
    def move(rows: list[dict[str, Any]]) -> None:
        for row, x in zip(rows, (110.0, 111.0, 114.0)):
            row["translation"][0] = x

    change(dataset, "sample_annotation", move)
    assert read(dataset).boxes.velocity[:, 0] == pytest.approx([2, 4, 6])
    change(dataset, "sample", lambda rows: rows[2].update(timestamp=2_100_000))
    # 2.1 s in all are fine for the centred difference, 1.6 s at the end are too long.
    assert read(dataset).boxes.velocity[:, 0] == pytest.approx([2, 4 / 2.1, np.nan], nan_ok=True)
    change(dataset, "sample", lambda rows: rows[2].update(timestamp=3_100_000))
    assert read(dataset).boxes.velocity[:, 0] == pytest.approx([2, np.nan, np.nan], nan_ok=True)


def test_samples_of_one_time_are_told_of(dataset: Any):
    assert not read(dataset).remarks
    change(dataset, "sample", lambda rows: rows[2].update(timestamp=rows[1]["timestamp"]))
    assert "sample.json: 1 sample with the timestamp of another" in read(dataset).remarks[0]


def test_unmapped_categories_are_left_out(dataset: Any):
    change(dataset, "sample_annotation", lambda rows: rows[1].update(instance_token="i1", prev="", next=""))
    assert read(dataset).boxes.sample.tolist() == [0, 2]


def test_scenes_by_choice(dataset: Any):
    assert len(read(dataset, scenes=["scene-0103"]).samples) == 3
    with pytest.raises(SynclError, match="scene 'scene-0061' is not part of split 'mini_val'"):
        read(dataset, scenes=["scene-0061"])
    with pytest.raises(SynclError, match="holds no sample of split 'mini_val'"):
        read(dataset, scenes=["scene-0916"])


@pytest.mark.parametrize(
    ("table", "edit", "message"),
    [
        ("sample_annotation", lambda r: r[0]["attribute_tokens"].append("a0"), "more than one attribute"),
        (
            "sample_annotation",
            lambda r: r[0].update(attribute_tokens=["zz"]),
            "an unknown attribute",
        ),
        (
            "sample_annotation",
            lambda r: r[0].update(instance_token="zz"),
            "instance_token 'zz' is not in instance.json",
        ),
        ("sample_annotation", lambda r: r[0].pop("size"), "n0 has no size that is a list"),
        (
            "sample_annotation",
            lambda r: r[0].update(size=[1, 2]),
            "n0 has no size that is a list",
        ),
        ("sample_annotation", lambda r: r[0].update(size=[1, 2, 0]), "annotation n0 has a size"),
        (
            "sample_annotation",
            lambda r: r[0].update(translation=[np.nan] * 3),
            "n0 has no translation that is a list",
        ),
        ("sample_annotation", lambda r: r[0].update(next="zz"), "n0 names a neighbour"),
        ("sample_annotation", lambda r: r[1].update(sample_token="s0"), "annotated twice in sample s0"),
        (
            "instance",
            lambda r: r[0].update(category_token="zz"),
            "'zz' is not in category.json",
        ),
        ("sensor", lambda r: r.pop(0), "sample s0 has no key frame of LIDAR_TOP"),
        ("ego_pose", lambda r: r.pop(0), "sample s0 has no key frame of LIDAR_TOP that leads"),
        ("scene", lambda r: r.append([]), "expected a JSON array of records"),
    ],
)
def test_damaged_tables(dataset: Any, table: str, edit: Callable[[Any], object], message: str):
    change(dataset, table, edit)
    with pytest.raises(SynclError, match=message):
        read(dataset)


def test_tracking_asks_neither_for_attributes_nor_for_neighbours(dataset: Any):
    change(dataset, "sample_annotation", lambda rows: rows[0].update(attribute_tokens=["zz"], next="zz"))
    assert len(read(dataset, velocities=False).boxes) == 3


def test_annotations_of_other_categories_may_hold_anything(dataset: Any):
    nonsense = {"instance_token": "i1", "size": None, "translation": [], "attribute_tokens": 5, "next": "zz"}
    change(dataset, "sample_annotation", lambda rows: rows[1].update(nonsense))
    change(dataset, "sample_annotation", lambda rows: rows[1].pop("num_lidar_pts"))
    change(dataset, "sample_annotation", lambda rows: rows[0].update(next=""))
    change(dataset, "sample_annotation", lambda rows: rows[2].update(prev=""))
    assert read(dataset).boxes.sample.tolist() == [0, 2]


@pytest.mark.parametrize("shift", [0.4, 0.25])
def test_fractions_of_a_microsecond_count(dataset: Any, shift: float):
    def later(rows: list[dict[str, Any]]) -> None:
        for row in rows:
            row["timestamp"] += shift

    change(dataset, "sample", later)
    assert read(dataset).samples.timestamp_us.tolist() == [shift, 500_000 + shift, 1_000_000 + shift]


def test_cameras_are_not_looked_at(dataset: Any):
    change(dataset, "sample_data", lambda rows: rows[1].update(width=None, ego_pose_token="zz"))
    change(dataset, "sensor", lambda rows: rows[1].pop("channel") and rows[1].update(channel="", modality=5))
    assert len(read(dataset).boxes) == 3


def test_evaluation_needs_no_torch():
    code = (
        "import sys; sys.modules['torch'] = None; import syncl.evaluation, syncl.data.nuscenes.index; "
        "import syncl.evaluation.metric_tables, syncl.evaluation.failures"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_second_reading_is_from_the_cache(dataset: Any, monkeypatch: pytest.MonkeyPatch):
    first = read(dataset)
    monkeypatch.setattr("syncl.data.nuscenes.index.build_scene_columns", lambda _: pytest.fail("rebuilt"))
    again = read(dataset)
    for name, column in vars(first.boxes).items():
        np.testing.assert_array_equal(getattr(again.boxes, name), column, err_msg=name)
    assert again.samples.tokens == first.samples.tokens


def test_missing_tables_and_folders(dataset: Any):
    (dataset.root / "v1.0-mini" / "ego_pose.json").unlink()
    with pytest.raises(SynclError, match=r"ego_pose\.json: this table is missing"):
        read(dataset)
    with pytest.raises(SynclError, match=r"no version 'v1.0-trainval'; it holds v1.0-mini; check"):
        read_ground_truth(dataset.root, "v1.0-trainval", "val")


def test_boxes_in_bicycle_racks_are_dropped():
    from syncl.evaluation.arrays import EvaluationBoxes, GroundTruth, Racks, Samples
    from syncl.evaluation.filtering import evaluated_boxes

    samples = Samples(("s0", "s1"), np.zeros(2, int), np.arange(2), np.zeros((2, 2)))
    # A rack 2 m wide and 6 m long that points along y.
    racks = Racks(
        sample=np.array([0]),
        centre=np.array([[10.0, 0.0, 1.0]]),
        size=np.array([[2.0, 6.0, 2.0]]),
        rotation=np.array([[1.0, 0.0, 0.0, 1.0]]),
    )
    rows = [
        ("bicycle", 0, (10, 2.5, 1)),
        ("motorcycle", 0, (10.9, -2.9, 0.1)),
        ("bicycle", 0, (12.5, 0, 1)),
        ("bicycle", 0, (10, 0, 2.5)),
        ("car", 0, (10, 0, 1)),
        ("bicycle", 1, (10, 0, 1)),
    ]
    count = len(rows)
    sample = np.array([row[1] for row in rows])
    boxes = EvaluationBoxes(
        sample=sample,
        label=np.array([DETECTION_CLASSES.index(row[0]) for row in rows]),
        centre=np.array([row[2] for row in rows], float),
        size=np.ones((count, 3)),
        rotation=np.tile([1.0, 0, 0, 0], (count, 1)),
        velocity=np.zeros((count, 2)),
        points=np.full(count, -1),
        score=np.ones(count),
        attribute=np.full(count, -1),
        identity=np.arange(count),
        matched_sample=sample,
    )
    assert evaluated_boxes(boxes, GroundTruth(samples, boxes, racks)).identity.tolist() == [2, 3, 4, 5]
    # As the official code has it, a rotation of zeros makes a rack hold everything in its sample.
    racks = replace(racks, rotation=np.zeros((1, 4)))
    assert evaluated_boxes(boxes, GroundTruth(samples, boxes, racks)).identity.tolist() == [4, 5]
