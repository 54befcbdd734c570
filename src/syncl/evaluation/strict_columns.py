"""Turning lists of JSON values into arrays, strictly."""

from array import array
from collections.abc import Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import numpy as np

from syncl.evaluation.arrays import Floats


class ColumnError(ValueError):
    """A value is not what its column must hold."""


def strict_vectors(
    records: Sequence[dict[str, Any]], widths: dict[str, int], nullable: str = ""
) -> list[Floats]:
    """One array [N, width] for each of several fields that hold lists of numbers.

    Args:
        records: N records.
        widths: field name -> length its lists must have; at least two fields.
        nullable: the field, the last of `widths`, in which null stands for nan.

    Raises:
        KeyError: if a record lacks a field.
        ColumnError: if a value is not a list of that length, or holds something that is not a number.
    """
    lists = list(chain.from_iterable(map(itemgetter(*widths), records)))
    try:
        for place, width in enumerate(widths.values()):
            if set(map(len, islice(lists, place, None, len(widths)))) - {width}:
                raise ColumnError
        flat = list(chain.from_iterable(lists))
    except TypeError:
        raise ColumnError from None
    total = sum(widths.values())
    try:
        table = strict_scalars(flat)
    except ColumnError:
        table = strict_scalars(_without_nulls(flat, total, widths.get(nullable, 0)))
    return np.split(table.reshape(len(records), total), np.cumsum(list(widths.values()))[:-1], axis=1)


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


def _without_nulls(values: list[Any], total: int, nullable: int) -> list[Any]:
    """The values with nan for null, where it is among the last `nullable` of each `total`."""
    first = total - nullable
    return [
        float("nan") if value is None and number % total >= first else value
        for number, value in enumerate(values)
    ]
