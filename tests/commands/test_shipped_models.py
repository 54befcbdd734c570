"""Every command that takes a model, on every model that ships with the package, whatever version wrote it."""

import importlib.resources
import inspect
from collections.abc import Callable
from pathlib import Path

import pytest

import syncl
from syncl.checkpoints.model_file import load_model
from syncl.commands.main import COMMANDS
from syncl.errors import SynclError
from syncl.recipes.recipe import recipe_from_json

MODELS = sorted(Path(str(importlib.resources.files("syncl.models"))).glob("*.safetensors"))
SCENE = "scene-0103"


def _track(model: Path, world: Path, folder: Path) -> None:
    for choice in ("model", "greedy", "greedy-observed"):
        done = syncl.track(model, data=world, output=folder / f"{choice}.json", tracker=choice, device="cpu")
        assert done.frames == 3 and done.files == (folder / f"{choice}.json",)
    syncl.track(model, data=world, output=folder / "detections.json", task="detection", device="cpu")
    metrics = syncl.evaluate(folder / "model.json", data=world)
    assert 0 <= metrics.amota <= 1
    page = syncl.report(
        (f"shipped={folder / 'model.json'},{model}",), output=folder / "page.html", data=world, failures=0
    )
    assert page.runs == ("shipped",) and page.path.is_file()


def _diagnose(model: Path, world: Path, folder: Path) -> None:
    found = syncl.diagnose(
        model, data=world, scene=SCENE, output=folder / "out", frames=2, cost_steps=0, device="cpu"
    )
    assert found.figures["frames"] == 2 and len(found.files) == 7


def _train(model: Path, world: Path, folder: Path) -> None:
    recipe = load_model(model).recipe
    assert isinstance(recipe, dict)
    done = syncl.train(
        str(recipe["name"]),
        data=world,
        output=folder / "run",
        init=model,
        set=("training.steps=1", "training.data.batch_size=1", "training.data.clip_length=2"),
    )
    assert done.step == 1 and done.model.is_file()


def _convert(model: Path, world: Path, folder: Path) -> None:
    """No published format has the aids of small models, and says so; a model's own are not asked for more."""
    with pytest.raises(SynclError, match=r"mutr3d|proposal"):
        syncl.convert(model, folder / "out.pth", to="mutr3d")


def _train_motion(model: Path, world: Path, folder: Path) -> None:
    """For CC-3DT alone, which none of them is."""
    with pytest.raises(SynclError, match=f"{model.name}: is not a CC-3DT model"):
        syncl.train_motion(model, folder / "none.json", data=world, output=folder / "never.safetensors")


def _export(model: Path, world: Path, folder: Path) -> None:
    written = syncl.export(model, output=folder / "folder")
    done = syncl.track(written.folder, data=world, output=folder / "exported.json", device="cpu")
    assert done.frames == 3


def _profile(model: Path, world: Path, folder: Path) -> None:
    found = syncl.profile(model, frames=1, device="cpu", output=folder / "costs.png")
    assert found.parts["encoder"].gflops and found.parts["data"].cpu_seconds > 0


def _models(model: Path, world: Path, folder: Path) -> None:
    (shown,) = syncl.models(model.stem)
    assert shown.path == model and len(shown.classes) == len(load_model(model).tracker.classes)


CALLS: dict[str, Callable[[Path, Path, Path], None]] = {
    "track, evaluate, report": _track,
    "diagnose": _diagnose,
    "train": _train,
    "train-motion": _train_motion,
    "convert": _convert,
    "export": _export,
    "profile": _profile,
    "models": _models,
}


# Dear ones on a second model, of the same detector and tracker, wait for `-m slow`.
SLOW = {("export", "any-rig"), ("export", "demo"), ("diagnose", "any-rig"), ("profile", "demo")}


@pytest.mark.parametrize(
    ("command", "model"),
    [
        pytest.param(
            name, path, id=f"{name}-{path.stem}", marks=pytest.mark.slow if (name, path.stem) in SLOW else ()
        )
        for name in CALLS
        for path in MODELS
    ],
)
def test_a_command_takes_a_shipped_model(command: str, model: Path, wide_world: Path, tmp_path: Path) -> None:
    CALLS[command](model, wide_world, tmp_path)


def test_no_command_that_takes_a_model_is_left_out() -> None:
    takes = {
        name
        for name in COMMANDS
        if "model" in inspect.getdoc(getattr(syncl, name.replace("-", "_"))).partition("Args:")[2].lower()
    }
    called = {name for names in CALLS for name in names.split(", ")}
    # The demo names its model itself, and is all of test_demo.py.
    assert MODELS and takes - {"recipes", "experiment", "demo"} <= called


@pytest.mark.parametrize("model", MODELS, ids=lambda path: path.stem)
def test_the_recipe_of_a_shipped_model_is_read(model: Path) -> None:
    loaded = load_model(model)
    assert recipe_from_json(loaded.recipe, str(model)).training.steps > 0
