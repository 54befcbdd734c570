"""The examples of the how-to pages, end to end: build, train two steps, save, load, track."""

import dataclasses
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import orjson
import pytest
import torch
from safetensors.torch import load_file

from syncl import own_code
from syncl.checkpoints import model_file
from syncl.checkpoints.model_file import load_model
from syncl.checkpoints.state_file import load_state, save_state
from syncl.commands.main import main
from syncl.data.nuscenes.clips.dataset import SceneStream
from syncl.data.nuscenes.clips.frames import ImageOptions
from syncl.data.nuscenes.index import open_nuscenes
from syncl.deployment.exported import load
from syncl.errors import SynclError
from syncl.recipes.recipe import Recipe, recipe_from_json, recipe_to_json
from syncl.recipes.resolving import resolve_recipe
from syncl.recipes.synthetic_trackers import small_tracker
from syncl.runs.train.run import next_steps, train_recipe
from syncl.structures import Annotations, Predictions
from syncl.trackers import TRACKER_TYPES
from syncl.training.strategies.syncl.strategy import SynclConfig

from ..decoded import decoded_of
from .documented import ROOT, load_module

# A birth score that untrained models reach, so that there are tracks to carry.
QUICK = (
    "model.input.image_size=[64,96]",
    "training.steps=2",
    "training.log_every=1",
    "training.data.batch_size=1",
    "training.data.clip_length=2",
    "training.precision=fp32",
    "model.tracker.birth_score=0.005",
)


@pytest.fixture(scope="module")
def runs(small_world, tmp_path_factory) -> dict[str, tuple[ModuleType, Path]]:
    """Each example's module and the folder its run wrote."""
    found = {}
    for name in ("add_detector", "add_tracker", "add_strategy"):
        module, folder = load_module(ROOT / "examples" / f"{name}.py"), tmp_path_factory.mktemp(name)
        # MUTR3D would neither report nor carry on what untrained queries are unsure of.
        sure = ("model.tracker.output_score=0.005", "model.tracker.noise.carry_score=0")
        more = () if name == "add_tracker" else sure
        module.main([str(small_world), str(folder / "run"), "--set", *QUICK, *more])
        found[name] = module, folder / "run"
    return found


def test_behind_a_training_of_ones_own_class_what_opens_it_is_named(runs, monkeypatch):
    module, folder = runs["add_tracker"]
    monkeypatch.chdir(ROOT)
    said = next_steps(module.coasting(), folder, "--data world")
    assert said.startswith(f"syncl --with examples/add_tracker.py track {folder} --data world")
    # As in a notebook.
    monkeypatch.delattr(module, "__file__")
    said = next_steps(module.coasting(), folder, "--data world")
    assert "types=(CoastingConfig,)" in said and "syncl track" not in said


@pytest.mark.parametrize("name", ["add_detector", "add_tracker"])
def test_commands_know_an_example_that_they_are_told_of(runs, name, small_world, tmp_path, monkeypatch):
    _, folder = runs[name]
    for kept in ("_imported", "_taken", "_classes"):
        monkeypatch.setattr(own_code, kept, {})
    results = tmp_path / "results.json"
    arguments = [
        "track",
        str(folder / "model.safetensors"),
        "--data",
        str(small_world),
        "--output",
        str(results),
    ]
    with pytest.raises(SystemExit):
        main(arguments)
    main(["--with", str(ROOT / "examples" / f"{name}.py"), *arguments])
    boxes = [orjson.loads(path.read_bytes())["results"] for path in (results, folder / "results.json")]
    assert boxes[0] == boxes[1] and any(boxes[0].values())


def types_of(module: ModuleType) -> tuple[type, ...]:
    names = ("GroundGridConfig", "CoastingConfig", "NearFirstConfig")
    return tuple(getattr(module, name) for name in names if hasattr(module, name))


def first_frames(world: Path, count: int) -> list:
    index = open_nuscenes(world, "v1.0-mini")
    stream = SceneStream(index, index.split_scenes("mini_val")[0], ImageOptions((64, 96), resize="fast"))
    return [frame for _, frame in zip(range(count), stream)]


@pytest.mark.parametrize("name", ["add_detector", "add_tracker", "add_strategy"])
def test_an_example_trains_and_tracks(runs, name):
    _, folder = runs[name]
    log = [orjson.loads(line) for line in (folder / "log.jsonl").read_bytes().splitlines()]
    assert [entry["step"] for entry in log] == [1, 2]
    assert all(entry["class"] > 0 and entry["box"] > 0 for entry in log)
    results = orjson.loads((folder / "results.json").read_bytes())["results"]
    assert len(results) == 5 and sum(map(len, results.values())) > 0
    names = [{box["tracking_id"] for box in boxes} for boxes in results.values()]
    if name != "add_detector":
        assert names[0] & names[1], "no identity lived on to the second frame"


