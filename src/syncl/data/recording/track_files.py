"""Tracks of a recording as files: JSON for programs, CSV for spreadsheets."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson
from numpy.typing import NDArray

from syncl.files import atomic_write

FORMAT = "syncl-tracks-1"

_COLUMNS = (
    "frame",
    "timestamp_s",
    "identity",
    "class",
    "score",
    "x_m",
    "y_m",
    "z_m",
    "length_m",
    "width_m",
    "height_m",
    "yaw_rad",
    "vx_m_s",
    "vy_m_s",
    "global_x_m",
    "global_y_m",
    "global_z_m",
    "global_yaw_rad",
)


@dataclass(frozen=True)
class FrameTracks:
    """The tracks of one frame, N of them.

    Attributes:
        frame: its name.
        timestamp_s: seconds.
        boxes: [N, 9] float64 box layout, the rig's vehicle frame.
        classes: N class names.
        scores: [N].
        identities: [N] int64.
        global_from_vehicle: [4, 4].
        forecasts: [N, F, 2] centres (x, y) expected 1 to F steps from now, vehicle frame of this frame; None
            from trackers that do not forecast.
    """

    frame: str
    timestamp_s: float
    boxes: NDArray[np.float64]
    classes: tuple[str, ...]
    scores: NDArray[np.float64]
    identities: NDArray[np.int64]
    global_from_vehicle: NDArray[np.float64]
    forecasts: NDArray[np.float64] | None = None

    def global_places(self) -> NDArray[np.float64]:
        """[N, 4] centres and yaws in the global frame."""
        rotation = self.global_from_vehicle[:3, :3]
        centres = self.boxes[:, :3] @ rotation.T + self.global_from_vehicle[:3, 3]
        heading = np.stack([np.cos(self.boxes[:, 6]), np.sin(self.boxes[:, 6])], axis=1) @ rotation[:2, :2].T
        return np.concatenate([centres, np.arctan2(heading[:, 1:], heading[:, :1])], axis=1)


def write_json(
    path: Path,
    frames: Sequence[FrameTracks],
    recording: str,
    remarks: Sequence[str],
    model: str,
    forecast_step_s: float | None = None,
) -> None:
    """Write tracks as JSON in one step: what was tracked with what, then the objects of every frame.

    Where frames have forecasts, the file says `forecast_step_s`, the seconds of a step, and every object has
    `forecast_m` and `global_forecast_m`: lists of [x, y] expected 1, 2, ... steps after the frame's time,
    metres, in the rig's vehicle frame of that frame and in the global frame.
    """
    content = {
        "format": FORMAT,
        "recording": recording,
        "model": model,
        "remarks": list(remarks),
        **({} if forecast_step_s is None else {"forecast_step_s": forecast_step_s}),
        "frames": [
            {
                "name": frame.frame,
                "timestamp_s": frame.timestamp_s,
                "global_from_vehicle": frame.global_from_vehicle.tolist(),
                "objects": [
                    {
                        "identity": int(frame.identities[row]),
                        "class": frame.classes[row],
                        "score": float(frame.scores[row]),
                        "center_m": frame.boxes[row, :3].tolist(),
                        "size_lwh_m": frame.boxes[row, 3:6].tolist(),
                        "yaw_rad": float(frame.boxes[row, 6]),
                        "velocity_m_s": frame.boxes[row, 7:9].tolist(),
                        "global_center_m": place[:3].tolist(),
                        "global_yaw_rad": float(place[3]),
                        **_forecast(frame, row),
                    }
                    for row, place in enumerate(frame.global_places())
                ],
            }
            for frame in frames
        ],
    }
    atomic_write(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def _forecast(frame: FrameTracks, row: int) -> dict[str, list[list[float]]]:
    """The fields about a track's forecast."""
    if frame.forecasts is None:
        return {}
    planar = frame.forecasts[row]
    centres = np.concatenate([planar, np.full((len(planar), 1), frame.boxes[row, 2])], axis=1)
    pose = frame.global_from_vehicle
    moved = centres @ pose[:2, :3].T + pose[:2, 3]
    return {"forecast_m": planar.tolist(), "global_forecast_m": moved.tolist()}


def write_csv(path: Path, frames: Sequence[FrameTracks]) -> None:
    """Write tracks as CSV in one step, a row for each object of each frame."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for frame in frames:
        for row, place in enumerate(frame.global_places()):
            numbers = [*frame.boxes[row].tolist(), *place.tolist()]
            writer.writerow(
                [
                    frame.frame,
                    f"{frame.timestamp_s:.6f}",
                    int(frame.identities[row]),
                    frame.classes[row],
                    f"{frame.scores[row]:.4f}",
                    *(f"{value:.4f}" for value in numbers),
                ]
            )
    atomic_write(path, text.getvalue().encode())
