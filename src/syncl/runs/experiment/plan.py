"""What a plan of paired trainings holds.

A JSON file:

    {
      "name": "table-4a",
      "version": "v1.0-trainval", "train_split": "train", "split": "val", "scenes": 20,
      "init": "runs/detector/model.safetensors",
      "seeds": [0, 1, 2],
      "set": ["training.steps=800", "training.precision=fp32"],
      "reference": "baseline",
      "arms": [
        {"name": "baseline", "recipe": "mutr3d_detr3d_synthetic", "strategy": "baseline"},
        {"name": "syncl", "recipe": "mutr3d_detr3d_synthetic", "strategy": "syncl"},
        {"name": "det+trk", "recipe": "mutr3d_detr3d_synthetic", "strategy": "syncl",
         "set": ["training.strategy.contrastive.weight=0"]}
      ]
    }

`init` is a model file, a run's folder or the name of a model that ships with syncl. `scenes` limits scoring
to the first scenes of `split` (0 = all). `init`, `seeds` and `reference` (the arm that differences are taken
from) may also stand in an arm and hold for it alone. `features` names a folder for image features, see `syncl
train --cache-features`; `evaluation_data` another dataset (of the same version) that `split` is of. A recipe
may be a file of your own (.yaml), but no function: a plan never names code to run. Paths are relative to the
plan's folder.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from syncl.data.nuscenes.splits import own_split
from syncl.errors import SynclError, shown
from syncl.files import parse_json
from syncl.models import MODELS
from syncl.recipes import Recipe
from syncl.recipes.own import OWN_FILES, is_own
from syncl.recipes.resolving import StrategyName, resolve_recipe
from syncl.runs.train.feature_cache import check_cacheable


@dataclass(frozen=True)
class Arm:
    """One thing that is compared.

    Attributes:
        name: in tables and file names.
        recipe: name of a recipe.
        strategy: replaces the recipe's strategy; None keeps it.
        changes: settings changed for this arm, after the plan's own.
        init: file of the model to start from; None starts from scratch.
        seeds: with which it is run.
        reference: the arm that its differences are taken from.
    """

    name: str
    recipe: str
    strategy: StrategyName | None
    changes: tuple[str, ...]
    init: Path | None
    seeds: tuple[int, ...]
    reference: str


@dataclass(frozen=True)
class Plan:
    """A plan; see the module's docstring."""

    name: str
    version: str
    train_split: str | None
    split: str
    scenes: int
    seeds: tuple[int, ...]
    changes: tuple[str, ...]
    reference: str
    arms: tuple[Arm, ...]
    features: Path | None = None
    evaluation_data: Path | None = None

    @property
    def runs(self) -> tuple[tuple[Arm, int], ...]:
        """All runs, seed by seed, so that pairs are complete early."""
        seeds = sorted({seed for arm in self.arms for seed in arm.seeds})
        return tuple((arm, seed) for seed in seeds for arm in self.arms if seed in arm.seeds)

    def resolved(self, arm: Arm, seed: int) -> Recipe:
        """The recipe of a run.

        Raises:
            SynclError: if the recipe or a setting does not exist.
        """
        recipe = resolve_recipe(arm.recipe, arm.strategy, False, (*self.changes, *arm.changes))
        return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=seed))


_MOST_SCENES = 10**6
_FIELDS = {
    "name", "version", "train_split", "split", "scenes", "init", "seeds", "set", "reference", "arms",
    "features", "evaluation_data",
}  # fmt: skip
_ARM_FIELDS = {"name", "recipe", "strategy", "set", "init", "seeds", "reference"}


