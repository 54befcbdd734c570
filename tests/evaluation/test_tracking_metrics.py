"""Tracking metrics of scenes small enough to be worked out by hand."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from syncl.dataset_description import NUSCENES
from syncl.errors import SynclError
from syncl.evaluation import TrackingMetrics, tracking_metrics
from syncl.evaluation.constants import TRACKING_METRICS

ToyMaker = Callable[..., Any]


def car_metrics(toy: Any) -> dict[str, float]:
    metrics = evaluate(toy)
    return {name: values["car"] for name, values in metrics.label_metrics.items()}


def evaluate(toy: Any) -> TrackingMetrics:
    return tracking_metrics(toy.results(), toy.ground_truth())


def test_a_perfect_track_with_a_hole_scores_one(toy: ToyMaker):
    scene = toy(frames=5)
    for frame in range(5):
        scene.annotate("car", frame, 10)
        if frame != 2:
            scene.find("car", frame, 10.5, id="a")
    car = car_metrics(scene)
    assert car["amota"] == 1
    assert car["amotp"] == pytest.approx(0.5)
    assert (car["tp"], car["fp"], car["fn"], car["ids"], car["gt"]) == (5, 0, 0, 0, 5)
    assert (car["mt"], car["ml"], car["tid"], car["lgd"], car["frag"]) == (1, 0, 0, 0, 0)


def test_an_identity_switch_is_no_true_positive(toy: ToyMaker):
    scene = toy(frames=5)
    for frame in range(5):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 11, id="a" if frame < 2 else "b", score=0.9 if frame < 2 else 0.8)
    car = car_metrics(scene)
    assert (car["tp"], car["ids"], car["fn"], car["fp"]) == (4, 1, 0, 0)
    assert car["mota"] == pytest.approx(0.8)
    assert car["recall"] == 1
    # Four matches of five objects: recall 0.8 is the highest achieved, 31 of the 40 thresholds.
    assert car["amota"] == pytest.approx(31 / 40)
    assert car["amotp"] == pytest.approx((31 * 1.0 + 9 * 2.0) / 40)


def test_fragmentation_and_gaps(toy: ToyMaker):
    scene = toy(frames=5)
    for frame in range(5):
        scene.annotate("car", frame, 10)
    scene.find("car", 1, 10, id="a")
    scene.find("car", 2, 15, id="a")
    scene.find("car", 3, 10, id="a")
    car = car_metrics(scene)
    assert (car["tp"], car["fn"], car["fp"]) == (2, 3, 1)
    assert car["frag"] == 1
    assert (car["tid"], car["lgd"]) == (0.5, 0.5)
    assert (car["mt"], car["ml"]) == (0, 0)
    assert car["faf"] == pytest.approx(100 / 5)
    assert car["mota"] == pytest.approx(1 - 4 / 5)


def test_longest_gap_counts_the_end_of_a_track(toy: ToyMaker):
    scene = toy(frames=6)
    for frame in range(6):
        scene.annotate("car", frame, 10)
    for frame in (1, 2):
        scene.find("car", frame, 10, id="a")
    car = car_metrics(scene)
    assert (car["tid"], car["lgd"], car["frag"]) == (0.5, 1.5, 0)


def test_filled_boxes_carry_the_official_mix_up_of_weights(toy: ToyMaker):
    scene = toy(frames=4)
    for frame in range(4):
        scene.annotate("car", frame, 10 + 3 * frame)
    # Filled boxes at frames 1 and 2 are put at 16 and 13 instead of 13 and 16: too far to match.
    scene.find("car", 0, 10, id="a")
    scene.find("car", 3, 19, id="a")
    car = car_metrics(scene)
    assert (car["tp"], car["fn"], car["fp"]) == (2, 2, 2)


def test_frames_without_anything_of_a_class_are_not_counted(toy: ToyMaker):
    scene = toy(frames=10)
    for frame in (0, 1):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 10, id="a")
    scene.find("car", 9, 30, id="b", score=0.5)
    assert car_metrics(scene)["faf"] == 0
    scene.found[-1]["score"] = 0.95
    # Both tracks pass now: one false positive in three counted frames.
    assert car_metrics(scene)["faf"] == pytest.approx(100 / 3)


def test_class_without_ground_truth_is_nan_and_left_out(toy: ToyMaker):
    scene = toy(frames=2)
    for frame in range(2):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 10, id="a")
        scene.find("bus", frame, 20, id="b")
    metrics = evaluate(scene)
    for metric in TRACKING_METRICS:
        assert np.isnan(metrics.label_metrics[metric]["bus"]), metric
    assert metrics.amota == 1
    assert metrics.overall("fp") == 0


def test_class_without_predictions_gets_the_fill_values(toy: ToyMaker):
    scene = toy(frames=3)
    for frame in range(3):
        scene.annotate("car", frame, 10, id="a")
        scene.annotate("car", frame, 20, id="b")
    scene.find("bus", 0, 10)
    car = car_metrics(scene)
    expected = {"amota": 0, "amotp": 2, "recall": 0, "motar": 0, "mota": 0, "motp": 2, "faf": 500}
    assert {metric: car[metric] for metric in expected} == expected
    assert (car["gt"], car["fn"], car["tp"], car["mt"], car["ml"]) == (6, 6, 0, 0, 2)
    assert (car["tid"], car["lgd"]) == (20, 20)
    assert all(np.isnan(car[metric]) for metric in ("fp", "ids", "frag"))


def test_no_predictions_at_all(toy: ToyMaker):
    scene = toy(frames=2)
    for frame in range(2):
        scene.annotate("pedestrian", frame, 5)
    metrics = evaluate(scene)
    assert (metrics.amota, metrics.amotp, metrics.overall("tp"), metrics.overall("fn")) == (0, 2, 0, 2)


def test_nothing_at_all_is_nan(toy: ToyMaker):
    metrics = evaluate(toy(frames=2))
    assert np.isnan(metrics.amota)
    assert metrics.overall("tp") == 0


def test_the_score_of_a_track_is_its_mean_over_all_classes(toy: ToyMaker):
    scene = toy(frames=3)
    for frame in range(3):
        scene.annotate("car", frame, 10)
        scene.find("car" if frame < 2 else "truck", frame, 10, id="a", score=(0.9, 0.6, 0.3)[frame])
    curve = evaluate(scene).curves["car"]
    assert np.nanmax(curve.confidence) == pytest.approx(0.6)
    # The truck box is not among the two matches of three objects.
    assert car_metrics(scene)["tp"] == 2


def test_one_frame_tracks_switch_every_time(toy: ToyMaker):
    scene = toy(frames=4)
    for frame in range(4):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 10, id=frame)
    car = car_metrics(scene)
    assert (car["tp"], car["ids"]) == (1, 3)
    assert car["mota"] == pytest.approx(0.25)


def test_old_partners_are_never_forgotten(toy: ToyMaker):
    scene = toy(frames=5)
    for frame in range(5):
        scene.annotate("car", frame, 10)
    scene.find("car", 0, 10, id="a")
    # The nearer newcomer loses to the partner of four frames ago.
    scene.find("car", 4, 11.5, id="a")
    scene.find("car", 4, 10, id="b")
    for frame in (1, 2, 3):
        scene.find("car", frame, 40, id="a")
    car = car_metrics(scene)
    assert car["ids"] == 0
    assert car["motp"] == pytest.approx(0.75)


def test_the_first_object_keeps_a_track_that_two_objects_had(toy: ToyMaker):
    scene = toy(frames=3)
    for frame in range(3):
        scene.annotate("car", frame, 10, id="first")
        scene.annotate("car", frame, 13, id="second")
    scene.find("car", 0, 10, id="a")
    scene.find("car", 1, 13, id="a")
    # Near enough to both; nearer to the second.
    scene.find("car", 2, 11.9, id="a")
    curve = evaluate(scene)
    car = {name: values["car"] for name, values in curve.label_metrics.items()}
    assert (car["tp"], car["ids"]) == (3, 0)
    assert car["motp"] == pytest.approx(1.9 / 3)


def test_cardinality_comes_before_distance(toy: ToyMaker):
    scene = toy(frames=1)
    scene.annotate("car", 0, 10, id="first")
    scene.annotate("car", 0, 12, id="second")
    # The first prediction lies on the second object, but the other one can only reach the second.
    scene.find("car", 0, 11.8, id="a")
    scene.find("car", 0, 13.5, id="b")
    car = car_metrics(scene)
    assert (car["tp"], car["fn"]) == (2, 0)
    assert car["motp"] == pytest.approx((1.8 + 1.5) / 2)


def test_the_same_id_in_two_scenes_is_two_tracks(toy: ToyMaker):
    scene = toy(frames=2, scenes=2)
    for sample in range(4):
        scene.annotate("car", sample, 10, id=f"object {sample // 2}")
        scene.find("car", sample, 10, id="a", score=0.9 if sample < 2 else 0.5)
    metrics = evaluate(scene)
    confidence = metrics.curves["car"].confidence
    assert (np.nanmax(confidence), np.nanmin(confidence)) == (0.9, 0.5)
    assert metrics.label_metrics["ids"]["car"] == 0


def test_ids_that_occur_twice_in_a_frame(toy: ToyMaker):
    scene = toy(frames=3)
    for frame in range(3):
        for number in range(4):
            scene.annotate("car", frame, 5 * number, id=number)
        scene.find("car", frame, 0.5, id="a")
        scene.find("car", frame, 5, id="a")
        scene.find("car", frame, 10, id="b")
    car = car_metrics(scene)
    # At frame 1 the first object keeps "a" through its first box, the second object through the second.
    assert (car["tp"], car["ids"], car["fn"]) == (9, 0, 3)


def test_ids_that_occur_too_often_are_an_error(toy: ToyMaker):
    scene = toy(frames=1)
    scene.annotate("car", 0, 10)
    scene.find("car", 0, 10, id="a")
    scene.find("car", 0, 20, id="a")
    with pytest.raises(SynclError, match=r"'tracking_id': 2 boxes of class car .* such as sample-0"):
        evaluate(scene)


def test_objects_without_points_or_out_of_range_come_back_inside_a_track(toy: ToyMaker):
    scene = toy(frames=4)
    for frame, points in enumerate((5, 0, 5, 0)):
        scene.annotate("car", frame, 10, points=points)
        scene.find("car", frame, 10, id="a")
    car = car_metrics(scene)
    # The hole in the middle is filled, the end is not: the prediction there is a false positive.
    assert (car["gt"], car["tp"], car["fp"]) == (3, 3, 1)


def test_range_is_exclusive(toy: ToyMaker):
    scene = toy(frames=1)
    scene.annotate("pedestrian", 0, 40, id="at the limit")
    scene.annotate("pedestrian", 0, 39.9, id="within")
    assert evaluate(scene).label_metrics["gt"]["pedestrian"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_order_of_scenes_and_classes_of_other_boxes_do_not_matter(toy: ToyMaker, seed: int):
    rng = np.random.default_rng(seed)
    scene = toy(frames=4, scenes=2)
    for sample in range(8):
        for number in range(3):
            scene.annotate("car", sample, 4 * number, id=(sample // 4, number))
            scene.find("car", sample, 4 * number + rng.normal(), id=rng.integers(4), score=rng.random())
            scene.find(
                "truck", sample, 4 * number + rng.normal(), id=10 + rng.integers(4), score=rng.random()
            )
    before = evaluate(scene)
    scene.found.sort(key=lambda box: box["name"])
    after = evaluate(scene)
    for name in NUSCENES.listed_tracked:
        for metric in TRACKING_METRICS:
            first, second = before.label_metrics[metric][name], after.label_metrics[metric][name]
            assert first == pytest.approx(second, nan_ok=True)


def test_a_map_projections_millions_of_metres_change_nothing(toy: ToyMaker):
    rng = np.random.default_rng(0)
    scene = toy(frames=6, scenes=2)
    for sample in range(12):
        for number in range(6):
            offset = rng.normal(0, 0.7, 2)
            scene.annotate("car", sample, 3 * number, id=number)
            scene.find("car", sample, 3 * number + offset[0], offset[1], id=number, score=rng.random())
    near, tracks = scene.ground_truth(), scene.results()
    away = np.array([500_000.0, 5_000_000.0, 100.0])
    moved = replace(near.boxes, centre=near.boxes.centre + away)
    far = replace(near, boxes=moved, samples=replace(near.samples, ego_xy=near.samples.ego_xy + away[:2]))
    before, after = (
        tracking_metrics(tracks, near),
        tracking_metrics(replace(tracks, centre=tracks.centre + away), far),
    )
    for metric in TRACKING_METRICS:
        first, second = before.label_metrics[metric]["car"], after.label_metrics[metric]["car"]
        assert second == pytest.approx(first, abs=1e-7), metric
    assert after.hota["car"].hota == pytest.approx(before.hota["car"].hota, abs=1e-7)
    perfect = replace(moved, points=tracks.points, score=tracks.score)
    assert tracking_metrics(perfect, far).amotp == 0
