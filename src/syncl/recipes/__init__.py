"""Recipes: plain functions that return a model and the settings to train it.

`RECIPES` names them all; `syncl train NAME` runs one, with any setting changed on the command line. A recipe
holds the strategies that its model can be trained with; `NAME_syncl` is `NAME` with the one called `syncl`.
"""

from syncl.recipes.recipe import Recipe, RecipeStrategy
from syncl.recipes.registry import RECIPES, find_recipe, recipe_names
from syncl.recipes.resolving import resolve_recipe

__all__ = ["RECIPES", "Recipe", "RecipeStrategy", "find_recipe", "recipe_names", "resolve_recipe"]
