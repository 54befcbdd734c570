"""Data of one's own and Argoverse 2 from images to reports, with a training that ends in tracks."""

import json
from pathlib import Path

import pytest

from syncl.commands.diagnose import diagnose
from syncl.commands.evaluate import evaluate
from syncl.commands.experiment import experiment
from syncl.commands.generate import generate
from syncl.commands.render import render
from syncl.commands.report import report
from syncl.commands.track import track
from syncl.commands.train import train

pytestmark = pytest.mark.slow

# A short training from a trained model forgets it at the rate of a long one.
QUICK = (
    "training.optimiser.learning_rate=6e-5",
    "training.optimiser.warmup_steps=5",
    "training.checkpoint_every=20",
)


def test_own_classes_are_learned_tracked_scored_and_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Four classes, seven cameras of three lenses, ten frames a second, from the model for any rig on."""
    monkeypatch.chdir(tmp_path)
    data = {"data": Path("yard"), "version": "own"}
    generate(Path("yard"), train_scenes=6, val_scenes=2, keyframes=20, seed=4, layout="own", workers=1)
    summary = train(
        "mutr3d_detr3d_synthetic_any_rig",
        **data,
        output=Path("run"),
        init=Path("any-rig"),
        cache_features=Path("features"),
        set=(*QUICK, "training.steps=24", "training.validate_every=12", "training.log_every=6"),
    )
    said = capsys.readouterr().err
    assert "classes: van from car, lorry from truck, cycle from bicycle, person from pedestrian" in said
    entries = [json.loads(line) for line in Path("run/log.jsonl").read_text().splitlines()]
    losses = [entry["total"] for entry in entries if entry["group"] == "train"]
    assert losses[-1] < losses[0] and summary.step == 24
    assert Path("run/training.png").stat().st_size > 5000 and Path("run/best.safetensors").is_file()
    track(Path("run"), **data, output=Path("run/results.json"))
    track(Path("run"), **data, task="detection", output=Path("run/detections.json"))
    metrics = evaluate(
        Path("run/results.json"), **data, detections=Path("run/detections.json"), causes=True,
        output=Path("run/metrics.json"), details=Path("run/details.json"),
    )  # fmt: skip
    assert tuple(metrics.curves) == ("van", "lorry", "cycle", "person")
    assert metrics.overall("amota") > 0.1 and metrics.label_metrics["amota"]["van"] > 0.2
    render(Path("run/results.json"), **data, output=Path("run/tracks.mp4"))
    render(Path("run/results.json"), **data, output=Path("frame.png"), frame=5)
    report((Path("run").as_posix(),), **data, output=Path("report.html"))
    page = Path("report.html").read_text()
    assert all(f">{name}<" in page for name in ("van", "lorry", "cycle", "person"))
    diagnose(Path("run"), **data, scene="yard-val-000", output=Path("diagnosis"), frames=6)
    assert sum(path.stat().st_size > 5000 for path in Path("diagnosis").glob("*.png")) >= 3
    assert all(Path(name).stat().st_size > 20_000 for name in ("run/tracks.mp4", "frame.png"))


def test_a_plan_compares_on_own_classes_that_a_file_describes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    generate(Path("yard"), train_scenes=2, val_scenes=1, keyframes=6, seed=4, layout="own", workers=1)
    Path("yard/own/dataset.yaml").rename("mine.yaml")
    arm = {"recipe": "mutr3d_detr3d_synthetic_any_rig"}
    arms = [{"name": name, **arm, "strategy": name} for name in ("baseline", "syncl")]
    steps = ["training.steps=2", "training.data.batch_size=1"]
    plan = {"name": "own", "version": "own", "seeds": [0], "set": steps, "arms": arms}
    Path("plan.json").write_text(json.dumps(plan))
    experiment(Path("plan.json"), data=Path("yard"), dataset=Path("mine.yaml"), output=Path("out"))
    (record, _) = [json.loads(path.read_text()) for path in sorted(Path("out/results").glob("*.json"))]
    assert record["recipe"]["model"]["detector"]["classes"] == ["van", "lorry", "cycle", "person"]
    assert 0 <= record["metrics"]["amota"] <= 1


def test_argoverse_2_is_learned_tracked_and_submitted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The small recipe of its classes, on the synthetic world in its layout."""
    pytest.importorskip("pyarrow", reason="not installed: pip install 'syncl[argoverse2]'")
    monkeypatch.chdir(tmp_path)
    data = {"data": Path("av2")}
    generate(Path("av2"), train_scenes=4, val_scenes=1, keyframes=16, seed=4, layout="argoverse2", workers=1)
    train(
        "mutr3d_detr3d_synthetic_argoverse2",
        **data,
        output=Path("run"),
        init=Path("any-rig"),
        cache_features=Path("features"),
        set=(*QUICK, "training.steps=10"),
    )
    assert "REGULAR_VEHICLE from car, PEDESTRIAN from pedestrian" in capsys.readouterr().err
    track(Path("run"), **data, output=Path("results.feather"))
    metrics = evaluate(Path("results.feather"), **data)
    assert metrics.label_metrics["amota"]["REGULAR_VEHICLE"] > 0.1
