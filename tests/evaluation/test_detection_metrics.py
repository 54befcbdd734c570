"""Detection metrics of frames small enough to be worked out by hand."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from syncl.errors import SynclError
from syncl.evaluation import DetectionMetrics, detection_metrics
from syncl.evaluation.detection_matching import match_greedily, nearby_pairs, ranks_by_score

ToyMaker = Callable[..., Any]


def evaluate(toy: Any) -> DetectionMetrics:
    return detection_metrics(toy.results(), toy.ground_truth())


def test_average_precision_by_hand(toy: ToyMaker):
    frame = toy(frames=1)
    frame.annotate("car", 0, 10)
    frame.annotate("car", 0, 30)
    frame.find("car", 0, 10.3, score=0.9)
    frame.find("car", 0, 10.2, score=0.8)
    metrics = evaluate(frame)
    # Precision 1 at recalls 0.11 to 0.49, 0.5 at recall 0.5 (the last of its plateau), 0 beyond.
    expected = (39 * 0.9 + 0.4) / 90 / 0.9
    assert metrics.label_aps["car"][0.5] == pytest.approx(expected)
    assert metrics.label_errors["car"]["trans_err"] == pytest.approx(0.3)


def test_a_detection_takes_the_nearest_free_object(toy: ToyMaker):
    frame = toy(frames=1)
    frame.annotate("car", 0, 10)
    frame.annotate("car", 0, 13)
    frame.find("car", 0, 10.0, score=0.9)
    # Its nearest object is taken; the next one is near enough at 4 m only.
    frame.find("car", 0, 10.5, score=0.8)
    curves = evaluate(frame).curves
    assert curves["car", 2.0].precision[60] == 0
    assert curves["car", 4.0].precision[100] == 1


def test_of_equal_scores_the_later_one_comes_first(toy: ToyMaker):
    frame = toy(frames=1)
    frame.annotate("car", 0, 10)
    frame.find("car", 0, 10.1, score=0.5)
    frame.find("car", 0, 10.4, score=0.5)
    assert evaluate(frame).label_errors["car"]["trans_err"] == pytest.approx(0.4)
    assert ranks_by_score(np.array([0.5, 0.9, 0.5])).tolist() == [2, 0, 1]


def test_match_distance_is_exclusive(toy: ToyMaker):
    frame = toy(frames=1)
    frame.annotate("car", 0, 10)
    frame.find("car", 0, 12)
    aps = evaluate(frame).label_aps["car"]
    assert (aps[2.0], aps[4.0]) == pytest.approx((0, 1))


def test_errors_by_hand(toy: ToyMaker):
    frame = toy(frames=1)
    turned = (math.cos(0.25), 0.0, 0.0, math.sin(0.25))
    frame.annotate("car", 0, 10, size=(2, 4, 2), velocity=(1, 0), attribute="vehicle.moving")
    frame.find(
        "car", 0, 11, size=(2, 4, 1), velocity=(4, 4), attribute="vehicle.parked", rotation=turned, score=0.5
    )
    errors = evaluate(frame).label_errors["car"]
    assert errors == pytest.approx(
        {"trans_err": 1.0, "scale_err": 0.5, "orient_err": 0.5, "vel_err": 5.0, "attr_err": 1.0}
    )


@pytest.mark.parametrize(("name", "expected"), [("barrier", 0.0), ("car", math.pi)])
def test_barriers_look_the_same_from_behind(toy: ToyMaker, name: str, expected: float):
    frame = toy(frames=1)
    frame.annotate(name, 0, 10)
    frame.find(name, 0, 10, rotation=(0.0, 0.0, 0.0, 3.0))
    assert evaluate(frame).label_errors[name]["orient_err"] == pytest.approx(expected, abs=1e-12)


def test_unknown_velocities_and_attributes_are_left_out(toy: ToyMaker):
    frame = toy(frames=1)
    for number in range(3):
        x = 10.0 * (number + 1)
        attribute = "vehicle.parked" if number == 2 else ""
        frame.annotate("car", 0, x, velocity=(0, 0), attribute=attribute)
        velocity = (float("nan"), 0) if number == 1 else (3, 0)
        frame.find("car", 0, x, velocity=velocity, attribute="vehicle.moving", score=0.9 - 0.1 * number)
    curve = evaluate(frame).curves["car", 2.0]
    assert curve.errors["vel_err"][[20, 60, 100]] == pytest.approx([3, 3, 3])
    # No attribute is known before the third match.
    assert curve.errors["attr_err"][[20, 100]] == pytest.approx([0, 1])


def test_undefined_errors_are_nan(toy: ToyMaker):
    errors = evaluate(toy(frames=1)).label_errors
    assert [name for name, value in errors["traffic_cone"].items() if math.isnan(value)] == [
        "orient_err",
        "vel_err",
        "attr_err",
    ]
    assert [name for name, value in errors["barrier"].items() if math.isnan(value)] == ["vel_err", "attr_err"]


def test_empty_results_score_zero(toy: ToyMaker):
    frame = toy(frames=1)
    frame.annotate("car", 0, 10)
    metrics = evaluate(frame)
    assert (metrics.mean_ap, metrics.nd_score) == (0, 0)
    assert set(metrics.errors.values()) == {1.0}


def test_scores_of_zero_keep_precision_but_void_errors(toy: ToyMaker):
    frame = toy(frames=1)
    frame.annotate("car", 0, 10)
    frame.find("car", 0, 10, score=0.0)
    metrics = evaluate(frame)
    assert metrics.label_aps["car"][0.5] == pytest.approx(1)
    assert metrics.label_errors["car"]["trans_err"] == 1


def test_negative_scores_are_an_error(toy: ToyMaker):
    frame = toy(frames=2)
    frame.annotate("car", 0, 10)
    frame.annotate("car", 1, 10)
    frame.find("car", 1, 10, score=-2.5)
    with pytest.raises(SynclError, match=r"sample sample-1: field 'detection_score' is -2\.5 for a car"):
        evaluate(frame)


def test_nds_by_hand(toy: ToyMaker):
    frame = toy(frames=1)
    for name in ("car", "pedestrian"):
        frame.annotate(name, 0, 10, attribute="vehicle.parked")
        frame.find(name, 0, 10, attribute="vehicle.parked")
    metrics = evaluate(frame)
    assert metrics.mean_ap == pytest.approx(0.2)
    # Eight of ten classes have error 1; fewer classes define the last three errors.
    assert list(metrics.errors.values()) == pytest.approx([0.8, 0.8, 7 / 9, 6 / 8, 6 / 8])
    assert metrics.nd_score == pytest.approx((5 * 0.2 + 0.2 + 0.2 + 2 / 9 + 0.25 + 0.25) / 10)


@pytest.mark.parametrize("seed", range(5))
def test_matching_equals_going_through_detections_one_by_one(seed: int):
    rng = np.random.default_rng(seed)
    samples, truths, detections = 4, 60, 150
    truth_sample, truth_xy = rng.integers(samples, size=truths), rng.integers(-12, 12, (truths, 2)) / 2
    sample = rng.integers(-1, samples, size=detections)
    xy = rng.integers(-12, 12, (detections, 2)) / 2
    score = rng.integers(5, size=detections) / 5
    rank = ranks_by_score(score)
    candidates = nearby_pairs(sample, xy, truth_sample, truth_xy, 4.0)
    for threshold in (0.5, 1.0, 2.0, 4.0):
        matched, distance = match_greedily(candidates, rank, truths, threshold)
        free = set(range(truths))
        for detection in np.argsort(rank):
            options = [
                (float(np.linalg.norm(xy[detection] - truth_xy[truth])), truth)
                for truth in sorted(free)
                if truth_sample[truth] == sample[detection]
            ]
            best = min(options, default=(np.inf, -1))
            if best[0] < threshold:
                free.remove(best[1])
                assert (matched[detection], distance[detection]) == (best[1], pytest.approx(best[0]))
            else:
                assert matched[detection] == -1
