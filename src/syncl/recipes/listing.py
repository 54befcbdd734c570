"""What `syncl recipes` lists, kept in a file, so that listing builds no recipe and imports no torch."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

from syncl.recipes.cost import Cost, recipe_cost
from syncl.recipes.paper import PaperResult

if TYPE_CHECKING:
    from syncl.recipes.recipe import Recipe

LISTING_FILE = "listing.json"
"""`tools/recipe_costs.py` writes it anew when recipes change."""


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe with its strategy chosen, as it is listed.

    Attributes:
        name: as on the command line; of one of your own, its file or function.
        base: its name without a strategy at the end.
        summary: one line.
        image_size: (H, W) pixels a camera.
        starts_from: what `--init` should be given, in words; empty = from scratch.
        paper: published results, where there are any.
        strategies: all that it could be trained with; empty where it leaves no choice.
    """

    name: str
    base: str
    summary: str
    image_size: tuple[int, int]
    starts_from: str
    paper: PaperResult | None
    strategies: tuple[str, ...]

    @property
    def cost(self) -> Cost:
        """Of its model; counted for registered recipes only."""
        return recipe_cost(self.base)

    @property
    def recipe(self) -> "Recipe":
        """The recipe itself; building it imports torch."""
        from syncl.recipes.own import named_recipe

        return named_recipe(self.name)


def entries_of(base: str, template: "Recipe") -> list[RecipeEntry]:
    """A recipe under all its names.

    Args:
        base: the name it is registered under.
        template: the recipe, its strategy not chosen yet.
    """
    ways = [template.trained_with(name) for name in template.strategies] or [template]
    return [
        RecipeEntry(
            way.name,
            base,
            way.summary,
            way.model.input.image_size,
            way.starts_from,
            way.paper,
            tuple(template.strategies),
        )
        for way in ways
    ]


@cache
def recipe_entries() -> tuple[RecipeEntry, ...]:
    """All recipes under all their names, in the order of the registry."""
    written = orjson.loads((Path(__file__).parent / LISTING_FILE).read_bytes())
    return tuple(
        RecipeEntry(
            **{
                **entry,
                "image_size": tuple(entry["image_size"]),
                "paper": None if entry["paper"] is None else PaperResult(**entry["paper"]),
                "strategies": tuple(entry["strategies"]),
            }
        )
        for entry in written
    )
