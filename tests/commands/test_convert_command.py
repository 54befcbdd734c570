"""`syncl convert`, both ways, as a user runs it."""

import dataclasses
from pathlib import Path

import pytest
import torch

from rig import DETECTORS, DIM, TRACKERS, tiny_encoder
from syncl.backbones import FpnConfig
from syncl.checkpoints.formats import find_format
from syncl.checkpoints.model_file import initialise_from, load_model, save_model
from syncl.checkpoints.published import read_published
from syncl.commands.main import main
from syncl.detectors import Mutr3dDetr3dConfig
from syncl.recipes import RECIPES, find_recipe
from syncl.recipes.recipe import Recipe
from syncl.trackers import SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig

DETECTOR = ModelConfig(InputConfig((64, 96)), DETECTORS["petr"], SingleFrameConfig())
TRACKER = dataclasses.replace(DETECTOR, tracker=TRACKERS["mutr3d"])
WHOLE_MUTR3D = dataclasses.replace(
    TRACKER,
    detector=dataclasses.replace(
        DETECTORS["mutr3d_detr3d"],
        image=dataclasses.replace(tiny_encoder(), neck=FpnConfig(DIM, norm="batch")),
        cameras=6,
    ),
)


@pytest.fixture(autouse=True)
def small_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Recipes small enough to be written in a moment."""
    training = find_recipe("petr_synthetic").training
    for name, model in (
        ("small_petr", DETECTOR),
        ("small_mutr3d", TRACKER),
        ("whole_mutr3d", WHOLE_MUTR3D),
    ):
        recipe = Recipe(name, "for tests", model, training)
        monkeypatch.setitem(RECIPES, name, lambda recipe=recipe: recipe)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    torch.manual_seed(5)
    weights = find_format("petr").write(DETECTOR.build().state_dict(), DETECTOR).weights
    path = tmp_path / "petr.pth"
    torch.save({"state_dict": weights, "meta": {"epoch": 24}}, path)
    return path


def fails(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def test_a_checkpoint_becomes_a_model_and_a_checkpoint_again(tmp_path: Path, checkpoint: Path) -> None:
    model, back = tmp_path / "model.safetensors", tmp_path / "back.pth"
    main(["convert", str(checkpoint), str(model), "--from", "petr", "--recipe", "small_petr"])
    main(["convert", str(model), str(back), "--to", "petr"])
    loaded = load_model(model)
    assert loaded.config == DETECTOR and loaded.notes["new"] == ""
    before, after = read_published(checkpoint), read_published(back)
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_a_mutr3d_becomes_a_model_and_a_checkpoint_again(tmp_path: Path) -> None:
    published, model, back = tmp_path / "mutr3d.pth", tmp_path / "model.safetensors", tmp_path / "back.pth"
    weights = find_format("mutr3d").write(WHOLE_MUTR3D.build().state_dict(), WHOLE_MUTR3D).weights
    torch.save({"state_dict": weights | {"radar_encoder.mlp.weight": torch.ones(2)}}, published)
    main(["convert", str(published), str(model), "--from", "mutr3d", "--recipe", "whole_mutr3d"])
    main(["convert", str(model), str(back), "--to", "mutr3d"])
    loaded = load_model(model)
    assert isinstance(loaded.config.detector, Mutr3dDetr3dConfig) and loaded.config.detector.bottom_centres
    assert loaded.config.tracker == WHOLE_MUTR3D.tracker and loaded.notes["new"] == ""
    after = read_published(back)
    assert weights.keys() == after.keys() and all(torch.equal(weights[name], after[name]) for name in after)


def test_a_tracker_starts_from_a_detectors_checkpoint(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "tracker.safetensors"
    main(["convert", str(checkpoint), str(model), "--from", "petr", "--recipe", "small_mutr3d"])
    assert "new: query_interaction" in capsys.readouterr().out.replace("\n", " ")
    tracker = load_model(model).config.build()
    report = initialise_from(tracker, model)
    assert report.fresh and all(
        name.startswith(("query_interaction", "memory_bank")) for name in report.fresh
    )


def test_a_model_that_was_not_converted_is_taken_over_whole(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    tracker = TRACKER.build()
    save_model(path, tracker.state_dict(), TRACKER)
    assert not initialise_from(TRACKER.build(), path).fresh


def test_settings_can_be_changed(tmp_path: Path, checkpoint: Path) -> None:
    model = tmp_path / "model.safetensors"
    change = "model.tracker.max_objects=17"
    main(
        ["convert", str(checkpoint), str(model), "--from", "petr", "--recipe", "small_petr", "--set", change]
    )
    tracker = load_model(model).config.tracker
    assert isinstance(tracker, SingleFrameConfig) and tracker.max_objects == 17


def test_the_default_recipe_says_what_differs(
    tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = tmp_path / "model.safetensors"
    message = fails(["convert", str(checkpoint), str(model), "--from", "petr"], capsys)
    assert "shapes differ" in message and "missing" in message and "and " in message
    assert not model.exists()


def test_bad_requests(tmp_path: Path, checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = tmp_path / "model.safetensors"
    assert "either --from" in fails(["convert", str(checkpoint), str(model)], capsys)
    assert "no such" in fails(["convert", str(tmp_path / "gone.pth"), str(model), "--from", "petr"], capsys)
    assert "go with --from" in fails(
        ["convert", str(checkpoint), str(model), "--to", "petr", "--recipe", "small_petr"], capsys
    )
    model.write_bytes(b"precious")
    assert "--overwrite" in fails(["convert", str(checkpoint), str(model), "--from", "petr"], capsys)
    assert model.read_bytes() == b"precious"
