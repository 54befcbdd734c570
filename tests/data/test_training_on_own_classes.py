"""Models of one's own classes: recipes fitted, rows taken over, trained, tracked, scored and drawn."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch

from rig import DETECTORS
from syncl.checkpoints.model_file import initialise_from, read_model_file, save_model
from syncl.commands.evaluate import evaluate
from syncl.commands.render import render
from syncl.commands.track import track
from syncl.commands.train import train
from syncl.data.nuscenes.index import open_nuscenes
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError
from syncl.recipes import Recipe, find_recipe
from syncl.runs.train.own_classes import class_rows, with_own_classes
from syncl.trackers import SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig

CLASSES = ("van", "lorry", "cycle", "person")


@pytest.mark.parametrize(
    "name",
    [
        "mutr3d_detr3d_r101_900x1600",
        "pf-track_petr_v99_320x800",
        "bevdepth_r50_256x704",
        "dqtrack_detr3d_r101_900x1600",
        "detr3d_synthetic",
    ],
)
def test_recipes_fit_own_classes(name: str, yard: Path):
    recipe, dataset = find_recipe(name), open_nuscenes(yard, "own").dataset
    fitted = with_own_classes(recipe, dataset).model
    assert fitted.detector.classes == CLASSES
    assert getattr(fitted.tracker, "untracked", ()) == ()
    assert with_own_classes(recipe, NUSCENES) is recipe


@pytest.mark.parametrize("detector", ["detr3d", "petr", "streampetr"])
def test_classes_that_are_alike_begin_with_the_rows_of_another_model(detector: str, tmp_path: Path):
    """By name, or as `like` says; a class that is like none begins anew, and nothing else is lost."""
    given = recipe_of(detector, ("car", "bus", "pedestrian"))
    save_model(tmp_path / "given.safetensors", given.model.build().state_dict(), given.model)
    # As many classes as before, so that only names tell whose rows are whose.
    own = recipe_of(detector, ("van", "tram", "bus"))
    tracker = own.model.build()
    before = {name: tensor.clone() for name, tensor in tracker.state_dict().items()}
    names = own.model.detector.classes
    ranges_m = dict.fromkeys(names, 50.0)
    rows = class_rows(own, DatasetDescription("own", names, names, ranges_m, {}, like={"van": "car"}))
    heads = {f"detector.class_branches.0.6.{kind}" for kind in ("weight", "bias")}
    assert heads <= set(rows.axes)
    report = initialise_from(tracker, tmp_path / "given.safetensors", own_data=rows)
    weights = read_model_file(tmp_path / "given.safetensors")[0]
    for name, filled in tracker.state_dict().items():
        if name in rows.axes:
            filled, begun, known = (
                t.movedim(rows.axes[name], 0) for t in (filled, before[name], weights[name])
            )
            assert torch.equal(filled, torch.stack((known[0], begun[1], known[1])))
        else:
            assert torch.equal(filled, weights[name])
    assert report.fresh == report.unused == ()
    assert rows.sources(("car", "van")) == {0: 1}, "its own name goes before what it is like"


def recipe_of(detector: str, classes: tuple[str, ...]) -> Recipe:
    config = dataclasses.replace(DETECTORS[detector], classes=classes)
    return dataclasses.replace(
        find_recipe("detr3d_synthetic"), model=ModelConfig(InputConfig((64, 96)), config, SingleFrameConfig())
    )


SMALL = (
    "model.input.image_size=[64,96]",
    "model.detector.queries=32",
    "model.detector.layers=2",
    "training.steps=1",
    "training.data.batch_size=1",
    "training.data.clip_length=2",
    "model.tracker.birth_score=0.0",
    "model.tracker.keep_score=0.0",
    "model.tracker.output_score=0.0",
)


@pytest.mark.parametrize("kind", ["tables", "recordings"])
def test_own_data_are_trained_on_tracked_scored_and_drawn(
    kind: str, yard: Path, recordings: Path, tmp_path: Path, capsys: Any
):
    """Four classes, seven cameras; from tables, and from recordings with annotations."""
    data, version = (yard, "own") if kind == "tables" else (recordings, "v1.0-mini")
    train("mutr3d_detr3d_synthetic_plain", data=data, version=version, output=tmp_path / "run", set=SMALL)
    assert "classes of synthetic yard: van, lorry, cycle, person" in capsys.readouterr().err
    results = tmp_path / "results.json"
    track(tmp_path / "run", data=data, version=version, output=results)
    written = json.loads(results.read_text())["results"]
    assert {box["tracking_name"] for boxes in written.values() for box in boxes} <= set(CLASSES)
    assert any(written.values())
    metrics = evaluate(results, data=data, version=version)
    assert "tracking, synthetic yard (by tracking_nips_2019)" in capsys.readouterr().out
    assert tuple(metrics.curves) == CLASSES
    (drawn,) = render(
        results, data=data, version=version, output=tmp_path / "frame.png", frame=2, min_score=0.0
    )
    assert drawn.path.stat().st_size > 1000


def test_a_model_of_other_classes_is_refused(yard: Path, tmp_path: Path):
    with pytest.raises(SynclError, match=r"this model knows car, .* have van, lorry, .*: no class"):
        track(Path("demo"), data=yard, version="own", output=tmp_path / "x.json")
