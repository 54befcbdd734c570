"""Tracks as a rerun recording: cameras, images, boxes and trails to walk around in with the rerun viewer.

    world                           vehicle pose over time; everything below it is in the vehicle frame
    world/vehicle/cameras/NAME      pinhole, pose and image of a camera
    world/vehicle/tracks            boxes, a colour an identity; likewise `headings`, `trails`, `velocities`,
                                    `forecasts`
    world/vehicle/ground_truth      annotated objects; with errors marked, `missed`, `false_positives`
    scene                           the name of the scene, where it begins

Two timelines: `frame` counts all frames, `time` is the frames' own clock. Needs the extra `rerun`.
"""

from collections.abc import Iterable
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import cv2
import numpy as np
import scipy.linalg

from syncl.data.frame_objects import FrameObjects
from syncl.errors import SynclError
from syncl.files import atomic_path, refuse_to_overwrite
from syncl.geometry.poses import invert_pose
from syncl.rendering.frame_view import Floats, Image, RenderFrame
from syncl.rendering.palette import ERROR, TRUTH, Colour
from syncl.rendering.scene_view import History, SceneView, view_frame
from syncl.rendering.style import RenderStyle
from syncl.rendering.wireframe import heading_marks

if TYPE_CHECKING:
    import rerun

VEHICLE = "world/vehicle"
JPEG_QUALITY = 90


def write_rerun(
    frames: Iterable[RenderFrame], output: Path, style: RenderStyle | None = None, overwrite: bool = False
) -> int:
    """Write frames to a rerun recording; returns their number.

    Args:
        frames: in order; a change of scene starts trails afresh.
        output: the .rrd file; it appears only when complete.
        style: what to show; sizes of pictures mean nothing here.
        overwrite: replace an existing file.

    Raises:
        SynclError: on a bad name, an existing file, no frame at all, or without rerun.
    """
    output = Path(output)
    rr = check_rerun(output)
    refuse_to_overwrite(output, overwrite)
    style = style or RenderStyle()
    history, count, known = History(), 0, dict[str, None]()
    with atomic_path(output) as temporary:
        stream = rr.RecordingStream("syncl", recording_id=output.stem)
        stream.save(str(temporary))
        for frame in frames:
            if count == 0:
                stream.log("world", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
            if not known.keys() >= set(frame.cameras):
                known |= dict.fromkeys(frame.cameras)
                stream.send_blueprint(_blueprint(tuple(known)))
            stream.set_time("frame", sequence=count)
            stream.set_time("time", timestamp=frame.timestamp_s)
            if frame.scene != history.scene or count == 0:
                stream.log("scene", rr.TextLog(frame.scene))
            view, history = view_frame(frame, history, style)
            _log_cameras(rr, stream, frame)
            for name in known.keys() - set(frame.cameras):  # of another scene's rig
                stream.log(f"{VEHICLE}/cameras/{name}", rr.Clear(recursive=False))
            _log_view(rr, stream, view)
            count += 1
        stream.flush()
        stream.disconnect()
        if count == 0:
            raise SynclError(f"{output}: there is no frame to write")
    return count


def check_rerun(output: Path) -> ModuleType:
    """The rerun module, and that a recording may be named so; for checks before any work.

    Raises:
        SynclError: on a bad name, or if rerun is not installed.
    """
    if output.suffix.lower() != ".rrd":
        raise SynclError(f"{output}: rerun recordings are written as RRD; choose a name that ends in .rrd")
    try:
        import rerun
    except ImportError as error:
        raise SynclError(
            f"--rerun: the rerun SDK cannot be imported ({error}); install it with pip install 'syncl[rerun]'"
        ) from error
    module: ModuleType = rerun
    return module


def split_projection(image_from_vehicle: Floats) -> tuple[Floats, Floats]:
    """Intrinsics [3, 3] and camera_from_vehicle [4, 4] of a projection [4, 4] made of both."""
    upper, rotation = scipy.linalg.rq(image_from_vehicle[:3, :3])
    # The decomposition is unique up to signs: focal lengths are positive.
    signs = np.diag(np.where(np.diag(upper) < 0, -1.0, 1.0))
    upper, rotation = upper @ signs, signs @ rotation
    camera_from_vehicle = np.eye(4)
    camera_from_vehicle[:3, :3] = rotation
    camera_from_vehicle[:3, 3] = np.linalg.solve(upper, image_from_vehicle[:3, 3])
    return upper / upper[2, 2], camera_from_vehicle


def _blueprint(cameras: tuple[str, ...]) -> "rerun.blueprint.Blueprint":
    """The world beside the cameras, as the viewer shows them at first."""
    from rerun import blueprint

    pictures = [
        blueprint.Spatial2DView(origin=f"{VEHICLE}/cameras/{name}", contents=[f"{VEHICLE}/**"], name=name)
        for name in cameras
    ]
    return blueprint.Blueprint(
        blueprint.Horizontal(blueprint.Spatial3DView(origin="world"), blueprint.Grid(*pictures)),
        collapse_panels=True,
    )


def _log_cameras(rr: ModuleType, stream: "rerun.RecordingStream", frame: RenderFrame) -> None:
    pose = frame.global_from_vehicle
    stream.log(VEHICLE, rr.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3]))
    for name, image, projection in zip(frame.cameras, frame.images, frame.image_from_vehicle):
        path = f"{VEHICLE}/cameras/{name}"
        if image is None:
            stream.log(path, rr.Clear(recursive=False))
            continue
        intrinsics, camera_from_vehicle = split_projection(projection)
        vehicle_from_camera = invert_pose(camera_from_vehicle)
        stream.log(
            path,
            rr.Transform3D(translation=vehicle_from_camera[:3, 3], mat3x3=vehicle_from_camera[:3, :3]),
            rr.Pinhole(
                image_from_camera=intrinsics,
                width=image.shape[1],
                height=image.shape[0],
                camera_xyz=rr.ViewCoordinates.RDF,
                image_plane_distance=2.0,
            ),
            rr.EncodedImage(contents=_jpeg(image), media_type="image/jpeg"),
        )


