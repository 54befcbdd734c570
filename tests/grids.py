"""Grids of parameters: what the default run takes of them, and what waits for `-m slow`."""

from collections.abc import Collection
from itertools import product

import pytest


def thinned(*axes: Collection[object]) -> list[object]:
    """All combinations. Every value of every axis is in one that always runs; the others are slow."""
    places = {tuple(turn % len(axis) for axis in axes) for turn in range(max(map(len, axes)))}
    values = [list(axis) for axis in axes]
    return [
        pytest.param(
            *(value[number] for value, number in zip(values, place)),
            marks=() if place in places else pytest.mark.slow,
        )
        for place in product(*(range(len(axis)) for axis in axes))
    ]
