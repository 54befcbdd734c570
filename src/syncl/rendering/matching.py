"""Which tracks are right: nearest annotated object of the same class, best score first."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from syncl.data.frame_objects import FrameObjects


@dataclass(frozen=True)
class Verdict:
    """How N tracks and M annotated objects of one frame pair up.

    Attributes:
        partner: [N] int64 row of the annotated object, -1 = false positive.
        missed: [M] bool; True = no track found the object.
        switched_from: N identities under which the object was tracked before, or None where that has not
            changed.
    """

    partner: NDArray[np.int64]
    missed: NDArray[np.bool_]
    switched_from: tuple[str | None, ...]


def judge(
    objects: FrameObjects, truth: FrameObjects, former: Mapping[str, str], distance_m: float = 2.0
) -> Verdict:
    """Pair tracks with annotated objects greedily, as the nuScenes detection metric does.

    In the order of falling scores, every track takes the nearest free annotated object of its class whose
    centre is nearer than `distance_m` in the ground plane. (The tracking metric pairs by assignment and
    remembers partners; for marking errors in a picture the two hardly ever differ.)

    Args:
        objects: N tracks.
        truth: M annotated objects.
        former: for annotated identities, the identity of the track that last found them.
        distance_m: metres, exclusive.
    """
    partner = np.full(objects.count, -1, np.int64)
    free = np.ones(truth.count, bool)
    switched: list[str | None] = [None] * objects.count
    if truth.count:
        offsets = objects.boxes[:, None, :2] - truth.boxes[None, :, :2]
        distance = np.hypot(offsets[..., 0], offsets[..., 1])
        same = np.array(objects.classes, object)[:, None] == np.array(truth.classes, object)[None, :]
        distance = np.where(same, distance, np.inf)
        for row in np.argsort(-objects.scores, kind="stable"):
            reachable = np.where(free, distance[row], np.inf)
            nearest = int(reachable.argmin())
            if reachable[nearest] < distance_m:
                partner[row] = nearest
                free[nearest] = False
                before = former.get(truth.identities[nearest])
                switched[row] = before if before != objects.identities[row] else None
    return Verdict(partner, free, tuple(switched))
