"""HOTA against its definition, pair by pair, and by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from syncl.evaluation import tracking_metrics
from syncl.evaluation.hota import ALPHAS

ToyMaker = Callable[..., Any]


def test_perfect_tracks(toy: ToyMaker):
    scene = toy(frames=3)
    for frame in range(3):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 10, id="a")
    hota = tracking_metrics(scene.results(), scene.ground_truth()).hota["car"]
    assert (hota.hota, hota.det_a, hota.ass_a) == (1, 1, 1)
    assert hota.loc_a == pytest.approx(1, abs=1e-4)


def test_a_switch_halfway_halves_association(toy: ToyMaker):
    scene = toy(frames=4)
    for frame in range(4):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 10.5, id="a" if frame < 2 else "b")
    hota = tracking_metrics(scene.results(), scene.ground_truth()).hota["car"]
    # Similarity 1 - 0.5 / 2 = 0.75: matched at the alphas 0.05 to 0.75.
    matched = (ALPHAS <= 0.75 + 1e-9).sum()
    assert matched == 15
    assert hota.det_a == pytest.approx(15 / 19)
    assert hota.ass_a == pytest.approx(0.5 * 15 / 19)
    assert hota.hota == pytest.approx(np.sqrt(0.5) * 15 / 19)
    assert hota.loc_a == pytest.approx((15 * 0.75 + 4) / 19)


def test_misses_and_false_positives_lower_detection(toy: ToyMaker):
    scene = toy(frames=4)
    for frame in range(4):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 10 if frame < 2 else 30, id="a")
    hota = tracking_metrics(scene.results(), scene.ground_truth()).hota["car"]
    assert hota.det_a == pytest.approx(2 / 6)
    assert hota.ass_a == pytest.approx(2 / 6)


def test_the_track_that_fits_longer_wins_an_object(toy: ToyMaker):
    scene = toy(frames=5)
    for frame in range(5):
        scene.annotate("car", frame, 10)
        scene.find("car", frame, 10.6, id="a")
    # Nearer for one frame, but a stranger to the object.
    scene.find("car", 2, 10.4, id="b")
    hota = tracking_metrics(scene.results(), scene.ground_truth()).hota["car"]
    assert hota.loc_a == pytest.approx((14 * 0.7 + 5) / 19)


def test_nan_without_ground_truth_and_zero_without_matches(toy: ToyMaker):
    scene = toy(frames=1)
    scene.annotate("bus", 0, 10)
    metrics = tracking_metrics(scene.results(), scene.ground_truth())
    assert np.isnan(metrics.hota["car"].hota)
    assert metrics.hota["bus"].hota == 0
    assert np.isnan(metrics.hota["bus"].loc_a)
    assert metrics.hota_means()["hota"] == 0
