"""What `syncl convert` does."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from syncl.checkpoints.formats import find_format
from syncl.checkpoints.mapping import Conversion
from syncl.checkpoints.model_file import load_model, save_model
from syncl.checkpoints.published import read_published, write_published
from syncl.recipes import find_recipe
from syncl.recipes.changes import apply_changes
from syncl.recipes.recipe import recipe_to_json


@dataclass(frozen=True)
class ConvertedFile:
    """A file that was converted.

    Attributes:
        path: of the new file.
        kind: the recipe whose model was filled, or the format that was written.
        conversion: what came of it, entry by entry.
    """

    path: Path
    kind: str
    conversion: Conversion


def import_checkpoint(
    source: Path,
    output: Path,
    format_name: str,
    recipe_name: str | None = None,
    changes: tuple[str, ...] = (),
) -> ConvertedFile:
    """Fill a recipe's model from a published checkpoint and write it as a model file.

    Parameters the checkpoint does not have get their initial values, the same at every call; the file's note
    `new` names them, so that training started from it draws its own.

    Raises:
        SynclError: if the checkpoint cannot be read or does not fit the recipe.
    """
    adapter = find_format(format_name)
    recipe = apply_changes(find_recipe(recipe_name or adapter.recipe), changes)
    recipe = replace(recipe, model=adapter.converted(recipe.model))
    conversion = adapter.read(read_published(source), recipe.model, str(source))
    torch.manual_seed(0)
    weights = recipe.model.build().state_dict() | conversion.weights
    notes = {"converted_from": f"{source.name} ({adapter.title})", "new": "\n".join(conversion.new)}
    save_model(output, weights, recipe.model, recipe_to_json(recipe), notes)
    return ConvertedFile(output, recipe.name, conversion)


def export_checkpoint(source: Path, output: Path, format_name: str) -> ConvertedFile:
    """Write a model file's parameters under a published format's names, for the original's code.

    Raises:
        SynclError: if the file cannot be read or the format is not for its model.
    """
    adapter = find_format(format_name)
    model = load_model(source)
    conversion = adapter.write(model.tracker.state_dict(), model.config)
    classes = ", ".join(model.config.detector.classes)
    write_published(output, conversion.weights, {"classes": classes, "written_by": "syncl convert"})
    return ConvertedFile(output, adapter.title, conversion)
