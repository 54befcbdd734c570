"""Pieces of camera images around a box, with all that was tracked, annotated, missed or made up drawn in."""

from dataclasses import dataclass

import cv2
import numpy as np

from syncl.data.frame_objects import FrameObjects
from syncl.data.images import ImageTransform, load_image
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.samples import CameraImage, Sample
from syncl.evaluation.arrays import Bools, EvaluationBoxes, Ints
from syncl.evaluation.outcomes import Outcomes
from syncl.geometry.poses import invert_pose, move_boxes, yaw_from_quaternion
from syncl.rendering.cameras import draw_camera, draw_camera_name
from syncl.rendering.frame_view import Floats, Image
from syncl.rendering.palette import INK, TRUTH, identity_colour
from syncl.rendering.scene_view import SceneView, Verdict
from syncl.rendering.strokes import draw_polyline
from syncl.rendering.wireframe import EDGES, clip_segments, corners_of, projection_of, to_homogeneous

WIDTH, HEIGHT = 560, 350
_SCALE = 1.35
# A box takes up about this share of its piece, and no piece is smaller than that share of the image.
_BOX_SHARE, _LEAST_SHARE = 0.38, 0.22
_JPEG_QUALITY = 82
_SAME_M = 0.05


@dataclass(frozen=True)
class Sight:
    """A box as one camera sees it.

    Attributes:
        camera: the camera.
        low: [2] upper left corner of its visible part, pixels of the image.
        high: [2] lower right corner.
    """

    camera: CameraImage
    low: Floats
    high: Floats

    @property
    def area_share(self) -> float:
        """Its visible part as a share of the image."""
        return float(np.prod(self.high - self.low)) / (self.camera.width * self.camera.height)


class Photographer:
    """Takes pictures of boxes of one run.

    Args:
        index: the data set.
        outcomes: what became of every box.
        identities: the tracking ids that the boxes' identities number.
    """

    def __init__(self, index: NuScenesIndex, outcomes: Outcomes, identities: tuple[str, ...]) -> None:
        self.index = index
        self.outcomes = outcomes
        self.identities = identities
        self._row_of_token = {
            index.sample_token(row): row for scene in index.scene_names for row in index.scene_samples(scene)
        }

    def sample(self, boxes: EvaluationBoxes, row: int) -> Sample:
        """The sample of a box."""
        return self.index.sample(self._row_of_token[self.outcomes.samples.tokens[boxes.sample[row]]])

    def sight(self, boxes: EvaluationBoxes, row: int) -> Sight | None:
        """The largest view of a box that a camera has; None if no camera sees it."""
        sample = self.sample(boxes, row)
        box = move_boxes(invert_pose(sample.global_from_vehicle), layout_boxes(boxes, np.array([row])))
        if not np.isfinite(box[:, :7]).all():
            return None
        sights = [sight for camera in sample.cameras if (sight := _sight(camera, box))]
        return max(sights, key=lambda sight: sight.area_share, default=None)

    def visibility(self, row: int) -> int:
        """How visible an annotated box is: 1 (less than 40 %) to 4 (more than 80 %), 0 unknown."""
        sample = self.sample(self.outcomes.objects, row)
        box = layout_boxes(self.outcomes.objects, np.array([row]))
        centre = move_boxes(invert_pose(sample.global_from_vehicle), box)[0, :3]
        distance = np.linalg.norm(sample.annotations.boxes[:, :3] - centre, axis=1)
        nearest = int(distance.argmin()) if len(distance) else -1
        known = nearest >= 0 and distance[nearest] < _SAME_M
        return int(sample.annotations.visibility[nearest]) if known else 0

    def take(self, boxes: EvaluationBoxes, row: int, sight: Sight) -> bytes:
        """A JPEG of the surroundings of a box.

        Raises:
            SynclError: if the image file is missing or damaged.
        """
        camera, sample = sight.camera, self.sample(boxes, row)
        left, top, wide = _frame(sight)
        picture = _cut(camera, left, top, wide)
        zoom = WIDTH / wide
        tile_from_image = np.array([[zoom, 0, -left * zoom], [0, zoom, -top * zoom], [0, 0, 1]])
        projection = projection_of(tile_from_image @ camera.intrinsics, camera.camera_from_vehicle)
        draw_camera(picture, projection, self._view(int(boxes.sample[row]), sample), _SCALE)
        _point_out(picture, (sight.low - [left, top]) * zoom, (sight.high - [left, top]) * zoom)
        draw_camera_name(picture, camera.channel, _SCALE)
        bgr = cv2.cvtColor(picture, cv2.COLOR_RGB2BGR)
        return cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _JPEG_QUALITY])[1].tobytes()

    def _view(self, number: int, sample: Sample) -> SceneView:
        """Everything that counted in a sample, judged as the metrics judge it."""
        outcomes = self.outcomes
        found = np.flatnonzero((outcomes.found.sample == number) & outcomes.counted)
        # Sizes may be infinite in results; the metrics do not look at them.
        found = found[np.isfinite(layout_boxes(outcomes.found, found)[:, :7]).all(axis=1)]
        annotated = np.flatnonzero(outcomes.objects.sample == number)
        names = tuple(self.identities[identity] for identity in outcomes.found.identity[found])
        classes = outcomes.dataset.classes
        objects = _objects(outcomes.found, found, sample, outcomes.score[found], names, classes)
        nameless = ("",) * len(annotated)
        truth = _objects(outcomes.objects, annotated, sample, np.ones(len(annotated)), nameless, classes)
        partner = np.where(outcomes.right[found], 0, -1)
        verdict = Verdict(partner, partner < 0, ~outcomes.tracked[annotated], (None,) * len(found))
        colours, paths = tuple(map(identity_colour, names)), (np.zeros((0, 2)),) * len(found)
        return SceneView(objects, colours, truth, verdict, {}, paths, np.zeros(len(found), np.bool_))


