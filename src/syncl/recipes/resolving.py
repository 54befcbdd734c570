"""A recipe with everything that a command line says about it."""

import dataclasses
import typing
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, TypeVar

from syncl.checkpoints.limits import check_bounds, fitted
from syncl.checkpoints.upgrades import replacement
from syncl.errors import SynclError, did_you_mean, shown
from syncl.files import parse_json
from syncl.recipes.recipe import BASELINE, Recipe
from syncl.recipes.registry import RECIPES, find_recipe
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
        recipe: name of a recipe, or a recipe of your own.
        strategy: the recipe's own of this name; for a recipe that has none, see `strategy_for`.
        freeze_encoder: keep backbone and neck as they are.
        changes: settings such as `training.steps=500`.

    Raises:
        SynclError: if the recipe, a setting or a combination of settings does not exist, or a number is
            beyond what it can mean.
    """
    if isinstance(recipe, str):
        known = find_recipe(recipe, strategy)
    else:
        known = recipe.trained_with(strategy or BASELINE) if recipe.strategies else recipe
    if strategy is not None:
        training = replace(known.training, strategy=strategy_for(known, strategy))
        known = replace(known, training=training)
    if freeze_encoder:
        known = frozen_encoder(known)
    known = apply_changes(known, changes)
    check_bounds(known.model, f"{known.name}: model")
    check_bounds(known.training, f"{known.name}: training")
    check_strategy(known)
    return known


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


Config = TypeVar("Config")


def apply_changes(config: Config, changes: tuple[str, ...]) -> Config:
    """A configuration with settings such as `training.steps=500` changed.

    Values are read as JSON (numbers, true, false, null, "text", [lists]); anything else is text.

    Raises:
        SynclError: if a name does not exist, with the names there are, or a value has the wrong type.
    """
    for change in changes:
        name, separator, text = change.partition("=")
        if not separator or not name:
            raise SynclError(f"--set {change!r}: write NAME=VALUE, such as training.steps=500")
        names = tuple(_names(config))
        whole = [known for known in names if known.endswith(f".{name}")]
        close = did_you_mean(whole[0] if whole else name, names)
        config = _replace(config, name.split("."), _parse(text), change, close)
    return config


def _parse(text: str) -> object:
    try:
        return _tuples(parse_json(text))
    except SynclError:
        return text


def _tuples(value: object) -> object:
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value


def _names(config: object) -> Iterator[str]:
    """Every setting in a configuration, such as `training.steps`."""
    if dataclasses.is_dataclass(config):
        for field in dataclasses.fields(config):
            yield field.name
            yield from (f"{field.name}.{name}" for name in _names(getattr(config, field.name)))


def _replace(config: Config, path: list[str], value: object, change: str, close: str) -> Config:
    if not dataclasses.is_dataclass(config) or isinstance(config, type):
        raise SynclError(f"--set {change!r}: {path[0]!r} is inside a plain value, not inside settings")
    names = [field.name for field in dataclasses.fields(config)]
    if path[0] not in names:
        known = replacement(type(config).__name__, path[0]) or f"settings: {', '.join(names)}"
        raise SynclError(f"--set {change!r}: no setting {path[0]!r} there; {known}{close}")
    if len(path) > 1:
        inner = _replace(getattr(config, path[0]), path[1:], value, change, close)
        return dataclasses.replace(config, **{path[0]: inner})
    expected = typing.get_type_hints(type(config))[path[0]]
    accepted, converted = fitted(value, expected)
    if not accepted:
        raise SynclError(f"--set {change!r}: {shown(value)} is not a {_name(expected)}")
    return dataclasses.replace(config, **{path[0]: converted})


def _name(expected: object) -> str:
    return getattr(expected, "__name__", None) or str(expected)
