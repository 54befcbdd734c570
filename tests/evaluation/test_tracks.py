from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from syncl.dataset_description import NUSCENES
from syncl.evaluation.track_building import build_tracks, order_frames

ToyMaker = Callable[..., Any]


def test_scores_are_means_within_a_scene_and_fall_by_rounding_in_holes(toy: ToyMaker):
    scene = toy(frames=4, scenes=2, timestamps_us=[0, 500_000, 1_100_000, 1_650_000] * 2)
    scene.find("car", 0, 0, id="a", score=0.31)
    scene.find("car", 3, 0, id="a", score=0.32)
    scene.find("car", 4, 0, id="a", score=0.9)
    tracks = build_tracks(scene.results(), order_frames(scene.samples()), average_scores=True)
    mean = np.mean([0.31, 0.32])
    weights = [(1_650_000 - time) / 1_650_000 for time in (500_000, 1_100_000)]
    filled = [(1.0 - weight) * mean + weight * mean for weight in weights]
    assert tracks.score.tolist() == [mean, *filled, mean, 0.9]
    assert tracks.frame.tolist() == [0, 1, 2, 3, 4]
    assert tracks.track.tolist() == [0, 0, 0, 0, 1]


def test_a_filled_box_leans_to_the_wrong_side_and_takes_the_next_class(toy: ToyMaker):
    scene = toy(frames=4)
    scene.find("car", 0, 0, id="a")
    scene.find("truck", 3, 9, 3, id="a")
    tracks = build_tracks(scene.results(), order_frames(scene.samples()), average_scores=True)
    # The official weights are swapped: 2/3 of the way where 1/3 is due.
    assert tracks.xy == pytest.approx(np.array([[0, 0], [6, 2], [3, 1], [9, 3]]))
    assert len(tracks.of_class(NUSCENES.classes.index("car"))) == 1
    assert len(tracks.of_class(NUSCENES.classes.index("truck"))) == 3


def test_filled_boxes_come_last_in_their_frame_in_the_order_of_their_tracks(toy: ToyMaker):
    scene = toy(frames=3)
    for frame in (0, 2):
        for name, x in (("b", 20), ("a", 10)):
            scene.find("car", frame, x, id=name)
    scene.find("car", 1, 30, id="c")
    tracks = build_tracks(scene.results(), order_frames(scene.samples()), average_scores=True)
    assert tracks.xy[tracks.frame == 1, 0].tolist() == [30, 20, 10]


def test_frames_follow_time_not_the_table(toy: ToyMaker):
    scene = toy(frames=3, timestamps_us=[1_000_000, 0, 500_000])
    assert order_frames(scene.samples()).of_sample.tolist() == [2, 0, 1]


def test_mean_scores_equal_numpy_for_long_tracks(toy: ToyMaker):
    rng = np.random.default_rng(0)
    scene = toy(frames=400)
    scores = {name: rng.random(length) for name, length in (("a", 400), ("b", 129), ("c", 9), ("d", 1))}
    for name, values in scores.items():
        for frame, score in enumerate(values):
            scene.find("car", frame, 0, id=name, score=score)
    tracks = build_tracks(scene.results(), order_frames(scene.samples()), average_scores=True)
    for number, values in enumerate(scores.values()):
        assert set(tracks.score[tracks.track == number]) == {np.mean(list(values))}