def _point_out(picture: Image, low: Floats, high: Floats) -> None:
    """Draw the corners of a frame about the box in question."""
    low, high = np.maximum(low - 9, 4), np.minimum(high + 9, [WIDTH - 4, HEIGHT - 4])
    arm = float(np.clip((high - low).min() * 0.3, 8, 22))
    for x, right in ((low[0], arm), (high[0], -arm)):
        for y, down in ((low[1], arm), (high[1], -arm)):
            corner = np.array([(x + right, y), (x, y), (x, y + down)])
            draw_polyline(picture, corner, INK, 5)
            draw_polyline(picture, corner, TRUTH, 2)


def layout_boxes(boxes: EvaluationBoxes, rows: Ints | Bools) -> Floats:
    """Boxes [N, 9] of the layout that pictures use, global frame; unknown velocities are nan."""
    width, length, height = boxes.size[rows].T
    return np.concatenate(
        [
            boxes.centre[rows],
            np.stack([length, width, height], axis=1),
            yaw_from_quaternion(boxes.rotation[rows])[:, None],
            boxes.velocity[rows],
        ],
        axis=1,
    )


def _objects(
    boxes: EvaluationBoxes,
    rows: Ints,
    sample: Sample,
    scores: Floats,
    names: tuple[str, ...],
    classes: tuple[str, ...],
) -> FrameObjects:
    moved = move_boxes(invert_pose(sample.global_from_vehicle), layout_boxes(boxes, rows))
    return FrameObjects(moved, tuple(classes[label] for label in boxes.label[rows]), scores, names)


def _sight(camera: CameraImage, box: Floats) -> Sight | None:
    projection = projection_of(camera.intrinsics, camera.camera_from_vehicle)
    corners = to_homogeneous(projection, corners_of(box))
    lines, visible = clip_segments(corners[:, EDGES], (camera.height, camera.width), margin=0.0)
    if not visible.any():
        return None
    points = lines[visible].reshape(-1, 2)
    return Sight(camera, points.min(axis=0), points.max(axis=0))


def _frame(sight: Sight) -> tuple[float, float, float]:
    """Left edge, upper edge and width of the piece to show, pixels of the image."""
    camera = sight.camera
    wide, tall = sight.high - sight.low
    width = max(wide, tall * WIDTH / HEIGHT) / _BOX_SHARE
    width = float(
        np.clip(width, _LEAST_SHARE * camera.width, min(camera.width, camera.height * WIDTH / HEIGHT))
    )
    height = width * HEIGHT / WIDTH
    middle = (sight.low + sight.high) / 2
    left = float(np.clip(middle[0] - width / 2, 0, camera.width - width))
    top = float(np.clip(middle[1] - height / 2, 0, camera.height - height))
    return left, top, width


def _cut(camera: CameraImage, left: float, top: float, wide: float) -> Image:
    whole = ImageTransform(1.0, 0, 0, False, (camera.height, camera.width))
    size = (camera.height, camera.width)
    image = load_image(camera.path, whole, source_size=size, undistort=camera.undistortion)
    zoom = WIDTH / wide
    # Pixel centres lie at halves: those of the piece are mapped back into the image.
    image_from_tile = np.array(
        [[1 / zoom, 0, left + 0.5 / zoom - 0.5], [0, 1 / zoom, top + 0.5 / zoom - 0.5]]
    )
    flags = (cv2.INTER_CUBIC if zoom > 1 else cv2.INTER_LINEAR) | cv2.WARP_INVERSE_MAP
    piece = cv2.warpAffine(
        image, image_from_tile, (WIDTH, HEIGHT), flags=flags, borderMode=cv2.BORDER_REPLICATE
    )
    return np.asarray(piece, np.uint8)
