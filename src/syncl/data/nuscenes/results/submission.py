"""Result files in the official nuScenes formats: tracking and detection, of nuScenes' classes or one's own.

    {"meta": {"use_camera": true, ...},
     "results": {sample_token: [{"sample_token", "translation", "size" (w, l, h), "rotation" (w, x, y, z),
                                 "velocity", "tracking_id", "tracking_name", "tracking_score"}, ...]}}

Boxes are in the global frame there; the writers take them in the vehicle frame.

Tracks may carry forecasts, which the official evaluation reads over:

    {"meta": {..., "forecast_step_s": 0.5},
     "results": {sample_token: [{..., "forecast": [[x, y], ...]}, ...]}}

`forecast` holds the centres expected 1, 2, ... steps of `forecast_step_s` seconds after the sample's time,
nearest first: metres, global frame, as many for every box. The present centre is `translation`; height is not
foreseen.
"""

import copy
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import orjson

from syncl.data.frame_objects import Array, FrameObjects
from syncl.dataset_description import NUSCENES, DatasetDescription
from syncl.errors import SynclError
from syncl.files import atomic_path, refuse_to_overwrite
from syncl.geometry.poses import quaternion_from_rotation, quaternion_from_yaw, rotation_from_quaternion

_META = {"use_camera": True, "use_lidar": False, "use_radar": False, "use_map": False, "use_external": False}

# mmdet3d's rule, which the originals' results were made with: above this speed an object counts as moving.
_MOVING_M_S = 0.2
_MOVING_ATTRIBUTE = {
    **dict.fromkeys(("car", "truck", "bus", "trailer", "construction_vehicle"), "vehicle.moving"),
    **dict.fromkeys(("motorcycle", "bicycle"), "cycle.with_rider"),
    "pedestrian": "pedestrian.moving",
}
_STILL_ATTRIBUTE = {
    **dict.fromkeys(("car", "truck", "trailer", "construction_vehicle"), "vehicle.parked"),
    **dict.fromkeys(("motorcycle", "bicycle"), "cycle.without_rider"),
    "bus": "vehicle.stopped",
    "pedestrian": "pedestrian.standing",
}


class _Submission(ABC):
    """What both formats share. Each sample's boxes are serialised as they arrive, to keep memory low."""

    _prefix: str
    _extra_field: str
    _forecasting = False

    def __init__(
        self,
        sample_tokens: Sequence[str],
        *,
        limit_range: bool = True,
        dataset: DatasetDescription = NUSCENES,
    ) -> None:
        """Start an empty submission.

        Args:
            sample_tokens: the samples of the split, every one of which must be added.
            limit_range: drop boxes farther from the ego vehicle than their class is evaluated, as the
                originals do (the evaluation would ignore them).
            dataset: whose classes, ranges and most boxes a sample the file keeps to.
        """
        self._dataset = dataset
        self._results: dict[str, bytes | None] = dict.fromkeys(sample_tokens)
        self._limit_range = limit_range
        self._meta: dict[str, object] = dict(_META)

    def add(
        self,
        sample_token: str,
        objects: FrameObjects,
        global_from_vehicle: Array,
        global_from_ego: Array | None = None,
    ) -> None:
        """Add what was reported of one sample.

        Args:
            sample_token: the sample.
            objects: in the vehicle frame; unknown (nan) velocities are written as 0. Identities, of tracks,
                each at most once. Forecasts where, and only where, the file has them.
            global_from_vehicle: [4, 4] pose of the sample.
            global_from_ego: [4, 4] from whose origin class ranges are measured, if that is not the vehicle's.

        Raises:
            SynclError: unknown or repeated sample, a score that is not finite and at least 0, an identity
                used twice, or forecasts that are missing or not asked for; names sample and box.
        """
        self._check_new(sample_token)
        self._check(sample_token, objects)
        boxes, names, scores = objects.boxes, objects.classes, objects.scores
        velocities = np.nan_to_num(boxes[:, 7:9], nan=0.0, posinf=0.0, neginf=0.0)
        known = np.concatenate([boxes[:, :7], velocities], axis=1)
        moved = replace(objects, boxes=known).moved(global_from_vehicle)
        # Headings as whole rotations: a tilted vehicle's boxes are tilted.
        rotations = quaternion_from_rotation(
            global_from_vehicle[:3, :3] @ rotation_from_quaternion(quaternion_from_yaw(boxes[:, 6]))
        )
        keep = np.array([name in self._classes() for name in names], np.bool_)
        if self._limit_range:
            ego = global_from_vehicle if global_from_ego is None else global_from_ego
            distance = np.linalg.norm(moved.boxes[:, :2] - ego[:2, 3], axis=1)
            keep &= distance < np.array([self._dataset.ranges_m.get(name, 0.0) for name in names])
        rows = np.flatnonzero(keep)
        most = self._dataset.measures.max_boxes
        if len(rows) > most:
            best = np.argsort(-scores[rows], kind="stable")[:most]
            rows = rows[np.sort(best)]
        extra = self._extra(objects)
        entries = [
            {
                "sample_token": sample_token,
                "translation": moved.boxes[row, :3].tolist(),
                "size": boxes[row, [4, 3, 5]].tolist(),
                "rotation": rotations[row].tolist(),
                "velocity": moved.boxes[row, 7:9].tolist(),
                f"{self._prefix}_name": names[row],
                f"{self._prefix}_score": float(scores[row]),
                self._extra_field: extra[row],
                **({} if moved.forecasts is None else {"forecast": moved.forecasts[row].tolist()}),
            }
            for row in rows.tolist()
        ]
        self._results[sample_token] = orjson.dumps(entries)

    @property
    def written(self) -> dict[str, bytes]:
        """The boxes of each sample that was added, as the file will have them."""
        return {token: boxes for token, boxes in self._results.items() if boxes is not None}

    def part(self, sample_tokens: Sequence[str]) -> Self:
        """An empty submission of the same kind for some of the samples."""
        part = copy.copy(self)
        part._results = dict.fromkeys(sample_tokens)
        return part

    def take(self, written: Mapping[str, bytes]) -> None:
        """Add samples as another submission has `written` them.

        Raises:
            SynclError: unknown or repeated sample.
        """
        for token, boxes in written.items():
            self._check_new(token)
            self._results[token] = boxes

    def made_with(self, facts: Mapping[str, object]) -> None:
        """Say in the file what its last digits depend on: device, threads and the like."""
        self._meta["made_with"] = dict(facts)

    def _check_new(self, sample_token: str) -> None:
        if sample_token not in self._results:
            raise SynclError(f"sample '{sample_token}' is not one of the {len(self._results)} of this split")
        if self._results[sample_token] is not None:
            raise SynclError(f"sample '{sample_token}' was added twice")

    @abstractmethod
    def _classes(self) -> tuple[str, ...]:
        """The classes that the file may have."""

    @abstractmethod
    def _extra(self, objects: FrameObjects) -> Sequence[str]:
        """What only this format says of each object."""

    def _check(self, sample_token: str, objects: FrameObjects) -> None:
        bad = np.flatnonzero(~(np.isfinite(objects.scores) & (objects.scores >= 0)))
        if len(bad):
            row = int(bad[0])
            raise SynclError(
                f"sample '{sample_token}', box {row} ({objects.classes[row]}): bad score: "
                f"{float(objects.scores[row])}"
            )
        if (objects.forecasts is not None) != self._forecasting:
            problem = "no forecasts, and the file is to have" if self._forecasting else "forecasts without"
            raise SynclError(f"sample '{sample_token}': {problem} a forecast_step_s")
        if objects.forecasts is not None:
            bad = np.flatnonzero(~np.isfinite(objects.forecasts).all(axis=(1, 2)))
            if len(bad):
                raise SynclError(f"sample '{sample_token}', box {bad[0]}: its forecast is not finite")

    def save(self, path: Path, overwrite: bool = False) -> None:
        """Write the result file in one step.

        Raises:
            SynclError: samples were left out, or the file exists and `overwrite` is not set.
        """
        refuse_to_overwrite(path, overwrite)
        missing = [token for token, boxes in self._results.items() if boxes is None]
        if missing:
            raise SynclError(
                f"{path}: {len(missing)} of {len(self._results)} samples have no result (the first is "
                f"'{missing[0]}'); the official evaluation needs every sample, empty ones too"
            )
        with atomic_path(path) as temporary, temporary.open("wb") as file:
            file.write(b'{"meta":' + orjson.dumps(self._meta) + b',"results":{')
            for number, (token, boxes) in enumerate(self._results.items()):
                file.write((b"," if number else b"") + orjson.dumps(token) + b":" + (boxes or b"[]"))
            file.write(b"}}")


