"""Which detection is which track, decided on the host from learned affinities, one stream at a time.

Letters: D detections, N tracks.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Flags = NDArray[np.bool_]
Integers = NDArray[np.int64]
# What the original's solver pays for a pair that is not allowed.
_FORBIDDEN_COST = 1e18


class Pairing(NamedTuple):
    """Who belongs to whom.

    Attributes:
        detection_of: [N] the detection of each track, -1 = it was missed.
        unpaired: detections without a track, in the order in which new tracks are numbered.
    """

    detection_of: Integers
    unpaired: Integers


def pair_greedily(affinity: Floats, allowed: Flags, scores: Floats) -> Pairing:
    """Each detection in turn, the surest first, takes the free track of highest affinity.

    The turns are found all at once: everybody asks for their favourite, of those who ask for one track the
    surest gets it, and the others strike it out and ask anew, until nobody asks in vain. A track once asked
    for by somebody surer stays out of reach, so that this ends as the turns would.

    Args:
        affinity: [D, N].
        allowed: [D, N] whether the two may belong together.
        scores: [D].
    """
    count, tracks = affinity.shape
    order = np.argsort(-scores, kind="stable")
    wished = np.where(allowed, affinity, -np.inf)[order]
    holder = np.full(tracks, count)
    while tracks:
        favourite = wished.argmax(1)
        asking = np.flatnonzero(np.isfinite(wished.max(1)))
        holder[:] = count
        np.minimum.at(holder, favourite[asking], asking)
        losing = asking[holder[favourite[asking]] != asking]
        if not len(losing):
            break
        wished[losing, favourite[losing]] = -np.inf
    detection_of = np.append(order, -1)[holder]
    return Pairing(detection_of, np.setdiff1d(np.arange(count), detection_of))


def pair_optimally(affinity: Floats, allowed: Flags, scores: Floats) -> Pairing:  # noqa: ARG001
    """The pairs of highest total affinity; arguments as for `pair_greedily`.

    Detections that the solver gives a track which they may not have are numbered behind those it gives none,
    in the order of these tracks, as in the original.
    """
    # Here, because it takes longer to import than many a command to run.
    from scipy.optimize import linear_sum_assignment

    tracks, detections = linear_sum_assignment(np.where(allowed, -affinity, _FORBIDDEN_COST).T)
    real = allowed[detections, tracks]
    detection_of = np.full(affinity.shape[1], -1)
    detection_of[tracks[real]] = detections[real]
    others = np.setdiff1d(np.arange(len(affinity)), detections)
    return Pairing(detection_of, np.concatenate([others, detections[~real]]))
