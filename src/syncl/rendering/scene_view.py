"""One frame made ready for the panels: colours, trails and verdicts resolved once for all of them."""

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from syncl.data.frame_objects import FrameObjects
from syncl.rendering.frame import Floats, RenderFrame
from syncl.rendering.history import History, advance, trails_in_vehicle
from syncl.rendering.matching import Verdict, judge
from syncl.rendering.palette import Colour, identity_colour
from syncl.rendering.style import RenderStyle

# Slower objects get no velocity arrow: its direction would be noise.
ARROW_FROM_MPS = 0.5
# Shorter forecasts are a parked object's jitter.
SHORTEST_PATH_M = 1.0
_NO_PATH = np.zeros((0, 2))


@dataclass(frozen=True)
class SceneView:
    """What every panel draws.

    Attributes:
        objects: the N tracks.
        colours: N colours by identity; by class where there is none (detections).
        truth: the annotated objects to outline, or None.
        verdict: right and wrong tracks, or None where errors are not marked.
        trails: identity -> [K, 3] past positions, vehicle frame, metres, oldest first.
        paths: N expected paths [K, 2] in the ground plane, vehicle frame, metres, from the box's centre on;
            K = 0 where none is drawn.
        arrows: [N] bool; True = the object's velocity is drawn.
    """

    objects: FrameObjects
    colours: tuple[Colour, ...]
    truth: FrameObjects | None
    verdict: Verdict | None
    trails: dict[str, Floats]
    paths: tuple[Floats, ...]
    arrows: NDArray[np.bool_]


def view_frame(frame: RenderFrame, history: History, style: RenderStyle) -> tuple[SceneView, History]:
    """Resolve one frame after the given past; returns the view and the past of the next frame."""
    objects = frame.objects
    history = advance(
        history, frame.scene, objects, frame.global_from_vehicle, frame.timestamp_s, style.trail_s
    )
    truth = frame.ground_truth if style.ground_truth or style.mark_errors else None
    verdict = None
    if style.mark_errors and truth is not None:
        verdict = judge(objects, truth, history.partners, style.match_distance_m)
        found = {truth.identities[own]: row for row, own in enumerate(verdict.partner) if own >= 0}
        partners = {name: objects.identities[row] for name, row in found.items()}
        history = replace(history, partners={**history.partners, **partners})
    trails = trails_in_vehicle(history, frame.global_from_vehicle)
    colours = tuple(identity_colour(name or kind) for name, kind in zip(objects.identities, objects.classes))
    paths = tuple(_path(objects, row, style) for row in range(objects.count))
    with np.errstate(invalid="ignore"):
        arrows = np.hypot(objects.boxes[:, 7], objects.boxes[:, 8]) >= ARROW_FROM_MPS
    return SceneView(objects, colours, truth, verdict, trails, paths, arrows & style.velocities), history


def _path(objects: FrameObjects, row: int, style: RenderStyle) -> Floats:
    if objects.forecasts is None or not style.forecasts:
        return _NO_PATH
    ahead = objects.forecasts[row]
    unknown = np.flatnonzero(~np.isfinite(ahead).all(axis=1))
    ahead = ahead[: unknown[0]] if len(unknown) else ahead
    path = np.concatenate([objects.boxes[row : row + 1, :2], ahead])
    return path if np.hypot(*np.diff(path, axis=0).T).sum() >= SHORTEST_PATH_M else _NO_PATH