class TrackingSubmission(_Submission):
    """A tracking result file; classes that are not tracked in the dataset are dropped."""

    _prefix = "tracking"
    _extra_field = "tracking_id"

    def __init__(
        self,
        sample_tokens: Sequence[str],
        *,
        limit_range: bool = True,
        dataset: DatasetDescription = NUSCENES,
        forecast_step_s: float | None = None,
    ) -> None:
        """Start an empty submission.

        Args:
            sample_tokens: the samples of the split, every one of which must be added.
            limit_range: as for detections.
            dataset: as for detections.
            forecast_step_s: seconds between a forecast's centres; None = a file without forecasts.
        """
        super().__init__(sample_tokens, limit_range=limit_range, dataset=dataset)
        self._forecasting = forecast_step_s is not None
        if forecast_step_s is not None:
            self._meta["forecast_step_s"] = forecast_step_s

    def _classes(self) -> tuple[str, ...]:
        return self._dataset.tracked

    def _extra(self, objects: FrameObjects) -> Sequence[str]:
        return objects.identities

    def _check(self, sample_token: str, objects: FrameObjects) -> None:
        super()._check(sample_token, objects)
        for identity, count in Counter(objects.identities).items():
            if count > 1 or not identity:
                problem = f"identity {identity} occurs more than once" if identity else "no identity"
                raise SynclError(f"sample '{sample_token}': {problem}")


class DetectionSubmission(_Submission):
    """A detection result file; attributes follow from class and speed."""

    _prefix = "detection"
    _extra_field = "attribute_name"

    def _classes(self) -> tuple[str, ...]:
        return self._dataset.classes

    def _extra(self, objects: FrameObjects) -> Sequence[str]:
        if not self._dataset.attributes:
            return [""] * len(objects.classes)
        speeds = np.linalg.norm(np.nan_to_num(objects.boxes[:, 7:9]), axis=1).tolist()
        return [attribute_of(name, speed) for name, speed in zip(objects.classes, speeds)]


def attribute_of(name: str, speed_m_s: float) -> str:
    """The attribute reported for a class at a speed; "" for classes without attributes."""
    attributes = _MOVING_ATTRIBUTE if speed_m_s > _MOVING_M_S else _STILL_ATTRIBUTE
    return attributes.get(name, "")
