"""The error of each number of the box code against that of its class's median, worked out by hand."""

import numpy as np
import pytest
import torch

from syncl.geometry.boxes import encode_boxes
from syncl.runs.diagnose.box_numbers import box_numbers, numbers_table
from syncl.runs.diagnose.passes import _matched_boxes
from syncl.structures import Annotations, Predictions

NAMES = ["x", "y", "z", "log l", "log w", "log h", "sin", "cos", "vx", "vy"]


def test_ratios_worked_out_by_hand():
    labels = np.array([0, 0, 0, 1, 1, 1])
    truth = np.zeros((6, 10))
    # Class medians are 10 and 0, so the guess is off by (4 + 0 + 2 + 3 + 0 + 3) / 6 = 2.
    truth[:, 0] = [6, 10, 12, -3, 0, 3]
    # Headings: medians 0 in both classes, off by (1 + 0 + 0 + 1 + 0 + 1) / 6 = 0.5.
    truth[:, 6] = [1, 0, 0, -1, 0, 1]
    # Nearly one size: off by 0.01.
    truth[:, 3] = [0.02, 0, -0.01, 0.01, 0, -0.02]
    codes = truth.copy()
    codes[:, 0] += [1, -1, 1, -1, 1, -1]
    codes[:, 6] = 0.1
    codes[:, 3] = 0.1
    numbers = {number.name: number for number in box_numbers(codes, truth, labels)}
    assert list(numbers) == NAMES
    x, sine, length, z = (numbers[name] for name in ("x", "sin", "log l", "z"))
    assert (x.error, x.guess_error, x.ratio) == pytest.approx((1, 2, 0.5)) and not x.drowned
    # (0.9 + 0.1 + 0.1 + 1.1 + 0.1 + 0.9) / 6
    assert (sine.error, sine.guess_error) == pytest.approx((3.2 / 6, 0.5)) and sine.drowned
    assert length.constant and length.ratio > 9 and not length.drowned
    assert z.constant and z.ratio == float("inf") and not z.drowned and z.figures["ratio"] is None
    lines = numbers_table(tuple(numbers.values()))
    assert [line.endswith("  drowned") for line in lines] == [False] * 7 + [True] + [False] * 3
    assert lines[1].split() == ["x", "1.000", "2.000", "0.50"]


@pytest.mark.parametrize(("predicted", "drowned"), [(0.125, False), (0.0, True)])
def test_a_number_is_drowned_if_it_is_hardly_better_than_the_guess(predicted, drowned):
    truth, codes = np.zeros((2, 10)), np.zeros((2, 10))
    truth[:, 8] = [-1, 1]
    codes[:, 8] = [-predicted, predicted]
    number = box_numbers(codes, truth, np.zeros(2, int))[NAMES.index("vx")]
    assert number.ratio == 1 - predicted and number.drowned == drowned


def test_objects_of_unknown_velocity_are_left_out():
    truth = np.zeros((3, 10))
    truth[:, 0] = [0, 2, 50]
    truth[2, 8] = np.nan
    x = box_numbers(np.zeros((3, 10)), truth, np.zeros(3, int))[0]
    assert (x.error, x.guess_error) == (1, 1)
    assert box_numbers(np.zeros((1, 10)), truth[2:], np.zeros(1, int)) == ()


def test_each_query_meets_the_object_it_holds():
    boxes = torch.tensor([[[1, 2, 3, 4, 2, 1, 0.5, 1, 0], [9, 8, 7, 1, 1, 2, 0, 0, 0]]], dtype=torch.float32)
    annotations = Annotations(
        boxes=boxes,
        labels=torch.tensor([[3, 6]]),
        identities=torch.tensor([[0, 1]]),
        valid=torch.ones(1, 2, dtype=torch.bool),
    )
    codes = torch.arange(60, dtype=torch.float32).reshape(2, 1, 3, 10)
    logits = torch.zeros(2, 1, 3, 7)
    predictions = Predictions(logits, codes, logits, codes[..., :3], torch.ones(1, 3, dtype=torch.bool), 3)
    matched = _matched_boxes(predictions, torch.tensor([1, -1, 0]), annotations)
    torch.testing.assert_close(matched[:, :10], codes[-1, 0, [0, 2]])
    torch.testing.assert_close(matched[:, 10:20], encode_boxes(boxes[0])[[1, 0]])
    assert matched[:, 20].tolist() == [6, 3]
