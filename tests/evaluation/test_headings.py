"""Heading errors of vehicles, in scenes small enough to be worked out by hand."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from syncl.evaluation.headings import HeadingErrors, heading_errors
from syncl.evaluation.outcomes import track_outcomes

ToyMaker = Callable[..., Any]


def turned(degrees: float) -> tuple[float, float, float, float]:
    half = np.radians(degrees) / 2
    return (np.cos(half), 0.0, 0.0, np.sin(half))


def errors_of(scene: Any, *ego_deg: float) -> HeadingErrors:
    outcomes = track_outcomes(
        scene.results(), scene.ground_truth(), {"car": 0.5, "pedestrian": 0.5, "bus": 0.5}
    )
    return heading_errors(outcomes, np.radians(ego_deg))


def test_errors_and_relative_headings_worked_out_by_hand(toy: ToyMaker):
    scene = toy(frames=1)
    # Heading of the object and of its track; the ego vehicle's is 90 degrees.
    pairs = [(90, 95), (-90, -88), (0, 60), (170, -170), (45, 215)]
    for number, (true, found) in enumerate(pairs):
        scene.annotate("car", 0, 10.0 * number - 20, id=number, rotation=turned(true))
        scene.find("car", 0, 10.0 * number - 20, id=number, rotation=turned(found))
    errors = errors_of(scene, 90)
    np.testing.assert_allclose(errors.relative_deg, [0, 0, 90, 80, 45], atol=1e-9)
    np.testing.assert_allclose(errors.error_deg, [5, 2, 60, 20, 170], atol=1e-9)
    aligned, others = errors.aligned, errors.turned
    assert (aligned.count, aligned.near_share, aligned.half_turns) == (2, 1.0, 0)
    assert aligned.median_deg == pytest.approx(3.5)
    assert (others.count, others.near_share, others.half_turns) == (3, 0.0, 1)
    assert others.median_deg == pytest.approx(60)
    middles, medians = errors.course()
    np.testing.assert_allclose(middles, [7.5, 52.5, 82.5])
    np.testing.assert_allclose(medians, [3.5, 170, 40])


def test_only_vehicles_that_were_found_count(toy: ToyMaker):
    scene = toy(frames=2)
    scene.annotate("car", 0, 10, id="too far", rotation=turned(40))
    scene.find("car", 0, 12.5, id="a")
    scene.annotate("pedestrian", 0, -10, id="on foot", rotation=turned(40))
    scene.find("pedestrian", 0, -10, id="b")
    scene.annotate("bus", 0, 0, 20, id="low score", rotation=turned(40))
    scene.find("bus", 0, 0, 20, id="c", score=0.4)
    scene.annotate("bus", 1, 0, 30, id="found", rotation=turned(40))
    scene.find("bus", 1, 1, 30, id="d", rotation=turned(41))
    scene.annotate("car", 1, 10, id="without heading", rotation=turned(40))
    scene.find("car", 1, 10, id="e", rotation=(0.0, 0.0, 0.0, 0.0))
    errors = errors_of(scene, 0, 20)
    np.testing.assert_allclose(errors.relative_deg, [20])
    np.testing.assert_allclose(errors.error_deg, [1])


def test_of_no_vehicle_nothing_is_known(toy: ToyMaker):
    errors = errors_of(toy(frames=1), 0)
    assert (
        errors.turned.count == 0 and np.isnan(errors.turned.median_deg) and np.isnan(errors.turned.near_share)
    )
    assert not len(errors.course()[0])
