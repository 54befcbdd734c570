"""The best weights of a run."""

import math
from pathlib import Path

import pytest

from syncl.training.best import Best


@pytest.mark.parametrize(
    ("metric", "expected"),
    [("auto", [True, False, True]), ("ids", [True, True, False]), ("amota", [True, False, True])],
)
def test_better_is_more_but_for_errors(tmp_path: Path, metric: str, expected: list[bool]) -> None:
    best = Best(metric, tmp_path / "log.jsonl")
    figures = [{"amota": 0.3, "ids": 9.0}, {"amota": 0.2, "ids": 4.0}, {"amota": 0.4, "ids": 5.0}]
    assert [best.improved(figure) for figure in figures] == expected


def test_what_the_log_has_counts_and_nan_never_does(tmp_path: Path) -> None:
    log = tmp_path / "log.jsonl"
    log.write_text(
        '{"step":1,"group":"train","total":9}\n{"step":1,"group":"validation","amota":0.5}\n'
        '{"step":2,"group":"validation","amota":null}\n[1]\n{"step":"3","group":"validation","amota":1}\n'
        '{"step":3,"group":"validation","amota":"high"}\n{"step":3,"group":"validation","am'
    )
    best = Best("auto", log)
    assert [best.improved({"amota": value}) for value in (0.4, math.nan, 0.6)] == [False, False, True]
