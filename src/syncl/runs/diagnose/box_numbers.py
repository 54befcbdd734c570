"""Which numbers of the box code a model has learned, and which have drowned among the others.

A number whose gradient is lost in the sum of all stays where L1 is least without looking: at the median of
its class. So each number's error is set against that of a guess that knows the class only.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Number of the box code -> error of the guess below which it is as good as constant, so that there is nothing
# to learn: metres, logarithms (5 %), sine and cosine (3 degrees), m/s.
_CONSTANT = {
    "x": 0.2,
    "y": 0.2,
    "z": 0.2,
    "log l": 0.05,
    "log w": 0.05,
    "log h": 0.05,
    "sin": 0.05,
    "cos": 0.05,
    "vx": 0.2,
    "vy": 0.2,
}
_DROWNED = 0.9


@dataclass(frozen=True)
class BoxNumber:
    """How well one number of the box code is regressed.

    Attributes:
        name: which.
        error: mean absolute error of the predictions, which is what L1 sums.
        guess_error: the same if every object had the median of its class.
        constant: whether the guess is so good that there is nothing to learn.
    """

    name: str
    error: float
    guess_error: float
    constant: bool

    @property
    def ratio(self) -> float:
        """Error of the predictions over that of the guess; inf where the guess is never wrong."""
        return self.error / self.guess_error if self.guess_error > 0 else float("inf")

    @property
    def drowned(self) -> bool:
        """Whether a number that varies is predicted hardly better than by the guess."""
        return not self.constant and self.ratio > _DROWNED

    @property
    def figures(self) -> dict[str, float | bool | None]:
        """As in figures.json; a ratio that is not finite is null."""
        ratio = self.ratio if np.isfinite(self.ratio) else None
        return {
            "error": self.error,
            "class_median_error": self.guess_error,
            "ratio": ratio,
            "constant": self.constant,
            "drowned": self.drowned,
        }


def box_numbers(
    codes: NDArray[np.float64], truth: NDArray[np.float64], labels: NDArray[np.int64]
) -> tuple[BoxNumber, ...]:
    """The numbers of the box code in order.

    Args:
        codes: [N, 10] predicted box codes.
        truth: [N, 10] those of the objects they are matched with; rows that are not finite are left out, as
            the box loss does.
        labels: [N] classes of the objects.
    """
    known = np.isfinite(truth).all(axis=1)
    codes, truth, labels = codes[known], truth[known], labels[known]
    if not len(truth):
        return ()
    guess = np.empty_like(truth)
    for label in np.unique(labels):
        guess[labels == label] = np.median(truth[labels == label], axis=0)
    errors, guesses = np.abs(codes - truth).mean(axis=0), np.abs(guess - truth).mean(axis=0)
    return tuple(
        BoxNumber(name, float(error), float(guessed), bool(guessed < least))
        for (name, least), error, guessed in zip(_CONSTANT.items(), errors, guesses, strict=True)
    )


def numbers_table(numbers: Sequence[BoxNumber]) -> list[str]:
    """Lines of a table for people."""
    lines = [f"{'box code':<10}{'error':>8}{'of class median':>17}{'ratio':>8}"]
    for number in numbers:
        remark = "  drowned" if number.drowned else "  nearly constant" if number.constant else ""
        lines.append(
            f"{number.name:<10}{number.error:>8.3f}{number.guess_error:>17.3f}{number.ratio:>8.2f}{remark}"
        )
    return lines
