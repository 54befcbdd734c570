"""`syncl recipes`."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from syncl.recipes.recipe import PaperResult


def recipes() -> None:
    """List the recipes: size, cost of a frame, published results, what they start from.

    Cost is counted for one frame of all cameras without any tracks, a multiplication and an addition as two
    operations. Published results are the papers' on nuScenes' validation split, not measured here.
    """
    from rich.console import Console
    from rich.table import Table

    from syncl.progress import track
    from syncl.recipes import RECIPES
    from syncl.recipes.cost import model_cost

    console = Console()
    table = Table(title="recipes", show_lines=True)
    table.add_column("name", no_wrap=True)
    for column in ("what", "input", "parameters", "GFLOPs a frame", "published results", "starts from"):
        table.add_column(column, overflow="fold")
    for name, function in track(RECIPES.items(), "counting", total=len(RECIPES)):
        recipe = function()
        height, width = recipe.model.input.image_size
        cost = model_cost(recipe.model)
        table.add_row(
            name,
            recipe.summary,
            f"{height}x{width}",
            f"{cost.parameters / 1e6:.1f} M",
            f"{cost.frame_flops / 1e9:.0f}",
            "" if recipe.paper is None else published(recipe.paper),
            recipe.starts_from or "nothing",
        )
    console.print(table)


def published(result: "PaperResult") -> str:
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
