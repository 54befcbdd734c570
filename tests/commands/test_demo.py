"""`syncl demo` with the model that ships, shortened."""

import json
import math
from dataclasses import replace

import pytest

import syncl
from syncl.checkpoints.model_file import load_model
from syncl.commands.demo import demo
from syncl.errors import SynclError
from syncl.models import MODELS
from syncl.runs.demo import metrics_table


def test_the_demo_leaves_results_metrics_video_and_picture(tmp_path, capsys):
    output = tmp_path / "demo"
    done = demo(output=output, seed=1234, scenes=1, keyframes=4)
    metrics = json.loads((output / "metrics.json").read_text())
    assert {"amota", "amotp", "recall", "label_metrics"} <= metrics.keys()
    results = json.loads((output / "results.json").read_text())["results"]
    assert len(results) == 4 and any(results.values())
    assert (output / "tracks.mp4").stat().st_size > 10_000
    assert (output / "frame.png").stat().st_size > 10_000
    printed = capsys.readouterr()
    assert "synthetic" in printed.out
    for name in ("results.json", "metrics.json", "tracks.mp4", "frame.png"):
        assert name in printed.err
    never = {metric: values | {"car": math.nan} for metric, values in done.metrics.label_metrics.items()}
    table = metrics_table(replace(done.metrics, label_metrics=never))
    row = [*done.metrics.curves].index("car")
    assert [list(column.cells)[row] for column in table.columns] == ["car", *["-"] * 8]
    with pytest.raises(SynclError, match="already exists"):
        demo(output=output, seed=1234, scenes=1, keyframes=4)


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
def test_a_shipped_model_is_small_and_says_how_it_was_trained(model):
    assert model.path.stat().st_size <= 12_000_000
    loaded = load_model(model.path)
    assert isinstance(loaded.recipe, dict)
    training = loaded.recipe["training"]
    assert isinstance(training, dict) and isinstance(training["strategy"], dict)
    said = {"demo": "SynclConfig", "any-rig": "BaselineConfig"}
    assert training["strategy"]["type"] == said[model.name], "what the card says of its last stage"
    assert loaded.tracker.detector.rigs is not None
    card = model.card.read_text()
    assert "seed" in card and "synthetic" in card and model.name in card


def test_the_model_for_any_rig_tracks_rigs_that_it_never_saw(tmp_path):
    syncl.generate(tmp_path / "rigs", train_scenes=0, keyframes=4, seed=1234, rigs=True, workers=1)
    done = syncl.track("any-rig", data=tmp_path / "rigs", output=tmp_path / "results.json", device="cpu")
    metrics = syncl.evaluate(done.files[0], data=tmp_path / "rigs")
    assert done.frames == 8 and metrics.overall("recall") > 0.2
