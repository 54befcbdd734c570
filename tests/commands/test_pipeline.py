"""The whole way once, as the README shows it, on a tiny world: images to tracks, figures and pictures."""

import json
from pathlib import Path

import av
import pytest
import torch
from accelerate.tracking import GeneralTracker
from safetensors.torch import load_file

from rig import TINY_RUN
from syncl.checkpoints.model_file import load_model
from syncl.commands.evaluate import evaluate
from syncl.commands.recipes import recipes
from syncl.commands.render import render
from syncl.commands.track import track
from syncl.commands.train import train
from syncl.data.views import NUSCENES_VIEWS_DEG
from syncl.errors import SynclError
from syncl.recipes import recipe_names
from syncl.runs.train import run
from syncl.training.loop import make_accelerator

FIGURES = ("amota", "amotp", "recall", "ids")
SMALL = (
    *TINY_RUN,
    "training.steps=2",
    "training.data.batch_size=1",
)


@pytest.fixture(scope="module")
def folder(small_world, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("pipeline")
    (root / "world").symlink_to(small_world)
    train("detr3d_synthetic", data=root / "world", output=root / "detector", set=SMALL)
    train(
        "mutr3d_detr3d_synthetic_syncl",
        data=root / "world",
        output=root / "tracker",
        init=root / "detector" / "model.safetensors",
        # Barely trained scores lie near the prior; births must happen all the same.
        set=(
            *SMALL,
            "model.tracker.birth_score=0.012",
            "model.tracker.keep_score=0.01",
            "model.tracker.output_score=0.01",
        ),
    )
    track(root / "tracker" / "model.safetensors", data=root / "world", output=root / "results.json")
    return root


def test_tracks_are_a_valid_submission_and_get_official_figures(folder):
    results = json.loads((folder / "results.json").read_text())
    assert results["meta"]["use_camera"] and len(results["results"]) == 5
    boxes = [box for sample in results["results"].values() for box in sample]
    assert boxes and {"tracking_id", "tracking_name", "tracking_score"} <= boxes[0].keys()
    for sample in results["results"].values():
        identities = [box["tracking_id"] for box in sample]
        assert len(identities) == len(set(identities))
    returned = evaluate(folder / "results.json", data=folder / "world", output=folder / "metrics.json")
    metrics = json.loads((folder / "metrics.json").read_text())
    assert returned.amota == metrics["amota"] and returned.summary().keys() == metrics.keys()
    assert 0 <= metrics["amota"] <= 1 and set(metrics["label_metrics"]["amota"]) >= {"car", "pedestrian"}


def test_a_model_file_says_what_it_was_made_with(folder):
    notes = load_model(folder / "tracker" / "model.safetensors").notes
    assert notes["commit"] and notes["hardware"].startswith("device ") and "cores" in notes["hardware"]
    views = load_model(folder / "tracker" / "model.safetensors").tracker.detector.views
    assert views == pytest.approx(NUSCENES_VIEWS_DEG, abs=1)
    rigs = load_model(folder / "tracker" / "model.safetensors").tracker.detector.rigs
    assert (rigs.fewest, rigs.most) == (6, 6) and 60 < rigs.narrowest_deg < rigs.widest_deg < 120
    assert notes["initialised_from"] == "model.safetensors" and notes["data"].startswith("world, ")


def test_tracking_again_gives_the_same_bytes(folder):
    track(folder / "tracker" / "model.safetensors", data=folder / "world", output=folder / "again.json")
    assert (folder / "again.json").read_bytes() == (folder / "results.json").read_bytes()


def test_detections_of_a_detector_and_of_a_trackers_detector(folder):
    for name in ("detector", "tracker"):
        output = folder / f"{name}_detections.json"
        track(folder / name / "model.safetensors", data=folder / "world", output=output, task="detection")
        evaluate(output, data=folder / "world", task="detection", output=folder / f"{name}.json")
        assert 0 <= json.loads((folder / f"{name}.json").read_text())["mean_ap"] <= 1


def test_a_detector_alone_cannot_track(folder):
    with pytest.raises(SynclError, match=r"cannot track.*--task detection"):
        track(folder / "detector" / "model.safetensors", data=folder / "world", output=folder / "x.json")
    assert not (folder / "x.json").exists()


def test_results_become_a_video_and_a_picture(folder):
    (video,) = render(
        folder / "results.json", data=folder / "world", output=folder / "tracks.mp4", min_score=0.0
    )
    assert (video.path, video.frames) == (folder / "tracks.mp4", 5)
    render(
        folder / "results.json", data=folder / "world", output=folder / "frame.png", frame=2, min_score=0.0
    )
    with av.open(str(folder / "tracks.mp4")) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert sum(1 for _ in container.decode(video=0)) == 5
    assert (folder / "frame.png").stat().st_size > 1000


def test_results_are_not_overwritten_unasked(folder):
    before = (folder / "results.json").read_bytes()
    model = folder / "tracker" / "model.safetensors"
    with pytest.raises(SynclError, match=r"results\.json: this file already exists.*--overwrite"):
        track(model, data=folder / "world", output=folder / "results.json")
    assert (folder / "results.json").read_bytes() == before


def test_a_truncated_model_is_named(folder):
    whole = (folder / "tracker" / "model.safetensors").read_bytes()
    (folder / "half.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(SynclError, match=r"half\.safetensors: not a complete safetensors file"):
        track(folder / "half.safetensors", data=folder / "world", output=folder / "y.json")


class Heard(GeneralTracker):
    """An experiment tracker of accelerate's that keeps what it is told."""

    name, requires_logging_directory = "heard", False

    def __init__(self) -> None:
        super().__init__()
        self.told: list[dict[str, float]] = []

    @property
    def tracker(self) -> None:
        return None

    def store_init_configuration(self, values: dict) -> None:
        self.told.append(values)

    def log(self, values: dict, step: int | None = None, **options: object) -> None:
        self.told.append(values | {"step": step})


def test_validation_during_training_is_logged(folder, monkeypatch, capsys):
    heard = Heard()
    monkeypatch.setattr(run, "make_accelerator", lambda config, log_with: make_accelerator(config, [heard]))
    train(
        "mutr3d_detr3d_synthetic",
        data=folder / "world",
        output=folder / "validated",
        set=(*SMALL, "training.validate_every=2", "training.validation_scenes=1"),
    )
    lines = [json.loads(line) for line in (folder / "validated" / "log.jsonl").read_text().splitlines()]
    (validation,) = [line for line in lines if line["group"] == "validation"]
    assert validation["step"] == 2 and 0 <= validation["amota"] <= 1
    assert any(values.get("training.steps") == 2 for values in heard.told)
    assert heard.told[-1] == {f"validation/{key}": validation[key] for key in FIGURES} | {"step": 2}
    said = capsys.readouterr().err
    assert "(best so far)" in said and "step 2/2" in said and " s left" in said
    assert f"next: syncl track {folder / 'validated'} --data" in said
    best = load_file(folder / "validated" / "best.safetensors")
    last = load_file(folder / "validated" / "model.safetensors")
    assert all(torch.equal(best[name], last[name]) for name in last)
    assert (folder / "validated" / "training.png").stat().st_size > 5000


def test_a_figure_that_validation_does_not_give_and_missing_loggers_are_refused(folder, tmp_path):
    options = {"data": folder / "world", "output": tmp_path / "never"}
    with pytest.raises(SynclError, match=r"best_by: map; validation of this model gives amota, amotp"):
        changes = (*SMALL, "training.validate_every=2", "training.best_by=map")
        train("mutr3d_detr3d_synthetic", set=changes, **options)
    with pytest.raises(
        SynclError, match=r"--log-with trackio: is not installed; pip install 'syncl\[trackio\]'"
    ):
        train("mutr3d_detr3d_synthetic", set=SMALL, log_with=("trackio",), **options)
    # Nothing of the run is there, so that it need not be overwritten once the setting is mended.
    assert not (tmp_path / "never").exists()


def test_recipes_are_listed(capsys):
    listed = recipes()
    printed = capsys.readouterr().out
    assert [entry.recipe.name for entry in listed] == list(recipe_names())
    assert all(name in printed for name in recipe_names())
