"""Result files in the official nuScenes formats: tracking (7 classes) and detection (10 classes).

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

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from syncl.classes import CLASS_RANGE_M, DETECTION_CLASSES, MAX_BOXES_PER_SAMPLE, TRACKING_CLASSES
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

Array = NDArray[np.float64]


class _Submission:
    """What both formats share. Each sample's boxes are serialised as they arrive, to keep memory low."""

    _classes: tuple[str, ...]
    _prefix: str

    def __init__(self, sample_tokens: Sequence[str], *, limit_range: bool = True) -> None:
        """Start an empty submission.

        Args:
            sample_tokens: the samples of the split, every one of which must be added.
            limit_range: drop boxes farther from the ego vehicle than their class is evaluated, as the
                originals do (the evaluation would ignore them).
        """
        self._results: dict[str, bytes | None] = dict.fromkeys(sample_tokens)
        self._limit_range = limit_range
        self._meta: dict[str, bool | float] = dict(_META)
        self.dropped_over_limit = 0
        """Boxes left out because their sample had more than 500."""

    def _add(
        self,
        sample_token: str,
        boxes: Array,
        names: Sequence[str],
        scores: Array,
        extra_field: str,
        extra: Sequence[str],
        global_from_vehicle: Array,
        global_from_ego: Array | None,
        forecasts: Array | None = None,
    ) -> None:
        if sample_token not in self._results:
            raise SynclError(f"sample '{sample_token}' is not one of the {len(self._results)} of this split")
        if self._results[sample_token] is not None:
            raise SynclError(f"sample '{sample_token}' was added twice")
        boxes, scores = np.asarray(boxes, np.float64), np.asarray(scores, np.float64)
        self._check(sample_token, boxes, names, scores)
        translations, rotations, velocities = _to_global(boxes, global_from_vehicle)
        keep = np.array([name in self._classes for name in names], np.bool_)
        if self._limit_range:
            ego = global_from_vehicle if global_from_ego is None else global_from_ego
            distance = np.linalg.norm(translations[:, :2] - ego[:2, 3], axis=1)
            keep &= distance < np.array([CLASS_RANGE_M.get(name, 0.0) for name in names])
        rows = np.flatnonzero(keep)
        if len(rows) > MAX_BOXES_PER_SAMPLE:
            self.dropped_over_limit += len(rows) - MAX_BOXES_PER_SAMPLE
            best = np.argsort(-scores[rows], kind="stable")[:MAX_BOXES_PER_SAMPLE]
            rows = rows[np.sort(best)]
        entries = [
            {
                "sample_token": sample_token,
                "translation": translations[row].tolist(),
                "size": boxes[row, [4, 3, 5]].tolist(),
                "rotation": rotations[row].tolist(),
                "velocity": velocities[row].tolist(),
                f"{self._prefix}_name": names[row],
                f"{self._prefix}_score": float(scores[row]),
                extra_field: extra[row],
            }
            for row in rows.tolist()
        ]
        if forecasts is not None:
            for row, entry in zip(rows.tolist(), entries):
                moved = _to_global_plane(forecasts[row], boxes[row, 2], global_from_vehicle)
                entry["forecast"] = moved.tolist()
        self._results[sample_token] = orjson.dumps(entries)

    def _check(self, sample_token: str, boxes: Array, names: Sequence[str], scores: Array) -> None:
        count = len(boxes)
        if boxes.shape != (count, 9) or len(names) != count or scores.shape != (count,):
            raise SynclError(
                f"sample '{sample_token}': boxes {boxes.shape}, {len(names)} classes and scores "
                f"{scores.shape} do not fit together; expected (N, 9), N and (N,)"
            )
        for field, bad in (
            ("translation", ~np.isfinite(boxes[:, :3]).all(axis=1)),
            ("size", ~(np.isfinite(boxes[:, 3:6]) & (boxes[:, 3:6] > 0)).all(axis=1)),
            ("rotation", ~np.isfinite(boxes[:, 6])),
            ("score", ~(np.isfinite(scores) & (scores >= 0))),
        ):
            if bad.any():
                row = np.flatnonzero(bad)[0]
                raise SynclError(
                    f"sample '{sample_token}', box {row} ({names[row]}): bad {field}: box "
                    f"{boxes[row].tolist()}, score {float(scores[row])}"
                )

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
    """A tracking result file; classes that are not tracked officially are dropped."""

    _classes = TRACKING_CLASSES
    _prefix = "tracking"

    def __init__(
        self, sample_tokens: Sequence[str], *, limit_range: bool = True, forecast_step_s: float | None = None
    ) -> None:
        """Start an empty submission.

        Args:
            sample_tokens: the samples of the split, every one of which must be added.
            limit_range: as for detections.
            forecast_step_s: seconds between a forecast's centres; None = a file without forecasts.
        """
        super().__init__(sample_tokens, limit_range=limit_range)
        self._forecasting = forecast_step_s is not None
        if forecast_step_s is not None:
            self._meta["forecast_step_s"] = forecast_step_s

    def add(
        self,
        sample_token: str,
        boxes: Array,
        labels: Sequence[str],
        scores: Array,
        identities: Sequence[int] | NDArray[np.int64],
        global_from_vehicle: Array,
        global_from_ego: Array | None = None,
        forecasts: Array | None = None,
    ) -> None:
        """Add the tracked objects of one sample.

        Args:
            sample_token: the sample.
            boxes: [N, 9] box layout, vehicle frame; unknown (nan) velocities are written as 0.
            labels: N class names.
            scores: [N] at least 0.
            identities: N track numbers, each at most once.
            global_from_vehicle: [4, 4] pose of the sample.
            global_from_ego: [4, 4] from whose origin class ranges are measured, if that is not the vehicle's.
            forecasts: [N, F, 2] centres expected, vehicle frame; needed where, and only where, the file has
                forecasts.

        Raises:
            SynclError: unknown or repeated sample, a value that is not finite, a size that is not positive,
                an identity used twice, or forecasts that are missing or not asked for; names sample and box.
        """
        numbers = np.asarray(identities)
        values, counts = np.unique(numbers, return_counts=True)
        if len(numbers) != len(boxes) or (counts > 1).any():
            problem = (
                f"{len(numbers)} identities for {len(boxes)} boxes"
                if len(numbers) != len(boxes)
                else f"identity {values[counts > 1][0]} occurs more than once"
            )
            raise SynclError(f"sample '{sample_token}': {problem}")
        self._check_forecasts(sample_token, len(boxes), forecasts)
        names = [str(number) for number in numbers.tolist()]
        self._add(
            sample_token,
            boxes,
            labels,
            scores,
            "tracking_id",
            names,
            global_from_vehicle,
            global_from_ego,
            forecasts,
        )

    def _check_forecasts(self, sample_token: str, count: int, forecasts: Array | None) -> None:
        if (forecasts is not None) != self._forecasting:
            problem = "no forecasts, and the file is to have" if self._forecasting else "forecasts without"
            raise SynclError(f"sample '{sample_token}': {problem} a forecast_step_s")
        if forecasts is None:
            return
        if forecasts.ndim != 3 or forecasts.shape[0] != count or forecasts.shape[2] != 2:
            raise SynclError(
                f"sample '{sample_token}': forecasts {forecasts.shape} for {count} boxes; expected (N, F, 2)"
            )
        bad = np.flatnonzero(~np.isfinite(forecasts).all(axis=(1, 2)))
        if len(bad):
            raise SynclError(f"sample '{sample_token}', box {bad[0]}: its forecast is not finite")


