"""`syncl demo` with the model that ships, shortened."""

import json

import pytest

from syncl.checkpoints.model_file import load_model
from syncl.commands.demo import demo
from syncl.errors import SynclError


def test_the_demo_leaves_results_metrics_video_and_picture(tmp_path, capsys):
    output = tmp_path / "demo"
    demo(output=output, seed=1234, scenes=1, keyframes=4)
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
    with pytest.raises(SynclError, match="already exists"):
        demo(output=output, seed=1234, scenes=1, keyframes=4)


def test_the_shipped_model_is_small_and_says_how_it_was_trained():
    import importlib.resources

    model = importlib.resources.files("syncl.models") / "demo.safetensors"
    with importlib.resources.as_file(model) as path:
        assert path.stat().st_size <= 12_000_000
        loaded = load_model(path)
    assert isinstance(loaded.recipe, dict)
    training = loaded.recipe["training"]
    assert isinstance(training, dict) and isinstance(training["strategy"], dict)
    assert training["strategy"]["type"] == "BaselineConfig", "what the card says of its last stage"
    card = (importlib.resources.files("syncl.models") / "CARD.md").read_text()
    assert "seed" in card and "synthetic" in card and "baseline" in card
