"""Every number of the official devkit, on the golden cases."""

import gzip
import json
import math
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from syncl.evaluation import DetectionMetrics, TrackingMetrics, evaluate_detection, evaluate_tracking

TOLERANCE = 1e-6
COUNTS = ("gt", "tp", "fp", "fn", "ids", "frag", "mt", "ml")


def leaves(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    if isinstance(value, dict):
        for key, item in value.items():
            yield from leaves(item, (*path, str(key)))
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from leaves(item, (*path, str(number)))
    else:
        yield path, value


def assert_same(mine: Any, golden: Any) -> None:
    """Counts equal, other numbers to `TOLERANCE`, nan exactly where the golden has it."""
    found = dict(leaves(mine))
    for path, expected in leaves(golden):
        if path == ("eval_time",):
            continue
        assert path in found, f"{'/'.join(path)} is missing"
        value = found[path]
        if not isinstance(expected, float):
            assert value == expected, path
        elif math.isnan(expected):
            assert math.isnan(value), f"{'/'.join(path)}: {value}, not nan"
        elif set(path) & set(COUNTS) and len(path) > 1:
            assert value == expected, path
        else:
            assert abs(value - expected) <= TOLERANCE, f"{'/'.join(path)}: {value}, not {expected}"


def golden_folder(request: pytest.FixtureRequest, case: str) -> Path:
    folder: Path = request.config.getoption("--goldens") / "eval" / case
    if not folder.is_dir():
        pytest.skip(f"no golden case at {folder}")
    return folder


def compare(metrics: DetectionMetrics | TrackingMetrics, task: str, folder: Path) -> None:
    summary = json.loads((folder / f"{task}_metrics_summary.json").read_text())
    details = json.loads(gzip.decompress((folder / f"{task}_metrics_details.json.gz").read_bytes()))
    assert_same(json.loads(json.dumps(metrics.summary())), summary)
    assert_same(json.loads(json.dumps(metrics.details())), details)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("case", ["tiny", "mini"])
def test_small_cases(case: str, request: pytest.FixtureRequest, tmp_path: Path):
    folder = golden_folder(request, case)
    with tarfile.open(folder / "inputs.tar.gz") as archive:
        archive.extractall(tmp_path, filter="data")
    place = (tmp_path, "v1.0-mini", "mini_val")
    compare(evaluate_detection(tmp_path / "det.json", *place), "detection", folder)
    compare(evaluate_tracking(tmp_path / "trk.json", *place), "tracking", folder)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(("case", "task"), [("val30", "tracking"), ("val", "detection")])
def test_validation_split(case: str, task: str, request: pytest.FixtureRequest, tmp_path: Path):
    folder = golden_folder(request, case)
    options = ["--scenes", "30"] if case == "val30" else ["--sweeps"]
    generator = folder.parent / "gen.py"
    subprocess.run(
        [sys.executable, generator, "--case", "val", "--out", tmp_path, *options],
        check=True,
        capture_output=True,
    )
    place = (tmp_path, "v1.0-trainval", "val")
    if task == "tracking":
        compare(evaluate_tracking(tmp_path / "trk.json", *place), task, folder)
    else:
        compare(evaluate_detection(tmp_path / "det.json", *place), task, folder)
