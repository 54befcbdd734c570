"""`syncl recipes`."""

import sys
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from syncl.runs.recipes import RecipeEntry

# Terminals at least this wide, and pipes, get everything about a recipe on its one line.
_WIDE = 200


def recipes(name: Annotated[str | None, tyro.conf.Positional] = None, /) -> "tuple[RecipeEntry, ...]":
    """List the recipes: size, cost of a frame, published results, what they start from.

    Cost is counted for one frame of all cameras without any tracks, a multiplication and an addition as two
    operations. Published results are the papers' on nuScenes' validation split, not measured here. A recipe
    that can be trained with several strategies is listed under several names: NAME_syncl is what
    `syncl train NAME --strategy syncl` trains.

    Args:
        name: a recipe to show in full.

    Returns:
        The recipes listed, each with its strategy chosen, and what their models cost.
    """
    from shutil import get_terminal_size

    from syncl.runs.recipes import details, list_recipes, listing

    found = list_recipes(name)
    wide = not sys.stdout.isatty() or get_terminal_size().columns >= _WIDE
    lines = listing(found, wide) if name is None else details(found[0])
    sys.stdout.write("\n".join(lines) + "\n")
    return found
