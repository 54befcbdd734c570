"""Recipes: plain functions that return a model and the settings to train it.

`RECIPES` names them all; `syncl train NAME` runs one, with any setting changed on the command line.
"""

from syncl.recipes.recipe import Recipe
from syncl.recipes.registry import RECIPES, find_recipe

__all__ = ["RECIPES", "Recipe", "find_recipe"]
