"""Turning lists of JSON values into arrays, strictly."""

from array import array
from collections.abc import Sequence
from itertools import chain
from operator import itemgetter
from typing import Any

import numpy as np

from syncl.evaluation.arrays import Floats


class ColumnError(ValueError):
    """A value is not what its column must hold."""


def fields_of(records: Sequence[dict[str, Any]], names: Sequence[str]) -> list[list[Any]]:
    """The values of N records, a list for each of several fields; every record is visited once.

    Raises:
        KeyError: if a record lacks a field.
    """
    values = list(chain.from_iterable(map(itemgetter(*names), records)))
    return [values[place :: len(names)] for place in range(len(names))]


def strict_vectors(lists: list[Any], width: int, nullable: bool = False) -> Floats:
    """Array [N, width] of N lists of numbers.

    Args:
        lists: the values of a field.
        width: how many numbers each must have.
        nullable: whether null stands for nan.

    Raises:
        ColumnError: if a value is not a list of that length, or holds something that is not a number.
    """
    try:
        if set(map(len, lists)) - {width}:
            raise ColumnError
        numbers = list(chain.from_iterable(lists))
    except TypeError:
        raise ColumnError from None
    try:
        return strict_scalars(numbers).reshape(len(lists), width)
    except ColumnError:
        if not nullable:
            raise
    known = [float("nan") if number is None else number for number in numbers]
    return strict_scalars(known).reshape(len(lists), width)


def strict_scalars(values: list[Any]) -> Floats:
    """Array [N] of N numbers.

    Raises:
        ColumnError: if a value is not a number.
    """
    # Unlike numpy's, arrays of the standard library take numbers only: no null, no numerals in strings.
    try:
        numbers = array("d", values)
    except (TypeError, OverflowError):
        raise ColumnError from None
    return np.frombuffer(numbers, np.float64) if values else np.zeros(0)
