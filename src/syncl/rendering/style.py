"""How pictures look: everything a caller may choose."""

import math
from dataclasses import dataclass

from syncl.errors import SynclError


@dataclass(frozen=True)
class RenderStyle:
    """Size and content of drawn frames.

    Attributes:
        width: picture width in pixels; the height follows from the cameras. Text and lines scale with it.
        range_m: distance from the vehicle to the upper edge of the bird's-eye view.
        trail_s: seconds of past positions shown behind every track; 0 draws no trails.
        velocities: draw an arrow from every moving track to where its velocity takes it in one second.
        forecasts: draw the path that a tracker expects of every track, dotted, where it forecasts.
        ground_truth: draw the annotated objects as thin outlines where a frame has them.
        mark_errors: mark false positives, misses and identity switches against the annotated objects.
        match_distance_m: a track counts as right if its centre is nearer than this to an annotated object
            of its class (ground plane; 2 m as in the nuScenes tracking metrics).
        rows: camera names in rows from the top; empty: arranged by where the cameras look.
    """

    width: int = 1280
    range_m: float = 52.0
    trail_s: float = 4.0
    velocities: bool = True
    forecasts: bool = True
    ground_truth: bool = True
    mark_errors: bool = False
    match_distance_m: float = 2.0
    rows: tuple[tuple[str, ...], ...] = ()

    def __post_init__(self) -> None:
        if not 320 <= self.width <= 7680:
            raise SynclError(f"width: {self.width} pixels; choose between 320 and 7680")
        if not 0 < self.range_m < math.inf:
            raise SynclError(
                f"range_m: {self.range_m}; the range of the bird's-eye view must be a positive number"
            )
        if not self.trail_s >= 0:
            raise SynclError(f"trail_s: {self.trail_s}; must not be negative")
        if not self.match_distance_m > 0:
            raise SynclError(f"match_distance_m: {self.match_distance_m}; must be positive")

    @property
    def scale(self) -> float:
        """Factor of all sizes in the layout; 1 at 1280 pixels."""
        return self.width / 1280
