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
        self._order = np.argsort(tokens, kind="stable")
        self._sorted = tokens[self._order]
        repeated = np.flatnonzero(self._sorted[1:] == self._sorted[:-1])
        if repeated.size:
            token = _text(self._sorted[repeated[0]])
            raise SynclError(
                f"{table_path(folder, table)}: duplicate token '{token}' ({repeated.size} in all); "
                "were two versions of the tables merged?"
            )

    def find(self, references: Column) -> NDArray[np.int64]:
        """Rows [M] the references [M] point to, -1 for those that point nowhere."""
        rows = np.full(len(references), -1, np.int64)
        if len(self._sorted) and len(references):
            place = np.minimum(np.searchsorted(self._sorted, references), len(self._sorted) - 1)
            found = self._sorted[place] == references
            rows[found] = self._order[place[found]]
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


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
