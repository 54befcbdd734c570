"""Recipes of your own: a YAML file, whole or with what differs from another one; or a Python function.

    base: mutr3d_detr3d_synthetic_syncl     # a recipe's name, or a file beside this one
    training:
      steps: 4000
      optimiser: {learning_rate: 2e-4}

`syncl recipes NAME --write my.yaml` writes a whole one. Names and values are checked as those of `--set`. A
value with a `type` is a whole configuration: what it leaves out has that type's defaults. A file never names
code to run.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import FunctionType
from typing import cast

import yaml

from syncl.checkpoints.codec import decode_config
from syncl.checkpoints.upgrades import Json
from syncl.data.yaml_node import Node, read_yaml
from syncl.errors import SynclError
from syncl.own_code import failure, import_code
from syncl.recipes.changes import as_tuples, change_setting
from syncl.recipes.recipe import RECIPE_TYPES, Recipe, recipe_from_json, recipe_to_json
from syncl.recipes.registry import find_recipe

OWN_FILES = (".yaml", ".yml")
"""How names of recipe files end."""

_MOST_BASES = 8
# YAML 1.1 takes numbers such as 1e-4 for texts.
_NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")


def is_own(name: str) -> bool:
    """Whether a recipe's name is that of a file or a function of your own."""
    return name.endswith((*OWN_FILES, ".py")) or ":" in name


def named_recipe(name: str, strategy: str | None = None) -> Recipe:
    """A registered recipe, or one of your own.

    Args:
        name: of a recipe; a file (`my.yaml`); or a function without arguments that returns a recipe, in a
            file (`my_recipes.py:quick`) or a module that can be imported (`my_package.recipes:quick`).
        strategy: one of the recipe's strategies; None keeps its own.

    Raises:
        SynclError: there is no such recipe, or file or function cannot be used, with the reason.
    """
    if name.endswith(OWN_FILES):
        return read_recipe(Path(name))
    if not is_own(name):
        return find_recipe(name, strategy)
    return _from_function(name).with_choice_made(strategy)


def read_recipe(path: Path) -> Recipe:
    """The recipe in a YAML file; where the file does not name it, it has the file's name.

    Raises:
        SynclError: naming file, setting and value.
    """
    return _read(path, ())


def recipe_text(recipe: Recipe) -> str:
    """A recipe whole, as YAML that `read_recipe` reads; the paper's results stay behind."""
    values = cast(dict[str, object], recipe_to_json(recipe))
    kept = {name: value for name, value in values.items() if name not in ("type", "paper")}
    text: str = yaml.safe_dump(kept, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    return text


def _read(path: Path, above: tuple[Path, ...]) -> Recipe:
    if not path.is_file():
        raise SynclError(f"{path}: there is no such file; syncl recipes NAME --write {path} makes one")
    if len(above) > _MOST_BASES or path.resolve() in above:
        raise SynclError(f"{path}: base: recipes that stand on each other without end")
    node = read_yaml(path, "docs/training.md")
    entries = node.entries()
    base = entries.pop("base", None)
    if base is None:
        fields = {"name": path.stem, **cast(dict[str, Json], _numbers(node.value)), "type": "Recipe"}
        return recipe_from_json(cast(Json, fields), str(path))
    name = base.text()
    if name.endswith(OWN_FILES):
        recipe = _read(path.parent / name, (*above, path.resolve()))
    else:
        try:
            recipe = find_recipe(name)
        except SynclError as error:
            base.fail(str(error))
    recipe = replace(recipe, name=path.stem, paper=None)
    for entry in entries.values():
        for place, value in _changes(entry):
            recipe = change_setting(recipe, place.split("."), value, f"{path}: {place}")
    return recipe


def _changes(entry: Node) -> Iterator[tuple[str, object]]:
    """Settings below an entry of a recipe file, by their places, and their values."""
    if not isinstance(entry.value, dict):
        yield entry.place, as_tuples(_numbers(entry.value))
    elif "type" in entry.value:
        source = f"{entry.path}: {entry.place}"
        yield entry.place, decode_config(cast(Json, _numbers(entry.value)), object, RECIPE_TYPES, source)
    else:
        for inner in entry.entries().values():
            yield from _changes(inner)


def _numbers(value: object) -> object:
    if isinstance(value, dict):
        return {name: _numbers(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) and _NUMBER.fullmatch(value) else value


def _from_function(name: str) -> Recipe:
    place, _, function = name.rpartition(":")
    if not place:
        raise SynclError(f"{name}: name the function behind a colon: {name}:FUNCTION")
    module = import_code(place)
    found = getattr(module, function, None)
    try:
        recipe = found() if callable(found) else None
    except SynclError:
        raise
    except Exception as error:
        raise SynclError(f"{name}: {failure(error)}") from error
    if isinstance(recipe, Recipe):
        return recipe
    known = [
        item for item, value in vars(module).items()
        if isinstance(value, FunctionType) and value.__module__ == module.__name__ and item[0] != "_"
    ]  # fmt: skip
    what = f"returns a {type(recipe).__name__}, not a Recipe" if callable(found) else "is not there"
    raise SynclError(f"{place}: the function {function!r} {what}; there are {', '.join(known) or 'none'}")
