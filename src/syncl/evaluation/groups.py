"""Group-wise reductions over the rows of an array."""

import numpy as np
from numpy.typing import NDArray

from syncl.evaluation.arrays import Bools, Floats, Ints


class Groups:
    """Sums and extremes over rows that share a value, handed back to each of these rows."""

    def __init__(self, values: Ints) -> None:
        self.order = np.argsort(values, kind="stable")
        ordered = values[self.order]
        first = np.append(True, ordered[1:] != ordered[:-1])
        self.starts = np.flatnonzero(first)
        self.index = np.empty(len(values), np.int64)
        self.index[self.order] = np.cumsum(first) - 1

    def total(self, flags: Bools) -> NDArray[np.int16]:
        """Number of set flags in each row's group, column by column."""
        count: NDArray[np.int16] = np.add.reduceat(flags[self.order], self.starts, axis=0, dtype=np.int16)
        return count[self.index]

    def any(self, flags: Bools) -> Bools:
        """Whether any flag of each row's group is set, column by column."""
        found: Bools = np.logical_or.reduceat(flags[self.order], self.starts, axis=0)
        return found[self.index]

    def largest(self, values: NDArray[np.int16]) -> NDArray[np.int16]:
        """Largest value of each row's group, column by column."""
        top: NDArray[np.int16] = np.maximum.reduceat(values[self.order], self.starts, axis=0)
        return top[self.index]

    def nearest(self, flags: Bools, distance: Floats, margin: float) -> tuple[Bools, Bools]:
        """The flagged rows within `margin` of their group's nearest, and whether that is one row only."""
        masked = np.where(flags, distance, np.inf)
        least = np.minimum.reduceat(masked[self.order], self.starts, axis=0)[self.index]
        close = flags & (masked <= least + margin)
        return close, self.total(close) == 1
