"""`syncl recipes`."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

if TYPE_CHECKING:
    from syncl.recipes.listing import RecipeEntry

# Terminals at least this wide, and pipes, get everything about a recipe on its one line.
_WIDE = 200


def recipes(
    name: Annotated[str | None, tyro.conf.Positional] = None,
    /,
    *,
    write: Path | None = None,
    set: tuple[str, ...] = (),
    overwrite: bool = False,
) -> "tuple[RecipeEntry, ...]":
    """List the recipes: size, cost of a frame, published results, what they start from.

    Cost is counted for one frame of all cameras without any tracks, a multiplication and an addition as two
    operations. Published results are the papers' on nuScenes' validation split, not measured here. A recipe
    that can be trained with several strategies is listed under several names: NAME_syncl is what
    `syncl train NAME --strategy syncl` trains.

    Args:
        name: a recipe to show whole, with every setting; one of your own too, as for syncl train.
        write: file (.yaml) to write that recipe to, for changes of your own: `syncl train FILE`.
        set: settings changed in what is shown or written, such as training.steps=500.
        overwrite: replace an existing file.

    Returns:
        The recipes listed, each with what its model costs.
    """
    from shutil import get_terminal_size

    from syncl.errors import SynclError
    from syncl.files import atomic_write, check_output
    from syncl.runs.recipes import details, list_recipes, listing

    if name is None and (write is not None or set):
        raise SynclError("--write, --set: name the recipe: syncl recipes NAME --write my.yaml")
    if write is not None and write.suffix not in (".yaml", ".yml"):
        raise SynclError(f"--write: {write}; a recipe is written as YAML, name it so")
    if name is None:
        found = list_recipes()
        wide = not sys.stdout.isatty() or get_terminal_size().columns >= _WIDE
        sys.stdout.write("\n".join(listing(found, wide)) + "\n")
        return found
    from dataclasses import replace

    from syncl.own_code import options_for, own_classes
    from syncl.recipes import resolve_recipe
    from syncl.recipes.listing import entries_of
    from syncl.recipes.own import is_own, recipe_text
    from syncl.recipes.recipe import own_types

    own = is_own(name)
    found = (replace(entries_of(name, resolve_recipe(name))[0], name=name),) if own else list_recipes(name)
    recipe = resolve_recipe(name, changes=set)
    if write is None:
        facts = details(recipe, found[0].strategies, None if own else found[0].cost, name, set)
        settings = recipe_text(recipe).partition("model:")
        sys.stdout.write("\n".join(facts) + f"\n\n{''.join(settings[1:])}")
        return found
    check_output(write, overwrite)
    if unknown := [cls.__name__ for cls in own_types(recipe) if cls not in own_classes()]:
        raise SynclError(
            f"--write: {name} has settings of classes of your own, {', '.join(unknown)}, which no file may "
            f"name unasked; train it as it is, syncl train {name}, or say syncl --with FILE.py here and "
            "wherever the file that is written is used"
        )
    syncl = " ".join(("syncl", *(options_for(own_types(recipe)) or [])))
    text = recipe_text(replace(recipe, name=write.stem))
    head = f"# {name} of syncl recipes, whole. Change what you like: {syncl} train {write.name} --data ..."
    atomic_write(write, f"{head}\n{text}".encode())
    sys.stdout.write(f"wrote {write}: train it with {syncl} train {write} --data DIR --output RUN\n")
    return found
