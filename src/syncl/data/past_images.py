"""How a model that looks at two moments chooses the earlier one (PETRv2)."""

from dataclasses import dataclass

import numpy as np

from syncl.errors import SynclError


@dataclass(frozen=True)
class PastImages:
    """How a model chooses its past images. The defaults are the published PETRv2's.

    Attributes:
        training: first and last of the sets training draws from; 0 = the newest.
        test: the set taken otherwise.
        repeat_age_s: age a key frame is given that has to stand in for its own past.
    """

    training: tuple[int, int] = (3, 26)
    test: int = 14
    repeat_age_s: float = 1.245

    def __post_init__(self) -> None:
        if not 0 <= self.training[0] <= self.training[1] or self.test < 0 or not self.repeat_age_s > 0:
            raise SynclError(
                f"past images: training={self.training}, test={self.test}, repeat_age_s={self.repeat_age_s} "
                "must be ascending, not negative, and positive"
            )

    def place(self, available: int, rng: np.random.Generator | None) -> int:
        """Which of the available sets is taken; drawn if there is a generator."""
        wanted = self.test
        if rng is not None:
            first, last = self.training
            wanted = int(rng.integers(first, max(first, min(last, available - 1)) + 1))
        return min(wanted, available - 1)
