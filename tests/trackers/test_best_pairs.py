"""Decoding of detections: the best (query, class) pairs, then the range."""

import pytest
import torch

from syncl.structures import Predictions
from syncl.trackers.single_frame import best_pairs


def predictions(scores: list[list[float]], centres: list[list[float]]) -> Predictions:
    logits = torch.logit(torch.tensor(scores))[None, None]
    codes = torch.zeros(1, 1, len(scores), 10)
    codes[0, 0, :, :3] = torch.tensor(centres)
    codes[..., 7] = 1
    valid = torch.ones(1, len(scores), dtype=torch.bool)
    return Predictions(logits, codes, torch.zeros(1, 1, len(scores), 1), codes[..., :3], valid, len(scores))


def test_one_query_can_give_several_boxes():
    found = best_pairs(predictions([[0.9, 0.8], [0.1, 0.2]], [[1, 0, 0], [2, 0, 0]]), 3, 50, 10)
    assert found.labels.tolist() == [[0, 1, 1]]
    assert found.boxes[0, :, 0].tolist() == [1, 1, 2]
    torch.testing.assert_close(found.scores, torch.tensor([[0.9, 0.8, 0.2]]))
    assert found.identities.tolist() == [[-1, -1, -1]]


@pytest.mark.parametrize(
    ("centre", "inside"),
    [
        ([50, -50, 10], True),
        ([50.01, 0, 0], False),
        ([0, -50.01, 0], False),
        ([0, 0, -10.01], False),
        ([0, 0, 10.01], False),
    ],
)
def test_the_range_includes_its_limits(centre: list[float], inside: bool):
    assert best_pairs(predictions([[0.5]], [centre]), 1, 50, 10).valid.tolist() == [[inside]]


def test_pairs_out_of_range_take_places():
    found = best_pairs(predictions([[0.9], [0.8], [0.7]], [[99, 0, 0], [1, 0, 0], [2, 0, 0]]), 2, 50, 10)
    assert found.boxes[0, found.valid[0], 0].tolist() == [1]
