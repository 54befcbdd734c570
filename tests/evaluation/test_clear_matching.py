"""The array matcher against a plain restatement that goes frame by frame, threshold by threshold."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import linear_sum_assignment

from syncl.evaluation.arrays import EvaluationBoxes
from syncl.evaluation.clear_matching import match_tracks
from syncl.evaluation.clear_metrics import clear_metrics
from syncl.evaluation.track_building import TrackBoxes, build_tracks, order_frames
from syncl.evaluation.track_pairs import close_pairs


def crowd(toy: Callable[..., Any], seed: int, duplicates: bool) -> Any:
    """Dense scenes on a coarse grid: many rivals, many exact ties, ids that jump between objects."""
    rng = np.random.default_rng(seed)
    scene = toy(frames=8, scenes=3)
    for sample in range(24):
        for number in range(6):
            x = 2.0 * number + rng.integers(3) / 2
            if rng.random() < 0.9:
                scene.annotate("car", sample, x, id=(sample // 8, number))
            for copy in range(2):
                if rng.random() < 0.6:
                    name = (
                        int(rng.integers(6))
                        if duplicates
                        else 2 * ((number + int(rng.random() < 0.1)) % 6) + copy
                    )
                    if duplicates or all(b["sample"] != sample or b["id"] != name for b in scene.found):
                        y = rng.integers(-1, 2) / 2
                        scene.find("car", sample, x + rng.integers(-2, 3) / 2, y, id=name, score=rng.random())
    return scene


def plain_matching(
    truth: TrackBoxes, guesses: TrackBoxes, frames: int, scene: np.ndarray, threshold: float
) -> dict[str, float]:
    counts = {"tp": 0, "ids": 0, "fn": 0, "fp": 0, "distance": 0.0, "frames": 0}
    partner: dict[tuple[int, int], int] = {}
    for frame in range(frames):
        objects = np.flatnonzero(truth.frame == frame).tolist()
        present = np.flatnonzero((guesses.frame == frame) & (guesses.score >= threshold)).tolist()
        if not objects and not present:
            continue
        counts["frames"] += 1
        distance = np.linalg.norm(truth.xy[objects][:, None] - guesses.xy[present][None], axis=-1)
        free_objects, free_guesses = list(range(len(objects))), list(range(len(present)))
        for row in range(len(objects)):
            last = partner.get((int(scene[frame]), int(truth.track[objects[row]])))
            same = [column for column in free_guesses if guesses.track[present[column]] == last]
            if same and distance[row, same[0]] < 2:
                free_objects.remove(row)
                free_guesses.remove(same[0])
                counts["tp"] += 1
                counts["distance"] += float(distance[row, same[0]])
        allowed = np.zeros(distance.shape, bool)
        allowed[np.ix_(free_objects, free_guesses)] = True
        allowed &= distance < 2
        if allowed.any():
            large = 2 * min(distance.shape) * (distance[allowed].max() + 1) + 1
            rows, columns = linear_sum_assignment(np.where(allowed, distance, large))
            for row, column in zip(rows, columns):
                if allowed[row, column]:
                    key = (int(scene[frame]), int(truth.track[objects[row]]))
                    track = int(guesses.track[present[column]])
                    counts["ids" if partner.get(key, track) != track else "tp"] += 1
                    counts["distance"] += float(distance[row, column])
                    partner[key] = track
                    free_objects.remove(row)
                    free_guesses.remove(column)
        counts["fn"] += len(free_objects)
        counts["fp"] += len(free_guesses)
    return counts


@pytest.mark.parametrize("duplicates", [False, True])
@pytest.mark.parametrize("seed", range(6))
def test_matcher_equals_plain_restatement(toy: Callable[..., Any], seed: int, duplicates: bool):
    scene = crowd(toy, seed, duplicates)
    frames = order_frames(scene.samples())
    boxes: tuple[EvaluationBoxes, EvaluationBoxes] = (scene.ground_truth().boxes, scene.results())
    truth = build_tracks(boxes[0], frames, average_scores=False)
    guesses = build_tracks(boxes[1], frames, average_scores=True)
    thresholds = np.quantile(guesses.score, [0, 0.2, 0.5, 0.6, 0.8, 0.95])
    pairs = close_pairs(truth, guesses, frames)
    metrics = clear_metrics(
        pairs, match_tracks(pairs, truth, guesses, thresholds), truth, guesses, thresholds
    )
    for column, threshold in enumerate(thresholds):
        plain = plain_matching(truth, guesses, len(frames), frames.scene, threshold)
        found = {name: metrics[name][column] for name in ("tp", "ids", "fn", "fp")}
        assert found == {name: plain[name] for name in found}
        assert metrics["motp"][column] == pytest.approx(plain["distance"] / (plain["tp"] + plain["ids"]))
        assert metrics["faf"][column] == pytest.approx(100 * plain["fp"] / plain["frames"])


def test_thresholds_do_not_influence_each_other(toy: Callable[..., Any]):
    scene = crowd(toy, 11, duplicates=False)
    frames = order_frames(scene.samples())
    truth = build_tracks(scene.ground_truth().boxes, frames, average_scores=False)
    guesses = build_tracks(scene.results(), frames, average_scores=True)
    pairs = close_pairs(truth, guesses, frames)
    thresholds = np.array([0.1, 0.4, 0.5])
    together = match_tracks(pairs, truth, guesses, thresholds)
    for column in range(3):
        alone = match_tracks(pairs, truth, guesses, thresholds[column : column + 1])
        assert (alone.matched[:, 0] == together.matched[:, column]).all()
        assert (alone.switched[:, 0] == together.switched[:, column]).all()
