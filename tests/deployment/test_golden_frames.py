"""Golden frames, and when what a program tells agrees with them."""

from pathlib import Path

import numpy as np
import pytest
import torch

from exporting import DRIVE, build, config
from syncl.deployment.golden_frames import (
    COUNT,
    EVENTS,
    GoldenFrame,
    agreement,
    golden_frames,
    write_golden,
)
from syncl.deployment.step import INPUTS, template_of
from syncl.deployment.writing import flat_step


def test_golden_frames_have_all_that_a_host_has_to_get_right(tmp_path: Path) -> None:
    fixed = build(config(birth_score=0.01, keep_score=0.01, miss_tolerance=3)).with_fixed_slots()
    template = template_of(fixed, DRIVE[0])
    step = flat_step(fixed, template, DRIVE[0].rig.names)
    # Fresh weights see objects in black images too: only what is missed can end.
    frames = golden_frames(fixed, step, template, DRIVE)
    assert len(frames) == COUNT
    assert {"missing camera", "gap"} <= {event for frame in frames for event in frame.events} <= {*EVENTS}
    assert [frame.events.count("gap") for frame in frames] == [0, 0, 0, 0, 1, 0, 0, 0]
    assert "birth" in frames[0].events
    write_golden(tmp_path / "golden.npz", frames)
    sides = [
        (f"{n}/{side}/", getattr(frame, side_of))
        for n, frame in enumerate(frames)
        for side, side_of in (("in", "given"), ("out", "told"))
    ]
    with np.load(tmp_path / "golden.npz") as archive:
        assert len(archive.files) == sum(len(tensors) for _, tensors in sides)
        for prefix, tensors in sides:
            for name, tensor in tensors.items():
                np.testing.assert_array_equal(archive[prefix + name], tensor.numpy())
    assert all({*INPUTS} < frame.given.keys() for frame in frames)


def told(scores: list[float], places_m: list[float]) -> dict[str, torch.Tensor]:
    boxes = torch.zeros(1, len(scores), 9)
    boxes[0, :, 0] = torch.tensor(places_m)
    count = torch.zeros(1, len(scores), dtype=torch.int64)
    return {
        "objects_boxes": boxes,
        "objects_labels": count,
        "objects_scores": torch.tensor([scores]),
        "objects_identities": count - 1,
        "objects_valid": torch.ones(1, len(scores), dtype=torch.bool),
    }


def test_detections_of_nearly_one_score_are_compared_with_the_nearest_and_no_number_agrees_with_nan():
    frame = GoldenFrame({}, told([0.5, 0.4999999], [3.0, 40.0]), ())
    swapped = agreement(lambda given: told([0.5, 0.4999999], [40.0, 3.0]), [frame])
    assert swapped.identities_equal and swapped.box_m == 0.0 and swapped.score < 1e-6
    moved = agreement(lambda given: told([0.5, 0.4999999], [3.0, 41.0]), [frame])
    assert moved.box_m == 1.0
    broken = agreement(lambda given: told([0.5, float("nan")], [3.0, float("nan")]), [frame])
    assert broken.box_m == float("inf") and broken.score == float("inf")


@pytest.mark.parametrize(
    ("others", "score_apart", "agrees"),
    [(1, 1e-6, True), (2, 1e-6, True), (1, 1e-3, False), (3, 1e-6, False)],
)
def test_the_last_of_a_full_list_may_be_another_of_the_same_score(
    others: int, score_apart: float, agrees: bool
) -> None:
    scores, places_m = [0.9 - 0.001 * row for row in range(200)], [float(row) for row in range(200)]
    frame = GoldenFrame({}, told(scores, places_m), ())
    first = 200 - others
    changed = [score - score_apart for score in scores[first:]]
    elsewhere = [place + 500.0 for place in places_m[first:]]
    found = agreement(lambda given: told(scores[:first] + changed, places_m[:first] + elsewhere), [frame])
    assert (found.box_m < 1e-3) == agrees
    short = told(scores, places_m)
    short["objects_valid"][0, 0] = False
    fewer = told(scores[:first] + changed, places_m[:first] + elsewhere)
    fewer["objects_valid"][0, 0] = False
    assert agreement(lambda given: fewer, [GoldenFrame({}, short, ())]).box_m > 1.0, "it is not full"
