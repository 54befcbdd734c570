"""Counts what every recipe costs: python tools/recipe_costs.py; run it when recipes or models change.

The file it writes is part of the package, since counting takes half a minute; tests count anew.
"""

from dataclasses import asdict
from pathlib import Path

import orjson

import syncl
from syncl.progress import progress_bar
from syncl.recipes import RECIPES
from syncl.recipes.cost import COSTS_FILE, model_cost


def main() -> None:
    costs = {name: asdict(model_cost(RECIPES[name]().model)) for name in progress_bar(RECIPES, "counting")}
    path = Path(syncl.__file__).parent / "recipes" / COSTS_FILE
    path.write_bytes(orjson.dumps(costs, option=orjson.OPT_INDENT_2) + b"\n")
    print(f"wrote {path}: {len(costs)} recipes")


if __name__ == "__main__":
    main()
