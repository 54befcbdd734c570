"""`syncl diagnose` on a tiny world and a barely trained model."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from rig import TINY_RUN
from syncl.checkpoints.model_file import load_model, save_model
from syncl.commands.diagnose import diagnose
from syncl.commands.train import train
from syncl.data.nuscenes.index import open_nuscenes
from syncl.errors import SynclError
from syncl.recipes import find_recipe
from syncl.recipes.synthetic import small_petr
from syncl.rendering.diagnosis_figures import plot_decoders
from syncl.runs.diagnose import run
from syncl.runs.diagnose.class_gradients import GROUPS
from syncl.runs.diagnose.passes import Subject, matching_pass, tracking_pass
from syncl.runs.diagnose.run import Diagnosis, find_checkpoints
from syncl.trackers import ClipNoise, GreedyConfig, SingleFrameConfig

PICTURES = (
    "attention_mass",
    "attention_maps",
    "decoders",
    "costs",
    "candidates",
    "class_gradients",
    "training_cost",
)


@pytest.fixture(scope="module")
def folder(small_world, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("diagnose")
    (root / "world").symlink_to(small_world)
    train(
        "pf-track_petr_synthetic_syncl",
        data=root / "world",
        output=root / "run",
        set=(
            *TINY_RUN,
            "training.steps=2",
            "training.checkpoint_every=1",
            "training.data.batch_size=1",
            # Fresh scores lie near the prior; births must happen all the same.
            "model.tracker.birth_score=0.0",
            "model.tracker.record_score=0.0",
            "model.tracker.output_score=0.0",
            # Nothing is certain or near its object yet.
            "model.tracker.noise.carry_score=0.0",
            "training.strategy.release_m=0.0",
        ),
    )
    return root


def arguments(folder: Path) -> dict[str, object]:
    scene = json.loads((folder / "world" / "v1.0-mini" / "scene.json").read_text())
    names = sorted(item["name"] for item in scene)
    (val,) = [name for name in names if name in ("scene-0103", "scene-0916")]
    return {"data": folder / "world", "scene": val, "frames": 3}


def test_every_picture_and_its_numbers(folder, capsys):
    output = folder / "out"
    found = diagnose(
        folder / "run" / "model.safetensors",
        **arguments(folder),
        output=output,
        checkpoints=(folder / "run",),
        cost_steps=1,
    )
    for name in PICTURES:
        picture = cv2.imread(str(output / f"{name}.png"))
        assert picture is not None and picture.std() > 5, name
    figures = json.loads((output / "figures.json").read_text())
    for kind in ("object", "track"):
        shares = figures[f"attention_of_{kind}_queries"]
        assert len(shares) == 2 and all(sum(layer) == pytest.approx(1, abs=1e-4) for layer in shares)
    assert list(figures["matching"]) == ["step 1", "step 2"]
    for item in figures["matching"].values():
        assert 0 < item["kept"] < item["pairs"] and item["threshold"] == pytest.approx(min(item["means"]))
    assert list(figures["box_code"]) == ["step 1", "step 2"]
    told = figures["box_code"]["step 2"]
    lines = capsys.readouterr().out.splitlines()
    assert list(told) == ["x", "y", "z", "log l", "log w", "log h", "sin", "cos", "vx", "vy"]
    for number, (name, values) in zip(found.numbers, told.items(), strict=True):
        assert number.figures == values and values["error"] > 0
        (line,) = (line for line in lines if line.startswith(f"{name} "))
        assert f" {values['ratio']:.2f}" in line and line.endswith("drowned") == values["drowned"]
    # Two steps teach no heading.
    assert told["sin"]["drowned"]
    assert list(figures["places"]) == ["step 1", "step 2"]
    assert [asdict(one) for one in found.places] == figures["places"]["step 2"]
    assert [one.aside_m for one in found.places] == [0, 1, 2, 4] and found.places[0].tracks > 5
    (line,) = (line for line in lines if line.startswith("end off them by"))
    assert line.endswith("".join(f"{one.off_m:>7.2f}" for one in found.places))
    gradients = figures["class_gradients"]["step 2"]
    assert found.gradients.figures == gradients and "disputed" in gradients
    every, *groups = (gradients[name] for name in GROUPS)
    assert every["share"] == [1, 1] and sum(group["share"][-1] for group in groups) == pytest.approx(
        1, abs=1e-5
    )
    assert every["queries"][-1] == pytest.approx(sum(group["queries"][-1] for group in groups), abs=1e-4)
    (line,) = (line for line in lines if line.startswith("(+, -)"))
    assert f" {gradients['(+, -)']['queries'][-1]:.1f} " in line
    counts = figures["queries_an_object"]
    assert all(0 < after < before <= 5 for before, after in zip(counts["before"], counts["after"]))
    cost = figures["training_cost"]
    assert cost["frames"] == 3 and cost["mebibytes"]["SynCL"] > cost["mebibytes"]["baseline"] > 0
    assert min(cost["seconds"].values()) > 0


def test_what_training_does_to_tracks_plays_no_part_in_the_matching(folder):
    given = arguments(folder)
    index = open_nuscenes(given["data"], "v1.0-mini")
    looked = Diagnosis.of_model(folder / "run" / "model.safetensors", index, given["scene"], 3, "cpu")
    looked.subject.tracker.noise = ClipNoise(drop_probability=1.0)
    # Were every track forgotten, no object would be persistent in any frame.
    assert matching_pass(looked.subject, looked.frames, "all forgotten").pairs
    assert looked.subject.tracker.noise.drop_probability == 1.0


def test_pictures_have_ahead_up_in_a_lidars_frame_too(folder, monkeypatch):
    ego = folder / "run" / "model.safetensors"
    loaded = load_model(ego)
    seen = replace(loaded.config.input, vehicle_frame="lidar")
    lidar = folder / "lidar.safetensors"
    save_model(lidar, loaded.tracker.state_dict(), replace(loaded.config, input=seen))
    drawn = []
    monkeypatch.setattr(run, "plot_decoders", lambda *shown: drawn.append(shown) or plot_decoders(*shown))
    for model in (ego, lidar):
        given = arguments(folder)
        diagnose(model, **given, output=folder / model.stem, min_score=0.0, cost_steps=0)
    (_, truth, _), (views, turned, _) = drawn
    np.testing.assert_allclose(truth[:, :2] - turned[:, :2], np.tile([0.94, 0], (len(truth), 1)), atol=1e-3)
    np.testing.assert_allclose(np.exp(1j * truth[:, 6]), np.exp(1j * turned[:, 6]), atol=1e-4)
    np.testing.assert_allclose(truth[:, 7:], turned[:, 7:], atol=1e-3)
    # Fresh object queries are all around; what matters is that they are turned as annotations are.
    index = open_nuscenes(given["data"], "v1.0-mini")
    looked = Diagnosis.of_model(lidar, index, given["scene"], 3, "cpu")
    tracked = tracking_pass(looked.subject, looked.frames, "lidar")
    boxes = looked.subject.tracker.detector.boxes(tracked.standard.codes[-1, 0]).double().numpy()
    count = len(views[0].objects)
    np.testing.assert_allclose(views[0].objects[:, :2], boxes[:count, [1, 0]] * [1, -1], atol=1e-4)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"scene": "scene-x"}, r"scene 'scene-x' is not in split 'mini_val' of .*, which has scene-"),
        ({"frames": 1}, "--frames 1: at least 2"),
        ({"frames": 99}, "--frames 99: scene .* has only 5"),
        ({"cost_steps": -1}, "--cost-steps -1"),
        ({"checkpoints": (Path("nowhere"),)}, "nowhere: there is no such run folder"),
    ],
)
def test_bad_input_is_answered_before_work(folder, changed, message):
    with pytest.raises(SynclError, match=message):
        diagnose(
            folder / "run" / "model.safetensors",
            **(arguments(folder) | {"output": folder / "no"} | changed),
        )
    assert not (folder / "no").exists()


@pytest.mark.parametrize(("name", "most"), [("pf-track_petr_synthetic", 2), ("pf-track_petr_v99_320x800", 5)])
@pytest.mark.parametrize("kind", ["", "_syncl"])
def test_matching_is_that_of_the_recipe_with_syncl(name, most, kind):
    recipe = find_recipe(name + kind)
    matching = Subject(GreedyConfig().build(small_petr().build()), recipe).matching
    assert matching.queries_per_object == most
    assert matching.cost == recipe.training.strategy.cost and matching.loss == recipe.training.strategy.loss


def test_detectors_and_models_for_other_images_are_refused(folder, model_file):
    with pytest.raises(SynclError, match="it is a model for other images"):
        diagnose(
            folder / "run" / "model.safetensors",
            **arguments(folder),
            output=folder / "no",
            checkpoints=(model_file, folder / "run"),
        )
    config = replace(load_model(model_file).config, tracker=SingleFrameConfig())
    torch.manual_seed(0)
    save_model(folder / "detector.safetensors", config.build().state_dict(), config)
    with pytest.raises(SynclError, match="detects only; track queries are what"):
        diagnose(folder / "detector.safetensors", **arguments(folder), output=folder / "no")
    assert not (folder / "no").exists()


def test_runs_and_files_become_names_in_order(folder):
    run = folder / "run"
    names = [name for name, _ in find_checkpoints((run, run / "model.safetensors"))]
    assert names == ["step 1", "step 2", "model"]
    twice = [name for name, _ in find_checkpoints((run, run))]
    assert twice == ["run step 1 (1)", "run step 2 (2)", "run step 1 (3)", "run step 2 (4)"]
    with pytest.raises(SynclError, match=r"world: a folder without checkpoints/step_\*"):
        find_checkpoints((folder / "world",))
