"""Recipes of your own: written, read, changed, refused."""

from dataclasses import dataclass, make_dataclass, replace
from pathlib import Path

import pytest

from syncl.commands.recipes import recipes
from syncl.errors import SynclError
from syncl.recipes import RECIPES, find_recipe, resolve_recipe
from syncl.recipes.recipe import recipe_from_json, recipe_to_json
from syncl.training.objectives.denoising import DenoisingConfig
from syncl.training.strategies import RefinedCandidatesConfig

NAME = "mutr3d_detr3d_synthetic_syncl"


def test_a_recipe_written_whole_is_the_same_recipe(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    recipes(NAME, write=path, set=("training.steps=7",))
    known = resolve_recipe(NAME, changes=("training.steps=7",))
    assert resolve_recipe(str(path)) == replace(known, name="mine")
    with pytest.raises(SynclError, match="exists"):
        recipes(NAME, write=path)


def test_a_setting_inside_a_part_that_is_left_out_puts_it_in() -> None:
    known = resolve_recipe("petr_synthetic")
    assert known.training.unroll.denoising is None
    name = "training.unroll.denoising"
    changed = resolve_recipe("petr_synthetic", changes=(f"{name}.groups=3", f"{name}.loss.box=1"))
    default = DenoisingConfig()
    expected = replace(default, groups=3, loss=replace(default.loss, box=1.0))
    assert changed.training.unroll.denoising == expected
    assert resolve_recipe("petr_synthetic", changes=(f"{name}.groups=3", f"{name}=null")) == known
    with pytest.raises(SynclError, match="no setting 'group' there; settings: groups, noise_scale"):
        resolve_recipe("petr_synthetic", changes=(f"{name}.group=3",))


def test_a_recipe_is_shown_whole(capsys: pytest.CaptureFixture[str]) -> None:
    recipes(NAME, set=("training.steps=77",))
    shown = capsys.readouterr().out
    assert shown.startswith(NAME) and "steps: 77" in shown and "point_range: [-51.2," in shown


def test_a_file_may_say_what_differs_from_a_recipe_or_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "first.yaml").write_text(
        f"base: {NAME}\ntraining:\n  steps: 9\n  optimiser: {{learning_rate: 1e-4}}\n"
        "  data:\n    augmentation: {type: Augmentation, flip_probability: 0.25}\n"
    )
    recipes(str(tmp_path / "first.yaml"))
    assert "steps: 9\n" in capsys.readouterr().out
    (tmp_path / "second.yaml").write_text("base: first.yaml\nsummary: mine\ntraining: {ema: 0.5}\n")
    recipe = resolve_recipe(str(tmp_path / "second.yaml"))
    base = find_recipe(NAME)
    assert (recipe.name, recipe.summary, recipe.training.steps) == ("second", "mine", 9)
    assert recipe.training.optimiser.learning_rate == 1e-4 and recipe.training.ema == 0.5
    assert recipe.training.data.augmentation is not None
    assert recipe.training.data.augmentation.flip_probability == 0.25
    assert recipe.model == base.model and recipe.training.strategy == base.training.strategy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("training: {stepz: 3}", r"own.yaml: training.stepz: no setting 'stepz'.*mean 'training.steps'"),
        ("training: {steps: many}", r"own.yaml: training.steps: 'many' is not a whole number"),
        ("training: {steps: -1}", r"own: training.steps: is -1, expected 1"),
        ("training: [1]", r"own.yaml: training: .* is not a group of settings"),
        ("model: {detector: {type: PetrConfg}}", r"own.yaml: model.detector: .*did you mean 'PetrConfig'"),
        ("base: petr_synthetc", r"own.yaml: base: there is no recipe .*did you mean 'petr_synthetic'"),
        ("base: own.yaml", r"own.yaml: base: recipes that stand on each other without end"),
        ("base: os:getcwd", r"own.yaml: base: there is no recipe 'os:getcwd'"),
        ("- 1", r"own.yaml: is \[1\], expected a mapping"),
    ],
)
def test_files_that_cannot_be_used_are_refused_by_name(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "own.yaml"
    path.write_text(text if text[0] in "b-" else f"base: petr_synthetic\n{text}\n")
    with pytest.raises(SynclError, match=message):
        resolve_recipe(str(path))
    path.write_text("")
    with pytest.raises(SynclError, match=r"own.yaml: is empty; docs/training.md shows what it holds"):
        resolve_recipe(str(path))
    with pytest.raises(SynclError, match="no such file; syncl recipes NAME --write"):
        resolve_recipe(str(tmp_path / "none.yaml"))


def test_a_recipe_that_is_none_names_those_that_are_like_it() -> None:
    with pytest.raises(SynclError, match="no recipe 'v99'; did you mean one of petr_v99_320x800, ") as caught:
        find_recipe("v99")
    assert len(str(caught.value)) < 400


def test_functions_of_your_own_are_recipes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "my_own_recipes.py"
    path.write_text(
        "from dataclasses import replace\nfrom syncl.recipes import RECIPES\n"
        "def quick():\n    return replace(RECIPES['petr_synthetic'](), name='quick')\n"
        "def none():\n    return 3\ndef broken():\n    return 1 / 0\n"
    )
    assert resolve_recipe(f"{path}:quick", changes=("training.steps=2",)).name == "quick"
    monkeypatch.syspath_prepend(tmp_path)
    assert resolve_recipe("my_own_recipes:quick").training == find_recipe("petr_synthetic").training
    for name, message in (
        (f"{path}:none", "returns a int, not a Recipe"),
        (f"{path}:broken", "the code there fails: ZeroDivisionError"),
        (f"{path}:slow", "'slow' is not there; there are quick, none, broken$"),
        (f"{path}", "name the function behind a colon"),
        (f"{tmp_path}/none.py:quick", "there is no such file"),
        ("no_such_module:quick", "ModuleNotFoundError"),
    ):
        with pytest.raises(SynclError, match=message):
            resolve_recipe(name)


def test_a_strategy_put_into_a_recipe_with_a_choice_is_what_is_trained(tmp_path: Path) -> None:
    path = tmp_path / "near_first_recipes.py"
    path.write_text(
        "from dataclasses import replace\nfrom syncl.recipes import RECIPES\n"
        "from syncl.training.strategies import RefinedCandidatesConfig\n"
        "def mine():\n    base = RECIPES['mutr3d_petr_synthetic']()\n"
        "    training = replace(base.training, strategy=RefinedCandidatesConfig())\n"
        "    return replace(base, name='mine', training=training)\n"
    )
    name = f"{path}:mine"
    template = RECIPES["mutr3d_petr_synthetic"]()
    given = replace(template, training=replace(template.training, strategy=RefinedCandidatesConfig()))
    for recipe in (resolve_recipe(name), resolve_recipe(given)):
        assert recipe.training.strategy == RefinedCandidatesConfig() and not recipe.strategies
    # Asked for by name, the recipe's choice is as it ever was.
    assert resolve_recipe(name, "baseline").training == template.training
    assert resolve_recipe(name, "syncl").training.strategy == template.strategies["syncl"].config


def test_classes_of_your_own_are_not_written_to_a_file_that_could_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "with_objective.py"
    path.write_text(
        "from dataclasses import dataclass, replace\nfrom syncl.recipes import RECIPES\n"
        "@dataclass(frozen=True)\nclass MineConfig:\n    weight: float = 1.0\n    def build(self): ...\n"
        "def mine():\n    base = RECIPES['petr_synthetic']()\n"
        "    unroll = replace(base.training.unroll, objectives=(MineConfig(),))\n"
        "    return replace(base, training=replace(base.training, unroll=unroll))\n"
    )
    with pytest.raises(
        SynclError, match=f"MineConfig, which no file may name unasked; .* syncl train {path}:mine, .*--with"
    ):
        recipes(f"{path}:mine", write=tmp_path / "mine.yaml")
    assert not (tmp_path / "mine.yaml").exists()


@dataclass(frozen=True)
class MineConfig:
    """A strategy's configuration that holds what the tests put into it."""

    weight: float = 1.0
    part: object = None

    def build(self, dim: int) -> None: ...


@dataclass(frozen=True)
class UnbuildableConfig:
    weight: float = 1.0


TAKEN = make_dataclass("BaselineConfig", [("weight", float, 1.0)], namespace={"build": print}, frozen=True)


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (
            MineConfig("much"),
            r"^mine\.training\.strategy\.weight: 'much' is no value of MineConfig\.weight \(a nu",
        ),
        (
            MineConfig(part=(1, {2: 3})),
            r"^mine\.training\.strategy\.part\[1\]: \{2: 3\} is a dict, which no file",
        ),
        (UnbuildableConfig(), r"^mine\.training\.strategy: UnbuildableConfig has no method build; docs/add-"),
        (TAKEN(), "two configuration classes are called BaselineConfig, .*; rename yours"),
    ],
)
def test_what_a_runs_files_could_not_be_read_back_from_is_refused_before(
    strategy: object, message: str
) -> None:
    base = find_recipe("mutr3d_petr_synthetic")
    with pytest.raises(SynclError, match=message):
        resolve_recipe(replace(base, name="mine", training=replace(base.training, strategy=strategy)))


def test_what_its_files_say_of_an_own_class_is_what_was_given() -> None:
    base = find_recipe("mutr3d_petr_synthetic")
    recipe = replace(
        base, training=replace(base.training, strategy=MineConfig(2, (1, "x", None, MineConfig())))
    )
    assert resolve_recipe(recipe) == recipe == recipe_from_json(recipe_to_json(recipe), "here", (MineConfig,))
