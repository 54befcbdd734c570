"""Result files: the official format, by hand."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest

from syncl.data.frame_objects import FrameObjects
from syncl.data.nuscenes.index import open_nuscenes
from syncl.data.nuscenes.results.result_files import read_frame_objects
from syncl.data.nuscenes.results.submission import DetectionSubmission, TrackingSubmission, attribute_of
from syncl.errors import SynclError
from syncl.geometry.poses import quaternion_from_yaw, rigid_from_pose

# At (100, 200), facing global +y.
POSE = rigid_from_pose(np.array([100.0, 200, 0]), quaternion_from_yaw(np.pi / 2))
CAR = [10.0, 2, 1, 4.5, 1.9, 1.6, 0.0, 8, 0]


def boxes(count: int) -> np.ndarray:
    rows = np.tile(CAR, (count, 1))
    rows[:, 1] = np.linspace(-20, 20, count)
    return rows


def reported(
    rows: Any, names: Sequence[str], scores: Any, identities: Any = None, forecasts: Any = None
) -> FrameObjects:
    texts = ("",) * len(rows) if identities is None else tuple(map(str, identities))
    return FrameObjects(rows, tuple(names), scores, texts, forecasts)


def saved(submission: Any, path: Path) -> dict[str, Any]:
    submission.save(path)
    return orjson.loads(path.read_bytes())


def test_tracking_entry_by_hand(tmp_path: Path) -> None:
    submission = TrackingSubmission(["s0", "s1"])
    submission.add("s0", reported(np.array([CAR]), ["car"], np.array([0.75]), [7]), POSE)
    submission.add("s1", FrameObjects.empty(), POSE)
    content = saved(submission, tmp_path / "results.json")
    assert content["meta"] == {
        "use_camera": True,
        "use_lidar": False,
        "use_radar": False,
        "use_map": False,
        "use_external": False,
    }
    assert list(content["results"]) == ["s0", "s1"] and content["results"]["s1"] == []
    (entry,) = content["results"]["s0"]
    half = np.sqrt(0.5)
    np.testing.assert_allclose(entry.pop("translation"), [98, 210, 1], atol=1e-9)
    np.testing.assert_allclose(entry.pop("rotation"), [half, 0, 0, half], atol=1e-9)
    np.testing.assert_allclose(entry.pop("velocity"), [0, 8], atol=1e-9)
    assert entry == {
        "sample_token": "s0",
        "size": [1.9, 4.5, 1.6],
        "tracking_id": "7",
        "tracking_name": "car",
        "tracking_score": 0.75,
    }


def test_forecasts_travel_with_their_boxes_in_the_global_frame(tmp_path: Path) -> None:
    submission = TrackingSubmission(["s0", "s1"], forecast_step_s=0.5)
    # Two cars, the first of which is too far away to be written.
    rows = np.array([CAR, CAR])
    rows[0, 0] = 60
    ahead = np.array([[[64.0, 2], [68, 2]], [[14, 2], [18, 3]]])
    submission.add("s0", reported(rows, ["car", "car"], np.ones(2), [3, 7], ahead), POSE)
    submission.add("s1", reported(np.zeros((0, 9)), [], np.zeros(0), [], np.zeros((0, 2, 2))), POSE)
    content = saved(submission, tmp_path / "results.json")
    assert content["meta"]["forecast_step_s"] == 0.5
    (entry,) = content["results"]["s0"]
    assert entry["tracking_id"] == "7"
    np.testing.assert_allclose(entry["forecast"], [[98, 214], [97, 218]], atol=1e-9)
    back = read_frame_objects(tmp_path / "results.json")
    np.testing.assert_allclose(back["s0"].forecasts, [[[98, 214], [97, 218]]], atol=1e-9)
    assert len(back["s1"].forecasts) == 0
    for forecasts, message in (
        (None, "no forecasts, and the file is to have a forecast_step_s"),
        (np.zeros((1, 2, 2)), r"forecasts: shape \(1, 2, 2\), expected \(2, F, 2\)"),
        (np.full((2, 2, 2), np.inf), "box 0: its forecast is not finite"),
    ):
        other = TrackingSubmission(["s0"], forecast_step_s=0.5)
        with pytest.raises(SynclError, match=message):
            other.add("s0", reported(rows, ["car", "car"], np.ones(2), [3, 7], forecasts), POSE)
    with pytest.raises(SynclError, match="forecasts without a forecast_step_s"):
        TrackingSubmission(["s0"]).add("s0", reported(rows, ["car"] * 2, np.ones(2), [3, 7], ahead), POSE)


def test_a_tilted_vehicle_lifts_forecasts_like_boxes(tmp_path: Path) -> None:
    tilted = rigid_from_pose(np.array([1.0, 2, 3]), np.array([0.9, 0.3, -0.2, 0.1]) / np.sqrt(0.95))
    submission = TrackingSubmission(["s"], forecast_step_s=0.5)
    submission.add("s", reported(np.array([CAR]), ["car"], np.ones(1), [7], np.array([[CAR[:2]]])), tilted)
    (entry,) = saved(submission, tmp_path / "results.json")["results"]["s"]
    np.testing.assert_allclose(entry["forecast"], [entry["translation"][:2]], atol=1e-9)


def test_detection_keeps_ten_classes_and_tracking_seven(tmp_path: Path) -> None:
    names = ["car", "barrier", "traffic_cone", "construction_vehicle", "pedestrian"]
    rows = boxes(5)
    rows[:, 1] = 0
    detection, tracking = DetectionSubmission(["s"]), TrackingSubmission(["s"])
    detection.add("s", reported(rows, names, np.full(5, 0.5)), POSE)
    tracking.add("s", reported(rows, names, np.full(5, 0.5), range(5)), POSE)
    found = saved(detection, tmp_path / "d.json")["results"]["s"]
    assert [entry["detection_name"] for entry in found] == names
    assert [entry["attribute_name"] for entry in found] == [
        "vehicle.moving",
        "",
        "",
        "vehicle.moving",
        "pedestrian.moving",
    ]
    assert all("tracking_id" not in entry for entry in found)
    found = saved(tracking, tmp_path / "t.json")["results"]["s"]
    assert [entry["tracking_name"] for entry in found] == ["car", "pedestrian"]


@pytest.mark.parametrize(
    ("name", "speed", "attribute"),
    [
        ("car", 0.3, "vehicle.moving"),
        ("car", 0.2, "vehicle.parked"),
        ("bus", 0.1, "vehicle.stopped"),
        ("trailer", 0.0, "vehicle.parked"),
        ("pedestrian", 0.1, "pedestrian.standing"),
        ("pedestrian", 1.0, "pedestrian.moving"),
        ("bicycle", 3.0, "cycle.with_rider"),
        ("motorcycle", 0.0, "cycle.without_rider"),
        ("barrier", 0.0, ""),
        ("traffic_cone", 1.0, ""),
    ],
)
def test_attributes(name: str, speed: float, attribute: str) -> None:
    assert attribute_of(name, speed) == attribute


def test_at_most_500_boxes_the_best_ones_in_order(tmp_path: Path) -> None:
    scores = np.random.default_rng(0).permutation(600) / 600
    submission = TrackingSubmission(["s"])
    submission.add("s", reported(boxes(600), ["car"] * 600, scores, range(600)), POSE)
    found = saved(submission, tmp_path / "r.json")["results"]["s"]
    assert len(found) == 500
    kept = [int(entry["tracking_id"]) for entry in found]
    assert kept == sorted(kept)
    assert set(kept) == set(np.argsort(-scores)[:500].tolist())


def test_boxes_beyond_their_class_range_are_dropped_unless_kept(tmp_path: Path) -> None:
    rows = np.tile(CAR, (4, 1))
    rows[:, 0], rows[:, 1] = [49.9, 50.1, 39.9, 40.1], 0
    names = ["car", "car", "pedestrian", "pedestrian"]

    def kept(limit_range: bool, path: Path, **poses: Any) -> list[str]:
        submission = TrackingSubmission(["s"], limit_range=limit_range)
        submission.add("s", reported(rows, names, np.ones(4), range(4)), POSE, **poses)
        return [entry["tracking_id"] for entry in saved(submission, path)["results"]["s"]]

    assert kept(True, tmp_path / "a.json") == ["0", "2"]
    assert kept(False, tmp_path / "b.json") == ["0", "1", "2", "3"]
    # Measured from an ego frame a metre ahead of the vehicle frame all are near enough.
    ahead = POSE @ rigid_from_pose(np.array([1.0, 0, 0]), np.array([1.0, 0, 0, 0]))
    assert kept(True, tmp_path / "c.json", global_from_ego=ahead) == ["0", "1", "2", "3"]


def test_unknown_velocity_is_written_as_zero(tmp_path: Path) -> None:
    row = np.array([CAR])
    row[0, 7:] = np.nan
    submission = DetectionSubmission(["s"])
    submission.add("s", reported(row, ["car"], np.ones(1)), POSE)
    (entry,) = saved(submission, tmp_path / "r.json")["results"]["s"]
    assert entry["velocity"] == [0, 0] and entry["attribute_name"] == "vehicle.parked"


def spoilt(column: int, value: float) -> np.ndarray:
    rows = boxes(2)
    rows[1, column] = value
    return rows


@pytest.mark.parametrize(
    ("rows", "scores", "identities", "message"),
    [
        (spoilt(0, np.nan), [1, 1], [0, 1], "row 1 is not finite"),
        (spoilt(4, 0.0), [1, 1], [0, 1], "row 1 has size"),
        (spoilt(5, np.inf), [1, 1], [0, 1], "row 1 is not finite"),
        (spoilt(6, np.inf), [1, 1], [0, 1], "row 1 is not finite"),
        (boxes(2), [1, np.nan], [0, 1], r"sample 's', box 1 \(truck\): bad score"),
        (boxes(2), [1, -0.1], [0, 1], "bad score"),
        (boxes(2), [1], [0, 1], "differ in number"),
        (boxes(2)[:, :7], [1, 1], [0, 1], r"shape \(2, 7\), expected \(N, 9\)"),
        (boxes(2), [1, 1], [3, 3], "identity 3 occurs more than once"),
        (boxes(2), [1, 1], ["", 3], "no identity"),
        (boxes(2), [1, 1], [3], "differ in number"),
    ],
)
def test_impossible_boxes_are_refused(
    rows: np.ndarray, scores: list[float], identities: list[Any], message: str
) -> None:
    with pytest.raises(SynclError, match=message):
        objects = reported(rows, ["car", "truck"], np.array(scores), identities)
        TrackingSubmission(["s"]).add("s", objects, POSE)


def test_every_sample_once(tmp_path: Path) -> None:
    submission = TrackingSubmission(["s0", "s1"])
    nothing = FrameObjects.empty(), POSE
    submission.add("s0", *nothing)
    with pytest.raises(SynclError, match="sample 's0' was added twice"):
        submission.add("s0", *nothing)
    with pytest.raises(SynclError, match="sample 'other' is not one of the 2"):
        submission.add("other", *nothing)
    with pytest.raises(SynclError, match=r"1 of 2 samples have no result \(the first is 's1'\)"):
        submission.save(tmp_path / "r.json")
    assert not list(tmp_path.iterdir())


def test_earlier_results_are_not_overwritten_unless_asked(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text("precious")
    submission = TrackingSubmission([])
    with pytest.raises(SynclError, match="already exists"):
        submission.save(path)
    assert path.read_text() == "precious"
    submission.save(path, overwrite=True)
    assert orjson.loads(path.read_bytes())["results"] == {}


def test_annotations_come_back_as_they_are_in_the_tables(tiny_root: Path, tmp_path: Path) -> None:
    """Tables -> vehicle frame -> result file -> reader gives the tables' own global boxes."""
    index = open_nuscenes(tiny_root, "v1.0-mini", cache=False, vehicle_frame="lidar")
    sample = index.sample(1)
    rows = np.flatnonzero(sample.annotations.labels >= 0)
    submission = TrackingSubmission([sample.token])
    submission.add(
        sample.token,
        reported(
            sample.annotations.boxes[rows],
            ["car", "truck", "pedestrian"],
            np.array([0.9, 0.8, 0.7]),
            sample.annotations.identities[rows],
        ),
        sample.global_from_vehicle,
        sample.global_from_ego,
    )
    submission.save(tmp_path / "r.json")
    back = read_frame_objects(tmp_path / "r.json")[sample.token]
    assert back.classes == ("car", "truck", "pedestrian") and back.identities == ("0", "1", "2")
    np.testing.assert_array_equal(back.scores, [0.9, 0.8, 0.7])
    expected = [
        [100, 215, 0.8, 4.6, 1.9, 1.6, np.pi / 2, 0, 10],
        [92, 200, 1.5, 7.0, 2.5, 3.0, np.pi, 0, 0],
        [105, 205, 0.9, 0.7, 0.6, 1.8, 0, 0, 0],
    ]
    found = back.boxes.copy()
    found[1, 6] = abs(found[1, 6])
    np.testing.assert_allclose(found, expected, atol=1e-9)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "truncated JSON"),
        ("[]", "field 'results' must be an object"),
        ('{"results": []}', "field 'results' must be an object"),
        ('{"results": {"s": 3}}', "sample 's' are not a list of boxes"),
        ('{"results": {"s": [{"tracking_name": "car"}]}}', "sample 's', box 0: no field 'translation'"),
        (
            '{"results": {"s": [{"translation": [1, "x", 2]}]}}',
            "field 'translation' does not hold numbers",
        ),
    ],
)
def test_damaged_result_files(content: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(content)
    with pytest.raises(SynclError, match=message):
        read_frame_objects(path)
    with pytest.raises(SynclError, match=r"cannot be read \(No such file"):
        read_frame_objects(tmp_path / "none.json")


def test_unknown_velocities_of_other_writers_are_read(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text(
        '{"results": {"s": [{"translation": [1, 2, 3], "size": [1, 2, 3], "rotation": [1, 0, 0, 0], '
        '"velocity": [NaN, NaN], "detection_name": "car", "detection_score": 1}]}}'
    )
    np.testing.assert_array_equal(
        read_frame_objects(path)["s"].boxes, [[1, 2, 3, 2, 1, 3, 0, np.nan, np.nan]]
    )


def test_reading_a_sample_without_boxes(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    path.write_text('{"meta": {}, "results": {"s": []}}')
    assert read_frame_objects(path)["s"].boxes.shape == (0, 9)
