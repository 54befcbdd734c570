"""The grid of life cycles: the same six for every tracker, in settings that it has."""

import importlib.util
from dataclasses import replace
from pathlib import Path

import pytest

from syncl.recipes import find_recipe

PATH = Path(__file__).parents[2] / "tools" / "evidence" / "life_cycles.py"


@pytest.fixture(scope="module")
def tool():
    spec = importlib.util.spec_from_file_location("life_cycles", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("tracker", "keep"),
    [
        ("mutr3d", "keep_score"),
        ("pf-track", "record_score"),
        ("ada-track", None),
        ("star-track", "keep_score"),
        ("onetrack", "keep_score"),
        ("dqtrack", "detection_score"),
    ],
)
def test_every_tracker_gets_the_same_six(tool, tracker, keep):
    config = find_recipe(f"{tracker}_detr3d_synthetic").model.tracker
    cycles = [replace(config, **one) for one in tool.life_cycles(config)]
    assert [(c.birth_score, c.miss_tolerance) for c in cycles] == [
        (birth, tolerance) for birth in (0.3, 0.35, 0.4) for tolerance in (1, 2)
    ]
    assert keep is None or {getattr(c, keep) for c in cycles} == {0.3}
