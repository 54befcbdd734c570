"""`syncl recipes`."""


def recipes() -> None:
    """List the recipes with their size and what they start from."""
    from rich.console import Console
    from rich.table import Table

    from syncl.recipes import RECIPES

    table = Table(title="recipes", show_lines=False)
    for column in ("name", "what", "input", "parameters", "starts from"):
        table.add_column(column, overflow="fold")
    for name, function in RECIPES.items():
        recipe = function()
        height, width = recipe.model.input.image_size
        count = sum(parameter.numel() for parameter in recipe.model.build().parameters())
        table.add_row(
            name, recipe.summary, f"{height}x{width}", f"{count / 1e6:.1f} M", recipe.starts_from or "nothing"
        )
    Console().print(table)
