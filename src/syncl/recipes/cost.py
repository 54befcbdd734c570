"""What the models of recipes cost: parameters, and operations of one frame, as counted beforehand."""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import orjson


@dataclass(frozen=True)
class Cost:
    """Size and cost of a model.

    Attributes:
        parameters: number of parameters.
        frame_flops: floating point operations of matrix products, convolutions and attention for one frame of
            all cameras (and their past images, where the model sees them) with object queries only; a
            multiplication and an addition count as two.
    """

    parameters: int
    frame_flops: int


# Costs of all recipes; `tools/recipe_costs.py` writes them anew when recipes or models change.
COSTS_FILE = "costs.json"


def recipe_cost(name: str) -> Cost:
    """The cost of a registered recipe (no strategy at its name's end), counted when the file was written."""
    return _counted()[name]


@cache
def _counted() -> dict[str, Cost]:
    text = (Path(__file__).parent / COSTS_FILE).read_bytes()
    return {name: Cost(**counted) for name, counted in orjson.loads(text).items()}
