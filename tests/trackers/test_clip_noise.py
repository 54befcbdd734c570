"""How training disturbs the tracks it carries on."""

import torch

from syncl.trackers.clip_noise import ClipNoise

TIED = torch.tensor([[True, True, True, False, False, False, False, False]])
SCORES = torch.tensor([[0.9, 0.5, 0.1, 0.2, 0.8, 0.3, 0.7, 0.6]])
VALID = torch.tensor([[True] * 7 + [False]])


def carried(**changes) -> list[int]:
    noise = ClipNoise(**{"drop_probability": 0.0, "carry_score": 0.0, "false_positive_ratio": 0.0} | changes)
    return noise.carried(TIED, SCORES, VALID)[0].nonzero()[:, 0].tolist()


def test_without_noise_all_that_hold_an_object_are_carried():
    assert carried() == [0, 1, 2]


def test_unsure_queries_are_forgotten():
    assert carried(carry_score=0.25) == [0, 1]
    assert carried(carry_score=0.95) == []


def test_as_many_false_tracks_as_true_ones_are_the_best_scored_valid_rows():
    assert carried(false_positive_ratio=1.0) == [0, 1, 2, 4, 5, 6]
    assert carried(false_positive_ratio=1.0, carry_score=0.25) == [0, 1, 4, 6]


def test_births_by_score_are_all_that_reach_it_whether_they_hold_an_object_or_not():
    assert carried(birth_score=0.3) == [0, 1, 2, 4, 5, 6]
    assert carried(birth_score=0.65, carry_score=0.65) == [0, 4, 6]
    assert carried(birth_score=0.95) == [0, 1, 2]


def test_some_tracks_are_dropped():
    torch.manual_seed(0)
    kept = [carried(drop_probability=0.5) for _ in range(200)]
    share = sum(len(rows) for rows in kept) / 600
    assert 0.4 < share < 0.6
    assert carried(drop_probability=1.0, false_positive_ratio=1.0) == []