class DetectionSubmission(_Submission):
    """A detection result file; attributes follow from class and speed."""

    _classes = DETECTION_CLASSES
    _prefix = "detection"

    def add(
        self,
        sample_token: str,
        boxes: Array,
        labels: Sequence[str],
        scores: Array,
        global_from_vehicle: Array,
        global_from_ego: Array | None = None,
    ) -> None:
        """Add the detections of one sample; see `TrackingSubmission.add`."""
        boxes = np.asarray(boxes, np.float64)
        self._check(sample_token, boxes, labels, np.asarray(scores, np.float64))
        speeds = np.linalg.norm(np.nan_to_num(boxes[:, 7:9]), axis=1).tolist()
        attributes = [attribute_of(name, speed) for name, speed in zip(labels, speeds)]
        self._add(
            sample_token,
            boxes,
            labels,
            scores,
            "attribute_name",
            attributes,
            global_from_vehicle,
            global_from_ego,
        )


def attribute_of(name: str, speed_m_s: float) -> str:
    """The attribute reported for a class at a speed; "" for classes without attributes."""
    attributes = _MOVING_ATTRIBUTE if speed_m_s > _MOVING_M_S else _STILL_ATTRIBUTE
    return attributes.get(name, "")


def _to_global(boxes: Array, global_from_vehicle: Array) -> tuple[Array, Array, Array]:
    """Centres [N, 3], quaternions [N, 4] and velocities [N, 2] in the global frame."""
    rotation = np.asarray(global_from_vehicle, np.float64)[:3, :3]
    centres = boxes[:, :3] @ rotation.T + global_from_vehicle[:3, 3]
    headings = rotation_from_quaternion(quaternion_from_yaw(boxes[:, 6]))
    velocities = np.nan_to_num(boxes[:, 7:9], nan=0.0, posinf=0.0, neginf=0.0) @ rotation[:2, :2].T
    return centres, quaternion_from_rotation(rotation @ headings), velocities


def _to_global_plane(points: Array, height: float, global_from_vehicle: Array) -> Array:
    """(x, y) [F, 2] in the global frame of points [F, 2] at a height, vehicle frame."""
    pose = np.asarray(global_from_vehicle, np.float64)
    lifted = np.concatenate([points, np.full((len(points), 1), height)], axis=1)
    return lifted @ pose[:2, :3].T + pose[:2, 3]
