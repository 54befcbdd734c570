"""What `syncl recipes` lists, and its lines of text."""

import shlex
import textwrap
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from syncl.errors import SynclError, alike
from syncl.recipes.cost import Cost
from syncl.recipes.listing import RecipeEntry, recipe_entries
from syncl.recipes.paper import PaperResult

if TYPE_CHECKING:
    from syncl.recipes.recipe import Recipe

# Columns that names may have in narrower ones.
_NAME = 36
_COLUMNS = ("name", "input", "param", "GFLOPs", "AMOTA", "NDS", "mAP")
_LEGEND = (
    "param: million parameters. GFLOPs: for one frame of all cameras (PETRv2: and its past images), without "
    "tracks. Published results: "
    "the papers', in percent, on nuScenes' validation split. NAME_syncl is NAME with --strategy syncl."
)


def list_recipes(name: str | None = None) -> tuple[RecipeEntry, ...]:
    """All recipes under all their names, or the one of this name.

    Raises:
        SynclError: if there is no such recipe, with the one that was meant or the names there are.
    """
    entries = recipe_entries()
    if name is None:
        return entries
    names = [entry.name for entry in entries]
    if name not in names:
        raise SynclError(f"there is no recipe {name!r}{alike(name, names)}; syncl recipes lists all")
    return (entries[names.index(name)],)


def listing(entries: Iterable[RecipeEntry], wide: bool) -> list[str]:
    """Lines of the list: aligned numbers, and behind (wide) or below them where a recipe starts from."""
    table = [(entry, _cells(entry)) for entry in entries]
    widths = [
        max(len(column), *(len(cells[place]) for _, cells in table)) for place, column in enumerate(_COLUMNS)
    ]
    if not wide:
        # Longer names have a line of their own.
        widths[0] = min(widths[0], _NAME)
    lines = [_align(_COLUMNS, widths) + ("  starts from / what it is" if wide else "")]
    for recipe, cells in table:
        start = f"from {recipe.starts_from or 'nothing'}"
        if wide:
            paper = "" if recipe.paper is None else f" [{published(recipe.paper)}]"
            lines.append(f"{_align(cells, widths)}  {start}: {recipe.summary}{paper}")
        else:
            if len(recipe.name) > widths[0]:
                lines.append(recipe.name)
                cells = ("", *cells[1:])
            lines += [_align(cells, widths), f"    {start}"]
    return [*lines, "", *_wrapped(f"{_LEGEND} `syncl recipes NAME` tells more of one.")]


def details(
    recipe: "Recipe", strategies: Sequence[str], cost: Cost | None, name: str, changes: Sequence[str] = ()
) -> list[str]:
    """What is to be said of one recipe, in lines of at most 80 columns.

    Args:
        recipe: with its strategy chosen.
        strategies: all that it could be trained with.
        cost: of its model, if it was counted.
        name: by which commands take it.
        changes: what `--set` changed of it.
    """
    training, data = recipe.training, recipe.training.data
    height, width = recipe.model.input.image_size
    facts = {
        "input": f"{height} x {width} pixels a camera, boxes in the {recipe.model.input.vehicle_frame} frame",
        "parameters": "not counted" if cost is None else f"{cost.parameters / 1e6:.1f} M",
        "cost": "not counted"
        if cost is None
        else f"{cost.frame_flops / 1e9:.0f} GFLOPs a frame, without tracks",
        "published": "none" if recipe.paper is None else published(recipe.paper),
        "starts from": recipe.starts_from or "nothing",
        "training": (
            f"{training.steps} steps, {data.batch_size} {data.sampling} of {data.clip_length} a process, "
            f"learning rate {training.optimiser.learning_rate:g}, of the backbone "
            f"{training.optimiser.learning_rate * training.optimiser.backbone_scale:g}"
        ),
        "strategies": ", ".join(strategies) or "no choice",
        "command": f"syncl train {name} --data DIR --output RUN"
        + (" --init FILE" if recipe.starts_from else "")
        + (f" --set {shlex.join(changes)}" if changes else ""),
    }
    lines = [recipe.name, *_wrapped(recipe.summary, "  ")]
    for title, text in facts.items():
        lines += _wrapped(text, f"  {title + ':':<13} ", " " * 16)
    return lines


def published(result: PaperResult) -> str:
    """A paper's results in words: `SynCL: AMOTA 44.7, AMOTP 1.262 (...)`."""
    named = {
        "AMOTA": result.amota,
        "AMOTP": result.amotp,
        "recall": result.recall,
        "MOTA": result.mota,
        "IDS": result.ids,
        "FP": result.fp,
        "FN": result.fn,
        "NDS": result.nds,
        "mAP": result.map,
    }
    values = ", ".join(f"{name} {value}" for name, value in named.items() if value is not None)
    return f"{result.source}: {values}"


def _cells(entry: RecipeEntry) -> tuple[str, ...]:
    height, width = entry.image_size
    paper, cost = entry.paper, entry.cost
    results = (None,) * 3 if paper is None else (paper.amota, paper.nds, paper.map)
    return (
        entry.name,
        f"{height}x{width}",
        f"{cost.parameters / 1e6:.1f}",
        f"{cost.frame_flops / 1e9:.0f}",
        *("-" if value is None else f"{value:.1f}" for value in results),
    )


def _align(cells: Iterable[str], widths: list[int]) -> str:
    """Names to the left, all else to the right."""
    first, *others = [
        f"{cell:<{width}}" if place == 0 else f"{cell:>{width}}"
        for place, (cell, width) in enumerate(zip(cells, widths, strict=True))
    ]
    return "  ".join([first, *others])


def _wrapped(text: str, first: str = "", others: str | None = None) -> list[str]:
    return textwrap.wrap(
        text,
        80,
        initial_indent=first,
        subsequent_indent=first if others is None else others,
        break_long_words=False,
        break_on_hyphens=False,
    )