def read_plan(path: Path, to_run: bool = True, data: Path | None = None) -> Plan:
    """Read a plan and resolve every run of it, so that mistakes show before any work.

    Args:
        path: JSON file.
        data: folder of the dataset; it says which split is scored where neither plan nor version does.
        to_run: its runs will be made: recipes and settings must be this version's, starting points be there.

    Raises:
        SynclError: naming file, field and value.
    """
    if not path.exists():
        raise SynclError(f"{path}: no such file")
    value = parse_json(path)
    if not isinstance(value, dict):
        raise SynclError(f"{path}: a plan is a JSON object")
    _check_names(value, _FIELDS, {"name", "seeds", "arms"}, f"{path}")
    arms = value["arms"]
    if not isinstance(arms, list) or not arms:
        raise SynclError(f"{path}: arms: give a list of at least one arm")
    where, first = str(path), arms[0].get("name") if isinstance(arms[0], dict) else ""
    seeds = _seeds(value["seeds"], where)
    scenes = value.get("scenes", 0)
    if type(scenes) is not int or not 0 <= scenes <= _MOST_SCENES:
        raise SynclError(f"{path}: scenes: {shown(scenes)}; give a whole number, 0 for all")
    reference = _text(value, "reference", where, str(first))
    features, elsewhere = (_text(value, name, where) for name in ("features", "evaluation_data"))
    version = _text(value, "version", where, "v1.0-mini")
    held_out = path.parent / elsewhere if elsewhere else data
    plan = Plan(
        name=_text(value, "name", where),
        version=version,
        train_split=_text(value, "train_split", where) or None,
        split=_text(value, "split", where) or own_split(version, held_out),
        scenes=scenes,
        seeds=seeds,
        changes=_changes(value, where),
        reference=reference,
        arms=tuple(_arm(arm, value, path, number, seeds, reference) for number, arm in enumerate(arms)),
        features=path.parent / features if features else None,
        evaluation_data=held_out if elsewhere else None,
    )
    names = [arm.name for arm in plan.arms]
    if len(set(names)) != len(names):
        raise SynclError(f"{path}: arms: two have the same name, {names}")
    for named in (plan.reference, *(arm.reference for arm in plan.arms)):
        if named not in names:
            raise SynclError(f"{path}: reference: {named!r} is none of the arms {', '.join(names)}")
    for arm in plan.arms if to_run else ():
        if arm.init is not None and not arm.init.is_file():
            raise SynclError(
                f"{path}: arm {arm.name!r}: init: {arm.init} is no model file and no run's folder with one; "
                f"models that ship with syncl: {', '.join(MODELS)}"
            )
        try:
            recipe = plan.resolved(arm, arm.seeds[0])
            if plan.features is not None:
                check_cacheable(recipe)
        except SynclError as error:
            raise SynclError(f"{path}: arm {arm.name!r}: {error}") from error
    return plan


def _text(value: dict[str, object], name: str, where: str, default: str = "") -> str:
    text = value.get(name)
    if text is None:
        text = default
    if not isinstance(text, str):
        raise SynclError(f"{where}: {name}: {shown(text)}; give a text")
    return text


def _changes(value: dict[str, object], where: str) -> tuple[str, ...]:
    texts = value.get("set", [])
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise SynclError(f"{where}: set: {shown(texts)}; give a list of texts")
    seeded = next((text for text in texts if text.partition("=")[0] == "training.seed"), None)
    if seeded is not None:
        raise SynclError(f"{where}: set: {seeded}: every run has a seed of its own; name them in seeds")
    return tuple(texts)


def _seeds(value: object, where: str) -> tuple[int, ...]:
    whole = isinstance(value, list) and all(type(seed) is int and 0 <= seed < 2**32 for seed in value)
    if not isinstance(value, list) or not whole or not value or len(set(value)) != len(value):
        raise SynclError(
            f"{where}: seeds: {shown(value)}; give one or more different whole numbers from 0 to 2**32 - 1"
        )
    return tuple(value)


def _arm(
    arm: object, plan: dict[str, object], path: Path, number: int, seeds: tuple[int, ...], reference: str
) -> Arm:
    if not isinstance(arm, dict):
        raise SynclError(f"{path}: arms[{number}]: an arm is a JSON object")
    _check_names(arm, _ARM_FIELDS, {"name", "recipe"}, f"{path}: arms[{number}]")
    where = f"{path}: arms[{number}]"
    name, strategy = _text(arm, "name", where), arm.get("strategy")
    init = _text(arm if "init" in arm else plan, "init", where)
    if strategy not in (None, "baseline", "syncl"):
        raise SynclError(f"{where}: strategy {shown(strategy)}: choose baseline or syncl")
    if not name or name.startswith(".") or any(sign in name for sign in "/\\\0"):
        raise SynclError(f"{where}: name {name!r} cannot be part of a file name")
    if "seeds" in arm:
        seeds = _seeds(arm["seeds"], where)
    recipe = _text(arm, "recipe", where)
    if is_own(recipe):
        if not recipe.endswith(OWN_FILES):
            raise SynclError(
                f"{where}: recipe: {recipe!r}; a plan names no code to run: write what the function returns "
                "with syncl recipes NAME --write my.yaml, and name that file; classes of your own in it are "
                "those of syncl --with FILE.py, both times"
            )
        recipe = str(path.parent / recipe)
    return Arm(
        name,
        recipe,
        cast(StrategyName | None, strategy),
        _changes(arm, where),
        _start(path.parent, init) if init else None,
        seeds,
        _text(arm, "reference", where, reference),
    )


def _start(folder: Path, init: str) -> Path:
    """The model file to start from: from the plan's folder on, a run's, or a shipped one's by its name."""
    beside = folder / init
    if init in MODELS and not beside.exists():
        return MODELS[init].path
    return beside / "model.safetensors" if (beside / "model.safetensors").is_file() else beside


def _check_names(value: dict[str, object], known: set[str], needed: set[str], where: str) -> None:
    unknown, missing = sorted(value.keys() - known), sorted(needed - value.keys())
    if unknown:
        raise SynclError(f"{where}: unknown field {unknown[0]!r}; fields: {', '.join(sorted(known))}")
    if missing:
        raise SynclError(f"{where}: field {missing[0]!r} is missing")
