"""Turning lists of JSON values into arrays, strictly."""

from itertools import chain
from typing import Any

import numpy as np

from syncl.errors import SynclError
from syncl.evaluation.boxes import Floats


class ColumnError(ValueError):
    """A value is not what its column must hold."""


def strict_numbers(values: list[Any], width: int, allow_null: bool = False) -> Floats:
    """Array [N, width] of N lists of `width` numbers each; null becomes nan where allowed.

    Raises:
        ColumnError: if a value is not a list of that length, or holds something that is not a number.
    """
    try:
        if set(map(len, values)) - {width}:
            raise ColumnError
        flat = list(chain.from_iterable(values))
    except TypeError:
        raise ColumnError from None
    return strict_scalars(flat, allow_null).reshape(len(values), width)


def strict_scalars(values: list[Any], allow_null: bool = False) -> Floats:
    """Array [N] of N numbers; null becomes nan where allowed.

    Raises:
        ColumnError: if a value is not a number.
    """
    allowed = {float, int, type(None)} if allow_null else {float, int}
    if set(map(type, values)) - allowed:
        raise ColumnError
    try:
        return np.fromiter(values, np.float64, len(values))
    except OverflowError:
        raise ColumnError from None


def number_column(values: list[Any], width: int, where: str) -> Floats:
    """Like `strict_numbers`, for a column of a table that errors name as `where`."""
    try:
        return strict_numbers(values, width)
    except ColumnError:
        raise SynclError(f"{where} must be a list of {width} numbers in every record") from None
