"""Turning lists of JSON values into arrays, strictly."""

from collections.abc import Sequence
from itertools import chain, islice
from operator import itemgetter
from typing import Any

import numpy as np

from syncl.evaluation.boxes import Floats

_NUMBERS = {float, int}
_NUMBERS_AND_NULL = {float, int, type(None)}


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
    if not _are_numbers(flat):
        strict = total - widths.get(nullable, 0)
        for place in range(total):
            allowed = _NUMBERS if place < strict else _NUMBERS_AND_NULL
            if not set(map(type, islice(flat, place, None, total))) <= allowed:
                raise ColumnError
    table = _array(flat).reshape(len(records), total)
    return np.split(table, np.cumsum(list(widths.values()))[:-1], axis=1)


def strict_scalars(values: list[Any]) -> Floats:
    """Array [N] of N numbers.

    Raises:
        ColumnError: if a value is not a number.
    """
    if not _are_numbers(values):
        raise ColumnError
    return _array(values)


def _are_numbers(values: list[Any]) -> bool:
    """Whether all values are numbers; adding them up is the quickest way to find one that is not."""
    try:
        sum(values)
    except (TypeError, OverflowError):
        return False
    return True


def _array(values: list[Any]) -> Floats:
    """Numbers as an array; null becomes nan."""
    try:
        return np.fromiter(values, np.float64, len(values))
    except OverflowError:
        raise ColumnError from None
