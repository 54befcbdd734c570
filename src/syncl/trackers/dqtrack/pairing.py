"""Which detection continues which track, on the host, one stream at a time (DQTrack's test loop).

Letters: D detections, N tracks.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]
# More than affinities can differ, so that a pair that may be is worth more than any that may not.
_REFUSED = 10.0


@dataclass(frozen=True)
class Pairs:
    """The assignment.

    Attributes:
        detections: [P] rows, rising.
        tracks: [P] rows of their tracks.
        valid: [P] bool; False = the best there was, but refused: the detection is new, and the track is
            neither seen nor missed.
    """

    detections: Integers
    tracks: Integers
    valid: NDArray[np.bool_]


def pair(affinities: Floats, allowed: NDArray[np.bool_]) -> Pairs:
    """As many allowed pairs as there can be, and of these the largest sum of affinities [D, N].

    What is left over is paired by affinity as well, and refused, as published.
    """
    # Here, because it takes longer to import than many a command to run.
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(affinities - _REFUSED * ~allowed, maximize=True)
    return Pairs(np.asarray(rows, np.int64), np.asarray(columns, np.int64), allowed[rows, columns])
