"""The series for a GPU at a tiny size: slices stop and go on, and the end tells of every pairing."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "tools" / "evidence" / "series.py"


def call(work: Path, minutes: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(SCRIPT), str(work), "--budget", "tiny", "--minutes", minutes]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_slices_go_on_until_every_pairing_is_scored(tmp_path):
    first = call(tmp_path, "0")
    assert first.returncode == 75 and "call again" in first.stdout
    status, slices = 75, 0
    while status == 75 and slices < 30:
        last = call(tmp_path, "1")
        status, slices = last.returncode, slices + 1
    assert status == 0, last.stderr[-2000:]
    for pairing in ("mutr3d_detr3d", "pf-track_petr"):
        assert f"{pairing}: AMOTA greedy" in last.stdout
    runs = [json.loads(line)["run"] for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(runs) == 8 and "pf-track_petr_syncl_seed0" in runs
