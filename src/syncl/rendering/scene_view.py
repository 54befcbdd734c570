"""One frame made ready for the panels: colours, trails and verdicts resolved once for all of them."""

from dataclasses import dataclass

from syncl.rendering.frame import Floats, FrameObjects, RenderFrame
from syncl.rendering.history import History, advance, remember_partners, trails_in_vehicle
from syncl.rendering.matching import Verdict, judge
from syncl.rendering.palette import Colour, identity_colour
from syncl.rendering.style import RenderStyle


@dataclass(frozen=True)
class SceneView:
    """What every panel draws.

    Attributes:
        objects: the N tracks.
        colours: N colours by identity; by class where there is none (detections).
        truth: the annotated objects to outline, or None.
        verdict: right and wrong tracks, or None where errors are not marked.
        trails: identity -> [K, 3] past positions, vehicle frame, metres, oldest first.
    """

    objects: FrameObjects
    colours: tuple[Colour, ...]
    truth: FrameObjects | None
    verdict: Verdict | None
    trails: dict[str, Floats]


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
        history = remember_partners(history, objects, truth, verdict)
    trails = trails_in_vehicle(history, frame.global_from_vehicle)
    colours = tuple(identity_colour(name or label) for name, label in zip(objects.identities, objects.labels))
    return SceneView(objects, colours, truth, verdict, trails), history
