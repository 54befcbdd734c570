"""One frame made ready for the panels: colours, trails and verdicts resolved once for all of them.

What pictures remember from frame to frame is a `History`: trails of past positions, and which track found
which annotated object.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from syncl.data.frame_objects import FrameObjects
from syncl.geometry.poses import invert_pose, move_points
from syncl.rendering.frame_view import Floats, RenderFrame
from syncl.rendering.palette import Colour, identity_colour
from syncl.rendering.style import RenderStyle

# Slower objects get no velocity arrow: its direction would be noise.
ARROW_FROM_MPS = 0.5
# Shorter forecasts are a parked object's jitter.
SHORTEST_PATH_M = 1.0
_NO_PATH = np.zeros((0, 2))


@dataclass(frozen=True)
class History:
    """The past of one scene.

    Attributes:
        scene: the scene it belongs to; a frame of another scene starts afresh.
        trails: for every identity [K, 4] float64: time (s) and position (m) of the middle of the box's lower
            face in the global frame, oldest first. Positions are kept in the global frame so that trails
            stay where the objects were while the vehicle moves on.
        partners: for annotated identities, the identity of the track that last found them.
    """

    scene: str = ""
    trails: Mapping[str, Floats] = field(default_factory=dict)
    partners: Mapping[str, str] = field(default_factory=dict)


def advance(
    history: History,
    scene: str,
    objects: FrameObjects,
    global_from_vehicle: Floats,
    timestamp_s: float,
    trail_s: float,
) -> History:
    """`history` with the positions of one more frame; positions older than `trail_s` seconds are dropped."""
    if history.scene != scene:
        history = History(scene)
    trails = {name: trail[trail[:, 0] >= timestamp_s - trail_s] for name, trail in history.trails.items()}
    trails = {name: trail for name, trail in trails.items() if len(trail)}
    if trail_s > 0 and objects.count:
        feet = objects.boxes[:, :3] - [0, 0, 0.5] * objects.boxes[:, 3:6]
        feet = move_points(global_from_vehicle, feet)
        for name, foot in zip(objects.identities, feet):
            if not name:  # detections have no identity and leave no trail
                continue
            point = np.array([[timestamp_s, *foot]])
            trails[name] = np.concatenate([trails[name], point]) if name in trails else point
    return History(scene, trails, history.partners)


def trails_in_vehicle(history: History, global_from_vehicle: Floats) -> dict[str, Floats]:
    """Trails as [K, 3] points (m) in the frame of a vehicle at the given pose."""
    back = invert_pose(global_from_vehicle)
    return {name: move_points(back, trail[:, 1:]) for name, trail in history.trails.items()}


@dataclass(frozen=True)
class Verdict:
    """How N tracks and M annotated objects of one frame pair up.

    Attributes:
        partner: [N] int64 row of the annotated object, -1 = none.
        false: [N] bool; True = a false positive: it counts and has no partner.
        missed: [M] bool; True = no track found the object.
        switched_from: N identities under which the object was tracked before, or None where that has not
            changed.
    """

    partner: NDArray[np.int64]
    false: NDArray[np.bool_]
    missed: NDArray[np.bool_]
    switched_from: tuple[str | None, ...]


def judge(
    objects: FrameObjects,
    truth: FrameObjects,
    former: Mapping[str, str],
    distance_m: float = 2.0,
    counted: NDArray[np.bool_] | None = None,
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
        counted: [N] whether a track counts; None = all do.
    """
    counted = np.ones(objects.count, np.bool_) if counted is None else counted
    partner = np.full(objects.count, -1, np.int64)
    free = np.ones(truth.count, bool)
    switched: list[str | None] = [None] * objects.count
    if truth.count:
        offsets = objects.boxes[:, None, :2] - truth.boxes[None, :, :2]
        distance = np.hypot(offsets[..., 0], offsets[..., 1])
        same = np.array(objects.classes, object)[:, None] == np.array(truth.classes, object)[None, :]
        distance = np.where(same & counted[:, None], distance, np.inf)
        for row in np.argsort(-objects.scores, kind="stable"):
            reachable = np.where(free, distance[row], np.inf)
            nearest = int(reachable.argmin())
            if reachable[nearest] < distance_m:
                partner[row] = nearest
                free[nearest] = False
                before = former.get(truth.identities[nearest])
                switched[row] = before if before != objects.identities[row] else None
    return Verdict(partner, counted & (partner < 0), free, tuple(switched))


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
        detected_only: whether the objects are detections, which have no identities.
    """

    objects: FrameObjects
    colours: tuple[Colour, ...]
    truth: FrameObjects | None
    verdict: Verdict | None
    trails: dict[str, Floats]
    paths: tuple[Floats, ...]
    arrows: NDArray[np.bool_]
    detected_only: bool = False


def view_frame(frame: RenderFrame, history: History, style: RenderStyle) -> tuple[SceneView, History]:
    """Resolve one frame after the given past; returns the view and the past of the next frame."""
    objects = frame.objects
    history = advance(
        history, frame.scene, objects, frame.global_from_vehicle, frame.timestamp_s, style.trail_s
    )
    truth = frame.ground_truth if style.ground_truth or style.mark_errors else None
    verdict = None
    if style.mark_errors and truth is not None:
        verdict = judge(objects, truth, history.partners, style.match_distance_m, frame.counted)
        found = {truth.identities[own]: row for row, own in enumerate(verdict.partner) if own >= 0}
        partners = {name: objects.identities[row] for name, row in found.items()}
        history = replace(history, partners={**history.partners, **partners})
    trails = trails_in_vehicle(history, frame.global_from_vehicle)
    colours = tuple(identity_colour(name or kind) for name, kind in zip(objects.identities, objects.classes))
    paths = tuple(_path(objects, row, style) for row in range(objects.count))
    with np.errstate(invalid="ignore"):
        arrows = np.hypot(objects.boxes[:, 7], objects.boxes[:, 8]) >= ARROW_FROM_MPS
    arrows &= style.velocities
    nameless = bool(objects.count) and not any(objects.identities)
    detected_only = frame.detections or nameless
    return SceneView(objects, colours, truth, verdict, trails, paths, arrows, detected_only), history


def _path(objects: FrameObjects, row: int, style: RenderStyle) -> Floats:
    if objects.forecasts is None or not style.forecasts:
        return _NO_PATH
    ahead = objects.forecasts[row]
    unknown = np.flatnonzero(~np.isfinite(ahead).all(axis=1))
    ahead = ahead[: unknown[0]] if len(unknown) else ahead
    path = np.concatenate([objects.boxes[row : row + 1, :2], ahead])
    return path if np.hypot(*np.diff(path, axis=0).T).sum() >= SHORTEST_PATH_M else _NO_PATH