@pytest.mark.parametrize("name", ["add_detector", "add_tracker", "add_strategy"])
def test_all_of_an_example_learns(runs, name):
    """Two steps moved every parameter that has a gradient: nothing was left out of the graph by mistake."""
    module, folder = runs[name]
    torch.manual_seed(0)
    recipe = recipe_from_json(
        orjson.loads((folder / "recipe.json").read_bytes()), "recipe.json", types_of(module)
    )
    before, after = recipe.model.build().state_dict(), load_file(folder / "model.safetensors")
    still = [key for key, value in after.items() if torch.equal(value, before[key])]
    # Frozen batch norms, what only tracks with a full memory use, a bias of keys whose queries start at 0.
    late = ("detector.image_encoder", "memory_bank", "detector.proposal_head.nearby.key.bias")
    unexpected = [key for key in still if not key.startswith(late)]
    assert not unexpected


def test_a_foreign_class_has_to_be_named(runs):
    module, folder = runs["add_detector"]
    with pytest.raises(SynclError, match=r"unknown configuration type 'GroundGridConfig'.*types="):
        load_model(folder / "model.safetensors")
    tracker = load(folder / "model.safetensors", types=(module.GroundGridConfig,))
    assert isinstance(tracker.detector, module.GroundGrid)


def test_a_foreign_class_may_not_take_a_known_name(runs):
    class Mutr3dConfig:
        pass

    _, folder = runs["add_strategy"]
    with pytest.raises(SynclError, match="two configuration classes are called Mutr3dConfig"):
        load_model(folder / "model.safetensors", types=(Mutr3dConfig,))


@pytest.mark.parametrize(
    ("name", "recipe"),
    [("add_detector", "ground_grid"), ("add_tracker", "coasting"), ("add_strategy", "near_first")],
)
def test_an_examples_recipe_survives_its_json_form(runs, name, recipe):
    module, _ = runs[name]
    made: Recipe = getattr(module, recipe)()
    value = orjson.loads(orjson.dumps(recipe_to_json(made)))
    assert recipe_from_json(value, "here", types_of(module)) == dataclasses.replace(made, strategies={})


def test_the_new_strategy_is_what_its_run_was_trained_with(runs):
    module, folder = runs["add_strategy"]
    written = orjson.loads((folder / "recipe.json").read_bytes())["training"]["strategy"]
    assert written["type"] == "NearFirstConfig"
    assert module.near_first().training.strategy == resolve_recipe(module.near_first()).training.strategy


def test_the_new_detectors_standard_decoder_does_not_feel_the_other_one(runs, small_world):
    module, folder = runs["add_detector"]
    detector = load(folder / "model.safetensors", types=(module.GroundGridConfig,)).detector
    with torch.no_grad():
        features = detector.encode(first_frames(small_world, 1)[0])
        queries = detector.initial_queries(features)
        (alone,) = detector.decode(queries, features)
        both = detector.decode(queries, features, ("standard", "cross_only"))
    assert torch.equal(alone.logits, both[0].logits) and torch.equal(alone.codes, both[0].codes)
    assert not torch.equal(both[0].logits, both[1].logits)


def test_the_new_tracker_goes_on_from_a_saved_state(runs, small_world, tmp_path):
    module, folder = runs["add_tracker"]
    tracker = load(folder / "model.safetensors", types=(module.CoastingConfig,))
    first, second = first_frames(small_world, 2)
    _, state = tracker.step(first, tracker.initial_state())
    save_state(tmp_path / "state.safetensors", state)
    straight, _ = tracker.step(second, state)
    resumed, _ = tracker.step(second, load_state(tmp_path / "state.safetensors"))
    assert straight.valid.any() and torch.equal(straight.boxes, resumed.boxes)
    assert torch.equal(straight.identities, resumed.identities)


def test_the_new_tracker_is_one_file_and_its_configuration_in_a_recipe(runs):
    module, _ = runs["add_tracker"]
    recipe, base = module.coasting(), small_tracker("mutr3d", "petr")
    assert isinstance(recipe.model.tracker, module.CoastingConfig)
    # Nothing else of the recipe, and nothing of the library, knows of it.
    model = replace(base.model, tracker=recipe.model.tracker)
    assert recipe == replace(base, name=recipe.name, summary=recipe.summary, model=model)
    assert module.CoastingConfig not in TRACKER_TYPES


def test_a_tracker_of_the_library_is_a_line_more(runs, monkeypatch):
    module, folder = runs["add_tracker"]
    with pytest.raises(SynclError, match=r"unknown configuration type 'CoastingConfig'"):
        load_model(folder / "model.safetensors")
    monkeypatch.setattr(model_file, "MODEL_TYPES", (*model_file.MODEL_TYPES, module.CoastingConfig))
    assert isinstance(load_model(folder / "model.safetensors").tracker, module.Coasting)


