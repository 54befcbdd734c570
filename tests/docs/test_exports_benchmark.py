"""The table of exported models: what is compared, and what is named with its reason."""

import json
import runpy
from pathlib import Path

import pytest
import torch

from syncl.trackers import Tracker
from syncl.trackers.life_cycle import LivingByScore

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return runpy.run_path(str(BENCHMARKS / "exports.py"))


def test_models_without_such_a_step_are_named_with_the_reason(
    script: dict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(LivingByScore, "fixed_slots", Tracker.fixed_slots)
    output = tmp_path / "exports.jsonl"
    recipes = ["mutr3d_petr_synthetic", "mutr3d_detr3d_r101_900x1600"]
    asked = ["--recipes", *recipes, "--output", str(output)]
    rows = script["main"](asked)
    assert [json.loads(line) for line in output.read_text().splitlines()] == rows
    assert all("Mutr3d has no step of a fixed number of tracks" in row["refused"] for row in rows)
    assert script["main"](asked) == rows and len(output.read_text().splitlines()) == 2


def test_objects_are_compared_with_their_own(script: dict) -> None:
    boxes = torch.zeros(1, 3, 9)
    boxes[0, :, 0], boxes[0, 0, 6] = torch.tensor([1.0, 2.0, 3.0]), 3.1415
    expected = {
        "objects_boxes": boxes,
        "objects_identities": torch.tensor([[4, 5, 6]]),
        "objects_labels": torch.zeros(1, 3, dtype=torch.int64),
        "objects_valid": torch.tensor([[True, True, True]]),
    }
    others = boxes.clone()
    others[0, 0, 6], others[0, 1, 0] = -3.1415, 2.25
    found = {**expected, "objects_boxes": others, "objects_identities": torch.tensor([[4, 5, 7]])}
    assert script["apart"](expected, found) == (3, 2, 1, 0.25)
    nothing = {**found, "objects_valid": torch.zeros(1, 3, dtype=torch.bool)}
    assert script["apart"](expected, nothing) == (3, 0, 0, None), "what compares nothing does not agree"
