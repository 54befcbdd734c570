"""From a nuScenes-format dataset and a results file to frames ready to draw."""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from syncl.classes import check_classes, check_min_score
from syncl.data.frame_objects import FrameObjects
from syncl.data.images import ImageTransform, image_size, load_image
from syncl.data.nuscenes.index import NuScenesIndex
from syncl.data.nuscenes.results.result_files import read_frame_objects
from syncl.data.nuscenes.samples import CameraImage, Sample
from syncl.errors import SynclError
from syncl.geometry.poses import invert_pose, move_points, rotation_from_quaternion
from syncl.rendering.frame_view import Floats, Image, RenderFrame
from syncl.rendering.layout import MAX_COLUMNS, sheet_places
from syncl.rendering.scene_view import History, view_frame
from syncl.rendering.style import RenderStyle
from syncl.rendering.wireframe import projection_of


@dataclass(frozen=True)
class ResultsSource:
    """Results of some scenes, to be drawn; made by `open_results`.

    Attributes:
        index: the dataset.
        path: the results file, for messages.
        results: sample token to boxes in the global frame.
        scenes: names of the scenes to draw, in order.
        min_score: tracks whose mean score over the scene (as the nuScenes tracking metrics take it) is lower
            are left out whole, so that none flickers; detections one by one.
        title: shown in the title bar.
        classes: those that are drawn; all if none is named.
    """

    index: NuScenesIndex
    path: Path
    results: Mapping[str, FrameObjects]
    scenes: tuple[str, ...]
    min_score: float = 0.3
    title: str = ""
    classes: tuple[str, ...] = ()

    @property
    def frame_count(self) -> int:
        """Number of frames in all scenes."""
        return sum(len(self.index.scene_samples(scene)) for scene in self.scenes)

    @property
    def has_tracks(self) -> bool:
        """Whether these are tracking results (detections have no identities)."""
        return any(any(sample.identities) for sample in self.results.values())

    @property
    def has_detections(self) -> bool:
        """Whether these are detections; results without any box are neither."""
        return not self.has_tracks and any(sample.count for sample in self.results.values())

    def frames(self, style: RenderStyle) -> Iterator[RenderFrame]:
        """All frames of all scenes in order, with images as large as `style` will draw them."""
        for scene in self.scenes:
            yield from self._scene_frames(scene, style, range(len(self.index.scene_samples(scene))), True)

    def frame(self, scene: str, number: int, style: RenderStyle) -> tuple[RenderFrame, History]:
        """One frame of a scene and the past that it is drawn with.

        Args:
            scene: scene name.
            number: position in the scene, from 1.
            style: how it will be drawn.

        Raises:
            SynclError: no such frame.
        """
        count = len(self.index.scene_samples(scene))
        if not 1 <= number <= count:
            raise SynclError(f"frame: {number}; {scene} has frames 1 to {count}")
        history = History()
        for before in self._scene_frames(scene, style, range(number - 1), False):
            _, history = view_frame(before, history, style)
        return next(self._scene_frames(scene, style, range(number - 1, number), True)), history

    def sheet(self, scene: str, count: int, style: RenderStyle) -> Iterator[tuple[RenderFrame, History]]:
        """Frames spread evenly over a scene, each with the past that it is drawn with.

        Raises:
            SynclError: if a sheet cannot have so many pictures.
        """
        history = History()
        total = len(self.index.scene_samples(scene))
        shown = sheet_places(total, count)
        for place, frame in enumerate(self._scene_frames(scene, style, range(total), False)):
            if place in shown:
                yield next(self._scene_frames(scene, style, range(place, place + 1), True)), history
            _, history = view_frame(frame, history, style)

    def _scene_frames(
        self, scene: str, style: RenderStyle, places: range, with_images: bool
    ) -> Iterator[RenderFrame]:
        rows = self.index.scene_samples(scene)
        scores = self._track_scores(scene)
        dataset = self.index.dataset
        classes = dataset.tracked if self.has_tracks else dataset.classes
        annotated, detections = self.index.annotation_count > 0, self.has_detections
        started_us = self.index.sample(rows[0]).timestamp_us
        known = self._cameras(scene)
        for place in places:
            sample = self.index.sample(rows[place])
            there = {camera.channel: camera for camera in sample.cameras}
            cameras = tuple((known | there).values())
            objects = self._objects(sample, scores)
            sizes = [_drawn_size(camera, len(cameras), style) for camera in cameras]
            yield RenderFrame(
                images=tuple(
                    _load(camera, size) if with_images and camera.channel in there else None
                    for camera, size in zip(cameras, sizes)
                ),
                cameras=tuple(known),
                image_from_vehicle=np.array(list(map(_projection, cameras, sizes))).reshape(-1, 4, 4),
                global_from_vehicle=sample.global_from_vehicle,
                timestamp_s=sample.timestamp_us * 1e-6,
                objects=objects,
                ground_truth=(
                    _ground_truth(self.index, rows[place], sample, classes).chosen(None, self.classes)
                    if annotated
                    else None
                ),
                scene=scene,
                title=self.title,
                number=place + 1,
                total=len(rows),
                elapsed_s=(sample.timestamp_us - started_us) * 1e-6,
                detections=detections,
                counted=_evaluated(self.index, rows[place], sample, objects.boxes, objects.classes),
            )

    def _cameras(self, scene: str) -> dict[str, CameraImage]:
        """The cameras of a scene, each by its first image: one may be silent in some samples."""
        found: dict[str, CameraImage] = {}
        for row in self.index.scene_samples(scene):
            for camera in self.index.sample(row).cameras:
                found.setdefault(camera.channel, camera)
        return {name: found[name] for name in self.index.camera_names if name in found}

    def _track_scores(self, scene: str) -> dict[str, float]:
        scores: defaultdict[str, list[float]] = defaultdict(list)
        for row in self.index.scene_samples(scene):
            sample = self.results[self.index.sample_token(row)]
            for identity, score in zip(sample.identities, sample.scores.tolist()):
                scores[identity].append(score)
        return {identity: float(np.mean(values)) for identity, values in scores.items()}

    def _objects(self, sample: Sample, track_scores: Mapping[str, float]) -> FrameObjects:
        found = self.results[sample.token]
        scores = [
            track_scores[identity] if identity else score
            for identity, score in zip(found.identities, found.scores.tolist())
        ]
        keep = np.array(scores, np.float64) >= self.min_score
        shown = found.moved(invert_pose(sample.global_from_vehicle)).select(keep)
        return shown.chosen(None, self.classes)


