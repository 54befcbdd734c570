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

`scenes` limits evaluation to the first scenes of `split` (0 = all). `init` may also stand in an arm.
`features` names a folder for image features, see `syncl train --cache-features`; `evaluation_data` another
dataset (of the same version) that `split` is of. Paths are relative to the plan's folder.
"""

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

import orjson

from syncl.commands.feature_cache import check_cacheable
from syncl.commands.training_run import resolve_recipe
from syncl.errors import SynclError
from syncl.recipes import Recipe

Strategy = Literal["baseline", "syncl"]


@dataclass(frozen=True)
class Arm:
    """One thing that is compared.

    Attributes:
        name: in tables and file names.
        recipe: name of a recipe.
        strategy: replaces the recipe's strategy; None keeps it.
        changes: settings changed for this arm, after the plan's own.
        init: model file to start from; None starts from scratch.
    """

    name: str
    recipe: str
    strategy: Strategy | None
    changes: tuple[str, ...]
    init: Path | None


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

    def resolved(self, arm: Arm, seed: int) -> Recipe:
        """The recipe of a run.

        Raises:
            SynclError: if the recipe or a setting does not exist.
        """
        recipe = resolve_recipe(arm.recipe, arm.strategy, False, (*self.changes, *arm.changes))
        return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=seed))


_FIELDS = {
    "name", "version", "train_split", "split", "scenes", "init", "seeds", "set", "reference", "arms",
    "features", "evaluation_data",
}  # fmt: skip
_ARM_FIELDS = {"name", "recipe", "strategy", "set", "init"}


def read_plan(path: Path) -> Plan:
    """Read a plan and resolve every run of it, so that mistakes show before any work.

    Raises:
        SynclError: naming file, field and value.
    """
    try:
        value = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        raise SynclError(f"{path}: no such file") from None
    except orjson.JSONDecodeError as error:
        raise SynclError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, dict):
        raise SynclError(f"{path}: a plan is a JSON object")
    _check_names(value, _FIELDS, {"name", "seeds", "arms"}, f"{path}")
    arms = value["arms"]
    if not isinstance(arms, list) or not arms:
        raise SynclError(f"{path}: arms: give a list of at least one arm")
    plan = Plan(
        name=str(value["name"]),
        version=str(value.get("version", "v1.0-mini")),
        train_split=value.get("train_split"),
        split=str(value.get("split", "mini_val")),
        scenes=int(value.get("scenes", 0)),
        seeds=tuple(int(seed) for seed in value["seeds"]),
        changes=tuple(str(change) for change in value.get("set", ())),
        reference=str(value.get("reference", arms[0].get("name") if isinstance(arms[0], dict) else "")),
        arms=tuple(_arm(arm, value, path, number) for number, arm in enumerate(arms)),
        features=path.parent / str(value["features"]) if "features" in value else None,
        evaluation_data=path.parent / str(value["evaluation_data"]) if "evaluation_data" in value else None,
    )
    names = [arm.name for arm in plan.arms]
    if len(set(names)) != len(names):
        raise SynclError(f"{path}: arms: two have the same name, {names}")
    if plan.reference not in names:
        raise SynclError(f"{path}: reference: {plan.reference!r} is none of the arms {', '.join(names)}")
    if not plan.seeds or len(set(plan.seeds)) != len(plan.seeds):
        raise SynclError(f"{path}: seeds: give one or more different whole numbers")
    for arm in plan.arms:
        try:
            recipe = plan.resolved(arm, plan.seeds[0])
            if plan.features is not None:
                check_cacheable(recipe)
        except SynclError as error:
            raise SynclError(f"{path}: arm {arm.name!r}: {error}") from error
    return plan


def _arm(arm: object, plan: dict[str, object], path: Path, number: int) -> Arm:
    if not isinstance(arm, dict):
        raise SynclError(f"{path}: arms[{number}]: an arm is a JSON object")
    _check_names(arm, _ARM_FIELDS, {"name", "recipe"}, f"{path}: arms[{number}]")
    name, strategy, init = str(arm["name"]), arm.get("strategy"), arm.get("init", plan.get("init"))
    if strategy not in (None, "baseline", "syncl"):
        raise SynclError(f"{path}: arms[{number}]: strategy {strategy!r}: choose baseline or syncl")
    if "/" in name or not name:
        raise SynclError(f"{path}: arms[{number}]: name {name!r} cannot be part of a file name")
    file = None if init is None else path.parent / str(init)
    if file is not None and not file.is_file():
        raise SynclError(f"{path}: arms[{number}]: init: {file} does not exist")
    changes = tuple(str(change) for change in arm.get("set", ()))
    return Arm(name, str(arm["recipe"]), cast(Strategy | None, strategy), changes, file)


def _check_names(value: dict[str, object], known: set[str], needed: set[str], where: str) -> None:
    unknown, missing = sorted(value.keys() - known), sorted(needed - value.keys())
    if unknown:
        raise SynclError(f"{where}: unknown field {unknown[0]!r}; fields: {', '.join(sorted(known))}")
    if missing:
        raise SynclError(f"{where}: field {missing[0]!r} is missing")