def test_tracks_of_the_new_tracker_coast_through_misses_and_end(runs, small_world):
    module, folder = runs["add_tracker"]
    tracker = load(folder / "model.safetensors", types=(module.CoastingConfig,))
    frames = first_frames(small_world, 4)
    _, state = tracker.step(frames[0], tracker.initial_state())
    born = set(state.identities[state.alive].tolist())
    assert born
    # Nothing is ever sure again: no reports, and all tracks end with the third miss.
    tracker.config = module.CoastingConfig(birth_score=1.1)
    for number, frame in enumerate(frames[1:], start=1):
        objects, state = tracker.step(frame, state)
        assert not objects.valid.any()
        left = set(state.identities[state.alive].tolist())
        assert left == (born if number < 3 else set())


def test_the_new_strategys_losses_fall_with_distance(runs, small_world):
    module, _ = runs["add_strategy"]

    def loss(x: float) -> dict[str, float]:
        box = torch.tensor([[[x, 0.0, 0.0, 4.0, 2.0, 1.5, 0.0, 0.0, 0.0]]])
        nought, valid = torch.zeros(1, 1, dtype=torch.int64), torch.ones(1, 2, dtype=torch.bool)
        annotations = Annotations(box, nought, nought, valid[:, :1])
        code = torch.zeros(1, 1, 2, 10)
        code[..., 0] = x + 1.0
        centres = code[..., :3]
        logits, embeddings = torch.zeros(1, 1, 2, 3), torch.zeros(1, 1, 2, 8)
        predictions = Predictions(logits, code, embeddings, centres, valid, 2)
        strategy = module.NearFirstConfig(half_m=20.0).build(8)
        outcome = strategy(decoded_of((predictions,)), annotations)
        assert sorted(outcome.targets[0].tolist()) == [-1, 0]
        return {name: float(value) for name, value in outcome.losses.items()}

    near, far = loss(0.0), loss(39.0)
    # A single positive: its weight, 20 / (20 + 40) against 20 / 21, is all that differs (floor of one below).
    assert far["box"] / near["box"] == pytest.approx((20 / 60) / (20 / 21), rel=1e-5)
    assert far["class"] / near["class"] == pytest.approx((20 / 60) / (20 / 21), rel=1e-5)


def test_the_variant_of_syncl_keeps_the_cheapest_share_of_an_objects_candidates(runs):
    module, _ = runs["add_strategy"]
    strategy = module.CheapShareConfig(share=0.4).build(8)
    assert strategy.groups == ("standard", "cross_only")
    torch.manual_seed(0)
    box, nought = torch.tensor([[[3.0, 0, 0, 4, 2, 1.5, 0, 0, 0]]]), torch.zeros(1, 1, dtype=torch.int64)
    valid = torch.ones(1, 1, dtype=torch.bool)
    annotations = Annotations(box, nought, nought, valid)
    codes = torch.randn(2, 1, 9, 10)
    parts = (torch.randn(2, 1, 9, 3), codes, torch.randn(2, 1, 9, 8), codes[..., :3])
    predictions = Predictions(*parts, torch.ones(1, 9, dtype=torch.bool), 9)
    found = strategy.reliable_pairs(predictions, annotations, valid)
    every = SynclConfig(filter="none").build(8).reliable_pairs(predictions, annotations, valid)
    assert every.costs.shape == (2, 1, 1, 5) and every.valid.all()
    assert (found.valid.sum(-1) == 2).all()
    limit = every.costs.sort(-1).values[..., 1]
    assert torch.equal(found.costs.where(found.valid, -torch.inf).amax(-1), limit)


def test_the_variant_of_syncl_trains(runs, small_world, tmp_path):
    module, _ = runs["add_strategy"]
    done = train_recipe(
        module.cheap_share(), data=small_world, output=tmp_path / "run", changes=(*QUICK, "training.steps=1")
    )
    assert isinstance(done.recipe.training.strategy, module.CheapShareConfig)
    assert {"class", "box", "cross_class", "cross_box", "contrast"} <= done.losses.keys()


def test_the_new_tracker_has_a_step_of_a_fixed_number_of_tracks(runs, small_world):
    module, folder = runs["add_tracker"]
    tracker = load(folder / "model.safetensors", types=(module.CoastingConfig,))
    fixed = tracker.with_fixed_slots()
    states = tracker.initial_state(), fixed.initial_state()
    for frame in first_frames(small_world, 3):
        (plain, ours), (same, theirs) = tracker.step(frame, states[0]), fixed.step(frame, states[1])
        states = ours, theirs
        assert theirs.alive.shape == (1, fixed.slots) == (1, module.CoastingConfig().max_tracks)
        assert plain.valid.any() and plain.identities[plain.valid].equal(same.identities[same.valid])
        torch.testing.assert_close(plain.boxes[plain.valid], same.boxes[same.valid], atol=1e-3, rtol=1e-4)
