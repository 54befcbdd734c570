"""The script for a GPU runs at a tiny size where there is none."""

import json
import runpy
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


@pytest.fixture(autouse=True)
def beside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(SCRIPT.parent))


def test_the_script_for_a_gpu_runs_at_a_tiny_size(tmp_path: Path) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    output = tmp_path / "gpu.json"
    main(["--tiny", "--device", "cpu", "--ways", "eager", "--frames", "1", "--output", str(output)])
    found = json.loads(output.read_text())
    assert set(found["device_against_cpu"].values()) == {0.0}
    rows = found["inference"]
    assert [(row["precision"], row["way"]) for row in rows] == [("bfloat16", "eager"), ("float32", "eager")]
    assert all(row["ms"] > 0 and 0 < row["encoder_share"] < 1 for row in rows)
    steps = found["training"]
    assert all(steps[kind]["seconds"] > steps[kind]["encode"] > 0 for kind in ("baseline", "syncl"))


def test_what_there_is_no_time_for_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    main = runpy.run_path(str(SCRIPT))["main"]
    found = main(["--tiny", "--device", "cpu", "--ways", "eager", "--minutes", "0"])
    assert all(row["left_out"] == "no time" for row in (*found["inference"], *found["training"].values()))
    assert "no time left" in capsys.readouterr().out


def test_without_a_gpu_the_script_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is one")
    main = runpy.run_path(str(SCRIPT))["main"]
    with pytest.raises(SystemExit, match="no GPU here"):
        main([])


def test_every_published_model_is_measured_once() -> None:
    script = runpy.run_path(str(SCRIPT))
    names = script["full_size"]()
    assert script["SIZES"] == ((320, 800), (640, 1600)) and script["PRECISIONS"] == ("float32", "bfloat16")
    assert script["WAYS"] == ("eager", "compiled", "graphed")
    assert {"pf-track_petr_v99_320x800", "star-track_detr3d_r101_900x1600", "dort_r50_256x704"} <= {*names}
    assert len({*names}) == len(names) and not {"petr_v99_640x1600", "mutr3d_detr3d_synthetic"} & {*names}
