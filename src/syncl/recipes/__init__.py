"""Recipes: plain functions that return a model and the settings to train it.

`RECIPES` names them all; `syncl train NAME` runs one, with any setting changed on the command line. A recipe
holds the strategies that its model can be trained with; `NAME_syncl` is `NAME` with the one called `syncl`.
Files and functions of your own are recipes too: `syncl.recipes.own`.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.recipes.recipe import Recipe, RecipeStrategy
    from syncl.recipes.registry import RECIPES, find_recipe, recipe_names
    from syncl.recipes.resolving import resolve_recipe

__all__ = ["RECIPES", "Recipe", "RecipeStrategy", "find_recipe", "recipe_names", "resolve_recipe"]


def __getattr__(name: str) -> object:
    """Listing recipes must not import torch, which recipes themselves need."""
    import importlib

    for module in ("recipe", "registry", "resolving") if name in __all__ else ():
        found: object = getattr(importlib.import_module(f"syncl.recipes.{module}"), name, None)
        if found is not None:
            return found
    raise AttributeError(f"module 'syncl.recipes' has no attribute {name!r}")
