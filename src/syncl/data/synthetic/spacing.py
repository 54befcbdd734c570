"""Who has which piece of ground when, so that nothing ever runs into anything."""

import numpy as np
from numpy.typing import NDArray

from syncl.data.synthetic.movement import Motion

Array = NDArray[np.float64]

STRIDE = 4
"""Motions are compared every fourth sample: every 0.2 s."""


class Occupancy:
    """The footprints of everything placed so far, over time."""

    def __init__(self) -> None:
        self._discs: list[Array] = []
        self._radii: list[float] = []
        self._corners: list[Array] = []
        self._low: list[Array] = []
        self._high: list[Array] = []

    def add(self, motion: Motion, size: Array) -> None:
        """Reserve the ground that a box of `size` (length, width, height; metres) covers."""
        discs, radius = _discs(motion, size)
        self._discs.append(discs)
        self._radii.append(radius)
        self._corners.append(_corners(motion, size))
        self._low.append(discs.min((0, 1)) - radius)
        self._high.append(discs.max((0, 1)) + radius)

    def is_free(self, motion: Motion, size: Array, margin_m: float) -> bool:
        """Whether a box that moves so never meets another, nor comes within `margin_m` metres beside one."""
        if not self._discs:
            return True
        discs, radius = _discs(motion, size)
        reach = radius + margin_m
        low, high = discs.min((0, 1)) - reach, discs.max((0, 1)) + reach
        meets = (np.array(self._low) <= high).all(1) & (np.array(self._high) >= low).all(1)
        own, half = _corners(motion, size), float(np.hypot(size[0], size[1])) / 2
        for index in np.flatnonzero(meets):
            gap = discs[:, :, None] - self._discs[index][:, None]
            if bool((np.square(gap).sum(-1) <= (self._radii[index] + reach) ** 2).any()):
                return False
            # Discs leave the corners of boxes out; they count where boxes pass each other closely.
            other = self._corners[index]
            apart = half + np.linalg.norm(other[0, 0] - other[0, 2]) / 2
            near = np.linalg.norm(other.mean(1) - own.mean(1), axis=-1) < apart
            if bool(_overlap(own[near], other[near]).any()):
                return False
        return True


def _discs(motion: Motion, size: Array) -> tuple[Array, float]:
    """Discs [T, K, 2] along a footprint, and their radius."""
    length, width = float(max(size[0], size[1])), float(min(size[0], size[1]))
    count = int(np.ceil(1.5 * length / width))
    offsets = np.linspace(-(length - width) / 2, (length - width) / 2, count) if count > 1 else np.zeros(1)
    headings = motion.headings[::STRIDE] + (0.0 if size[0] >= size[1] else np.pi / 2)
    direction = np.stack([np.cos(headings), np.sin(headings)], -1)
    return motion.places[::STRIDE, None] + offsets[:, None] * direction[:, None], width / 2 * 1.03


def _corners(motion: Motion, size: Array) -> Array:
    """Corners [T, 4, 2] of a footprint, in order around it."""
    headings = motion.headings[::STRIDE]
    forward = np.stack([np.cos(headings), np.sin(headings)], -1) * size[0] / 2
    left = np.stack([-np.sin(headings), np.cos(headings)], -1) * size[1] / 2
    around = np.stack([forward + left, forward - left, -forward - left, left - forward], 1)
    corners: Array = around + motion.places[::STRIDE, None]
    return corners


def _overlap(a: Array, b: Array) -> NDArray[np.bool_]:
    """Whether rectangles [N, 4, 2] overlap: no side of either separates them."""
    apart = np.zeros(len(a), bool)
    for box in (a, b):
        for start, end in ((0, 1), (1, 2)):
            axis = box[:, end] - box[:, start]
            along_a, along_b = (np.einsum("nij,nj->ni", corners, axis) for corners in (a, b))
            apart |= (along_a.max(1) <= along_b.min(1)) | (along_b.max(1) <= along_a.min(1))
    return ~apart