def _log_view(rr: ModuleType, stream: "rerun.RecordingStream", view: SceneView) -> None:
    objects = view.objects
    labels = [f"{name} {label}".strip() for name, label in zip(objects.identities, objects.classes)]
    stream.log(f"{VEHICLE}/tracks", _boxes(rr, objects, view.colours, labels))
    headings = list(zip(heading_marks(objects.boxes), view.colours))
    stream.log(f"{VEHICLE}/headings", _lines(rr, headings))
    trails = [
        (view.trails[name], colour)
        for name, colour in zip(objects.identities, view.colours)
        if len(view.trails.get(name, ())) > 1
    ]
    stream.log(f"{VEHICLE}/trails", _lines(rr, trails))
    floor = objects.boxes[:, 2:3] - objects.boxes[:, 5:6] / 2
    paths = [
        (np.pad(path, ((0, 0), (0, 1)), constant_values=float(height[0])), colour)
        for path, colour, height in zip(view.paths, view.colours, floor)
        if len(path)
    ]
    stream.log(f"{VEHICLE}/forecasts", _lines(rr, paths))
    moving = np.flatnonzero(view.arrows)
    stream.log(
        f"{VEHICLE}/velocities",
        rr.Arrows3D(
            origins=objects.boxes[moving, :3],
            vectors=np.pad(objects.boxes[moving, 7:9], ((0, 0), (0, 1))),
            colors=[view.colours[row] for row in moving],
        ),
    )
    if view.verdict is not None:
        false = objects.select(view.verdict.false)
        stream.log(f"{VEHICLE}/false_positives", _boxes(rr, false, [ERROR] * false.count, None))
    if view.truth is not None:
        missed = np.zeros(view.truth.count, np.bool_) if view.verdict is None else view.verdict.missed
        found, lost = view.truth.select(~missed), view.truth.select(missed)
        stream.log(f"{VEHICLE}/ground_truth", _boxes(rr, found, [TRUTH] * found.count, None))
        stream.log(
            f"{VEHICLE}/missed",
            _boxes(rr, lost, [ERROR] * lost.count, [f"missed {name}" for name in lost.classes]),
        )


def _boxes(
    rr: ModuleType, objects: FrameObjects, colours: Iterable[Colour], labels: list[str] | None
) -> "rerun.Boxes3D":
    half = objects.boxes[:, 6:7] / 2
    zero = np.zeros_like(half)
    return rr.Boxes3D(
        centers=objects.boxes[:, :3],
        half_sizes=objects.boxes[:, 3:6] / 2,
        quaternions=np.concatenate([zero, zero, np.sin(half), np.cos(half)], axis=1),
        colors=list(colours),
        labels=labels,
    )


def _lines(rr: ModuleType, strips: list[tuple[Floats, Colour]]) -> "rerun.LineStrips3D":
    return rr.LineStrips3D([points for points, _ in strips], colors=[colour for _, colour in strips])


def _jpeg(image: Image) -> bytes:
    picture = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    encoded = cv2.imencode(".jpg", picture, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]
    return encoded.tobytes()
