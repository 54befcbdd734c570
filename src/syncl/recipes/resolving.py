"""A recipe with everything that a command line says about it."""

from dataclasses import replace
from typing import Literal

from syncl.checkpoints.limits import check_bounds
from syncl.errors import SynclError
from syncl.recipes.changes import apply_changes as apply_changes
from syncl.recipes.own import named_recipe
from syncl.recipes.recipe import Recipe, own_types, recipe_from_json, recipe_to_json
from syncl.recipes.registry import RECIPES
from syncl.recipes.synthetic import frozen_encoder
from syncl.trackers.one_track import OneTrackConfig
from syncl.training.strategies import BaselineConfig, StrategyConfig
from syncl.training.strategies.syncl.strategy import SynclConfig

StrategyName = Literal["baseline", "syncl"]
_KINDS: dict[StrategyName, type[BaselineConfig] | type[SynclConfig]] = {
    "baseline": BaselineConfig,
    "syncl": SynclConfig,
}


def resolve_recipe(
    recipe: str | Recipe,
    strategy: StrategyName | None = None,
    freeze_encoder: bool = False,
    changes: tuple[str, ...] = (),
) -> Recipe:
    """A recipe, or the one of this name, with a strategy chosen and settings changed.

    Args:
        recipe: name of a recipe, a file or function of your own (`named_recipe`), or a recipe.
        strategy: the recipe's own of this name; for a recipe that has none, see `strategy_for`.
        freeze_encoder: keep backbone and neck as they are.
        changes: settings such as `training.steps=500`.

    Raises:
        SynclError: if the recipe, a setting or a combination of settings does not exist, a number is beyond
            what it can mean, or a value is none that its field, or a file, can hold.
    """
    if isinstance(recipe, str):
        known = named_recipe(recipe, strategy)
    else:
        known = recipe.with_choice_made(strategy)
    if strategy is not None:
        training = replace(known.training, strategy=strategy_for(known, strategy))
        known = replace(known, training=training)
    if freeze_encoder:
        known = frozen_encoder(known)
    known = apply_changes(known, changes)
    check_bounds(known.model, f"{known.name}: model")
    check_bounds(known.training, f"{known.name}: training")
    check_strategy(known)
    check_classes(known)
    return known


def check_classes(recipe: Recipe) -> None:
    """Refuse what a run's files could not be read back from, before there is a run.

    Raises:
        SynclError: naming the setting whose value is none, the class that cannot be built, or whose name is
            another's.
    """
    model, training = recipe.model, recipe.training
    parts = {
        "model.detector": model.detector,
        "model.tracker": model.tracker,
        "training.strategy": training.strategy,
        **{f"training.unroll.objectives[{n}]": one for n, one in enumerate(training.unroll.objectives)},
    }
    for place, config in parts.items():
        if not callable(getattr(config, "build", None)):
            raise SynclError(
                f"{recipe.name}.{place}: {type(config).__name__} has no method build; docs/add-detector.md, "
                "add-tracker.md and add-strategy.md say what it is given and returns"
            )
    recipe_from_json(recipe_to_json(recipe), recipe.name, own_types(recipe))


def check_strategy(recipe: Recipe) -> None:
    """Refuse a strategy that contradicts itself or the model.

    Raises:
        SynclError: with the reason.
    """
    strategy, tracker = recipe.training.strategy, recipe.model.tracker
    if not isinstance(strategy, BaselineConfig | SynclConfig):
        return
    strategy.check()
    if strategy.two_tasks is None:
        return
    coordination = strategy.two_tasks.coordination
    if coordination in ("none", "drop") or isinstance(tracker, OneTrackConfig):
        return
    raise SynclError(
        f"strategy: two_tasks.coordination={coordination} needs OneTrack, and model.tracker is a "
        f"{type(tracker).__name__}; choose a recipe of OneTrack, or coordination none or drop"
    )


def strategy_for(recipe: Recipe, name: StrategyName) -> StrategyConfig:
    """A strategy for a recipe whose choice is made, or never was: its own if it is of that kind.

    Otherwise the one that the recipe of its name would have, or else the plain one; either with the costs and
    losses of the recipe's own, so that the two can be compared.
    """
    own, kind = recipe.training.strategy, _KINDS[name]
    if isinstance(own, kind):
        return own
    registered = RECIPES[recipe.name]().strategies if recipe.name in RECIPES else {}
    chosen: StrategyConfig = registered[name].config if name in registered else kind()
    if isinstance(own, BaselineConfig | SynclConfig) and isinstance(chosen, BaselineConfig | SynclConfig):
        return replace(chosen, cost=own.cost, loss=own.loss, release_m=own.release_m, two_tasks=own.two_tasks)
    return chosen
