"""Tokens as keys: finding the rows that foreign keys point to, all at once."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from syncl.data.nuscenes.tables.table_files import Column, table_path
from syncl.errors import SynclError


class Keys:
    """The tokens of one table, ready to resolve references to it.

    Args:
        folder: version folder, for messages.
        table: the table the tokens belong to.
        tokens: [N] bytes, in row order.

    Raises:
        SynclError: a token occurs twice.
    """

    def __init__(self, folder: Path, table: str, tokens: Column) -> None:
        self._folder = folder
        self._table = table
        self._tokens = tokens
        self._mixed = True
        self._sort()
        ordered = tokens[self._order]
        repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
        if np.count_nonzero(self._sorted[1:] == self._sorted[:-1]) > repeated.size:
            # Two tokens are one number: then they are compared as they are.
            self._mixed = False
            self._sort()
            ordered = self._sorted
            repeated = np.flatnonzero(ordered[1:] == ordered[:-1])
        if repeated.size:
            token = _text(min(ordered[repeated].tolist()))
            raise SynclError(
                f"{table_path(folder, table)}: duplicate token '{token}' ({repeated.size} in all); "
                "were two versions of the tables merged?"
            )

    def _sort(self) -> None:
        keys = self._keys(self._tokens)
        self._order = np.argsort(keys, kind="stable")
        self._sorted = keys[self._order]

    def _keys(self, tokens: Column) -> Column:
        """What tokens are sorted by: numbers, which compare ten times as fast as texts."""
        return _numbers(tokens) if self._mixed else tokens

    def find(self, references: Column) -> NDArray[np.int64]:
        """Rows [M] the references [M] point to, -1 for those that point nowhere."""
        rows = np.full(len(references), -1, np.int64)
        if len(self._sorted) and len(references):
            place = np.searchsorted(self._sorted, self._keys(references))
            candidates = self._order[np.minimum(place, len(self._sorted) - 1)]
            found = self._tokens[candidates] == references
            rows[found] = candidates[found]
        return rows

    def rows(self, references: Column, table: str, field: str, owners: Column) -> NDArray[np.int64]:
        """Rows [M] the references [M] point to.

        Args:
            references: tokens found in `field` of `table`.
            table: the referring table.
            field: the referring field.
            owners: [M] tokens of the referring records, for messages.

        Raises:
            SynclError: a reference points nowhere; names table, record, field and value.
        """
        rows = self.find(references)
        lost = np.flatnonzero(rows < 0)
        if lost.size:
            first = lost[0]
            raise SynclError(
                f"{table_path(self._folder, table)}: record '{_text(owners[first])}': {field} "
                f"'{_text(references[first])}' is not in {self._table}.json ({lost.size} such records); "
                "the tables do not belong together or one is incomplete"
            )
        return rows


def _numbers(tokens: Column) -> NDArray[np.uint64]:
    """A number for each of N tokens, the same for the same token however wide its column is."""
    width = max(1, -(-tokens.dtype.itemsize // 8))
    words = np.ascontiguousarray(tokens, f"S{8 * width}").view(np.uint64).reshape(len(tokens), width)
    numbers = np.zeros(len(tokens), np.uint64)
    for word in words.T[::-1]:
        # Words of nothing behind a token leave 0 as it is.
        numbers = (numbers ^ word) * _FACTOR
        numbers ^= numbers >> np.uint64(29)
    return numbers


_FACTOR = np.uint64(0x9E3779B97F4A7C15)


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