def open_results(
    index: NuScenesIndex,
    path: Path,
    scenes: tuple[str, ...],
    min_score: float = 0.3,
    title: str = "",
    classes: tuple[str, ...] = (),
) -> ResultsSource:
    """Read a results file and make sure that all of `scenes` can be drawn; see `ResultsSource` for arguments.

    Raises:
        SynclError: the file is missing or damaged, lacks a sample of the scenes, or an image file is missing.
    """
    check_min_score(min_score)
    check_classes(classes, index.dataset.classes)
    results = read_frame_objects(path)
    for scene in scenes:
        tokens = [index.sample_token(row) for row in index.scene_samples(scene)]
        missing = [token for token in tokens if token not in results]
        if missing:
            raise SynclError(
                f"{path}: no results for sample '{missing[0]}' of {scene} ({len(missing)} of its "
                f"{len(tokens)} samples are missing); choose the version, split or scene they were made for"
            )
    index.check_images(scenes)
    return ResultsSource(index, path, results, scenes, min_score, title, classes)


def _ground_truth(index: NuScenesIndex, row: int, sample: Sample, classes: tuple[str, ...]) -> FrameObjects:
    """What the official metrics expect to be found: evaluated boxes of these classes, hit by a sensor."""
    truth, dataset = sample.annotations, index.dataset
    names = tuple(dataset.classes[label] if label >= 0 else "" for label in truth.labels)
    evaluated = _evaluated(index, row, sample, truth.boxes, names)
    expected = np.array([name in classes for name in names], np.bool_)
    keep = np.flatnonzero(evaluated & expected & (truth.num_lidar_pts + truth.num_radar_pts != 0))
    return FrameObjects(
        boxes=truth.boxes[keep],
        classes=tuple(names[row] for row in keep),
        scores=np.ones(len(keep)),
        identities=tuple(str(identity) for identity in truth.identities[keep]),
    )


def _evaluated(
    index: NuScenesIndex, row: int, sample: Sample, boxes: Floats, names: tuple[str, ...]
) -> NDArray[np.bool_]:
    """Whether the official metrics look at boxes [N, 9] of a sample: within range, not parked in a rack."""
    dataset, columns = index.dataset, index.columns
    ego = invert_pose(sample.global_from_vehicle) @ sample.global_from_ego
    distance = np.hypot(*(boxes[:, :2] - ego[:2, 3]).T)
    within = distance < np.array([dataset.ranges_m.get(name, 0.0) for name in names])
    annotated = slice(columns.annotation_start[row], columns.annotation_start[row + 1])
    categories = columns.category_names[columns.annotation_categories[annotated]]
    racks = columns.annotation_boxes[annotated][categories == (dataset.rack_category or "").encode()]
    centres = move_points(sample.global_from_vehicle, boxes[:, :3])
    parked = np.zeros(len(boxes), np.bool_)
    for rack in racks:
        along = (centres - rack[:3]) @ rotation_from_quaternion(rack[6:])
        parked |= (np.abs(along) <= rack[3:6] / 2).all(axis=1)
    racked = np.array([name in dataset.racked for name in names], np.bool_)
    evaluated: NDArray[np.bool_] = within & ~(parked & racked)
    return evaluated


def _drawn_size(camera: CameraImage, cameras: int, style: RenderStyle) -> tuple[int, int]:
    """(height, width) to decode an image to: no more than its tile will show."""
    columns = max(2, min((cameras + 1) // 2, MAX_COLUMNS))
    width = min(camera.width, style.width // columns)
    # The tolerance is the image reader's: 1600 * (704 / 1600) must not become 703.
    return max(1, int(camera.height * width / camera.width + 1e-6)), width


def _projection(camera: CameraImage, size: tuple[int, int]) -> Floats:
    resize = np.diag([size[1] / camera.width, size[0] / camera.height, 1.0])
    return projection_of(resize @ camera.intrinsics, camera.camera_from_vehicle)


def _load(camera: CameraImage, size: tuple[int, int]) -> Image:
    found = image_size(camera.path)
    if found != (camera.height, camera.width):
        raise SynclError(
            f"{camera.path}: {found[1]} x {found[0]} pixels, but sample_data.json says "
            f"{camera.width} x {camera.height}; boxes would not fit"
        )
    scale = size[1] / camera.width
    transform = ImageTransform(scale, 0, 0, False, size)
    return load_image(camera.path, transform, method="fast", undistort=camera.undistortion)
