"""From a recording and its tracks to frames ready to draw."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from syncl.data.frame_objects import FrameObjects
from syncl.data.images import ImageTransform
from syncl.data.recording.recording import Recording
from syncl.data.recording.rig_contents import RigCamera
from syncl.geometry.poses import invert_pose
from syncl.rendering.frame_view import Image, RenderFrame
from syncl.rendering.layout import MAX_COLUMNS
from syncl.rendering.style import RenderStyle
from syncl.rendering.wireframe import projection_of

MAX_FPS = 60.0


def recording_frames(
    recording: Recording,
    tracks: Sequence[FrameObjects],
    style: RenderStyle,
    min_score: float = 0.0,
    title: str = "",
) -> Iterator[RenderFrame]:
    """All frames of a recording with their tracks, in the rig's vehicle frame, images as `style` shows them.

    Args:
        recording: what was tracked.
        tracks: of every frame, in order.
        style: how it will be drawn.
        min_score: objects below it are left out.
        title: shown in the title bar.
    """
    patience_s, last = _patience_s(recording), dict[str, tuple[float, Image]]()
    for number, objects in enumerate(tracks):
        shown = objects.select(objects.scores >= min_score)
        frame = draw_ready(recording, number, style, shown, title)
        images = list(frame.images)
        for row, name in enumerate(frame.cameras):
            image = images[row]
            if image is not None:
                last[name] = frame.timestamp_s, image
            elif name in last and frame.timestamp_s - last[name][0] <= patience_s[name]:
                # A slow camera's image stays until its next one is due: nothing flickers.
                images[row] = last[name][1]
        yield replace(frame, images=tuple(images))


def _patience_s(recording: Recording) -> dict[str, float]:
    """How long each camera may be without an image, by the time that usually lies between two of its own."""
    found = {}
    for name in recording.cameras:
        times_s = [moment.timestamp_s for moment in recording.rig.moments if name in moment.images]
        found[name] = 1.5 * float(np.median(np.diff(times_s))) if len(times_s) > 1 else 0.0
    return found


def draw_ready(
    recording: Recording,
    number: int,
    style: RenderStyle,
    objects: FrameObjects | None = None,
    title: str = "",
) -> RenderFrame:
    """One frame of a recording, images no larger than `style` shows them."""
    rig, moment = recording.rig, recording.rig.moments[number]
    columns = max(2, (len(recording.cameras) + 1) // 2)
    images, projections = [], []
    for name in recording.cameras:
        camera = rig.camera(name)
        transform = _shrinking(camera, style.width // min(columns, MAX_COLUMNS))
        images.append(recording.image(number, name, transform))
        intrinsics = transform.matrix() @ rig.intrinsics(moment, camera)
        projections.append(projection_of(intrinsics, invert_pose(rig.vehicle_from_camera(moment, camera))))
    return RenderFrame(
        images=tuple(images),
        cameras=recording.cameras,
        image_from_vehicle=np.array(projections),
        global_from_vehicle=moment.global_from_vehicle,
        timestamp_s=moment.timestamp_s,
        objects=objects or FrameObjects.empty(),
        scene=rig.name,
        title=title,
        number=number + 1,
        total=len(recording),
        elapsed_s=moment.timestamp_s - rig.moments[0].timestamp_s,
    )


def playback_rate(recording: Recording) -> float:
    """Frames a second at which a video of a recording runs as fast as the world did."""
    times = np.array([moment.timestamp_s for moment in recording.rig.moments])
    return float(np.clip(1 / np.median(np.diff(times)), 0.1, MAX_FPS)) if len(times) > 1 else 1.0


def _shrinking(camera: RigCamera, width: int) -> ImageTransform:
    """Scale to at most `width` pixels, never larger."""
    scale = min(1.0, width / camera.width)
    transform = ImageTransform(scale, 0, 0, False, (1, 1))
    height, width = transform.resized((camera.height, camera.width))
    return ImageTransform(scale, 0, 0, False, (max(1, height), max(1, width)))
