"""Tracks of a recording as files: JSON for programs, CSV for spreadsheets."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

import orjson

from syncl.data.frame_objects import FrameObjects
from syncl.data.recording.rig_contents import Moment
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


def write_json(
    path: Path,
    moments: Sequence[Moment],
    tracks: Sequence[FrameObjects],
    recording: str,
    remarks: Sequence[str],
    model: str,
    forecast_step_s: float | None = None,
) -> None:
    """Write tracks as JSON in one step: what was tracked with what, then the objects of every frame.

    Where tracks have forecasts, the file says `forecast_step_s`, the seconds of a step, and every object has
    `forecast_m` and `global_forecast_m`: lists of [x, y] expected 1, 2, ... steps after the frame's time,
    metres, in the rig's vehicle frame of that frame and in the global frame.

    Args:
        path: the file.
        moments: of the recording, in order.
        tracks: of each of them, the rig's vehicle frame; identities are numbers.
        recording: its name.
        remarks: about the recording.
        model: its name.
        forecast_step_s: seconds between the places of a forecast; None without forecasts.
    """
    content = {
        "format": FORMAT,
        "recording": recording,
        "model": model,
        "remarks": list(remarks),
        **({} if forecast_step_s is None else {"forecast_step_s": forecast_step_s}),
        "frames": [
            {
                "name": moment.name,
                "timestamp_s": moment.timestamp_s,
                "global_from_vehicle": moment.global_from_vehicle.tolist(),
                "objects": _entries(objects, objects.moved(moment.global_from_vehicle)),
            }
            for moment, objects in zip(moments, tracks, strict=True)
        ],
    }
    atomic_write(path, orjson.dumps(content, option=orjson.OPT_INDENT_2) + b"\n")


def _entries(objects: FrameObjects, in_global: FrameObjects) -> list[dict[str, object]]:
    entries: list[dict[str, object]] = []
    for row, (box, place) in enumerate(zip(objects.boxes, in_global.boxes)):
        entry: dict[str, object] = {
            "identity": int(objects.identities[row]),
            "class": objects.classes[row],
            "score": float(objects.scores[row]),
            "center_m": box[:3].tolist(),
            "size_lwh_m": box[3:6].tolist(),
            "yaw_rad": float(box[6]),
            "velocity_m_s": box[7:9].tolist(),
            "global_center_m": place[:3].tolist(),
            "global_yaw_rad": float(place[6]),
        }
        if objects.forecasts is not None and in_global.forecasts is not None:
            entry["forecast_m"] = objects.forecasts[row].tolist()
            entry["global_forecast_m"] = in_global.forecasts[row].tolist()
        entries.append(entry)
    return entries


def write_csv(path: Path, moments: Sequence[Moment], tracks: Sequence[FrameObjects]) -> None:
    """Write tracks as CSV in one step, a row for each object of each frame; arguments as for `write_json`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(_COLUMNS)
    for moment, objects in zip(moments, tracks, strict=True):
        places = objects.moved(moment.global_from_vehicle).boxes[:, [0, 1, 2, 6]]
        for row, place in enumerate(places):
            numbers = [*objects.boxes[row].tolist(), *place.tolist()]
            writer.writerow(
                [
                    moment.name,
                    f"{moment.timestamp_s:.6f}",
                    int(objects.identities[row]),
                    objects.classes[row],
                    f"{objects.scores[row]:.4f}",
                    *(f"{value:.4f}" for value in numbers),
                ]
            )
    atomic_write(path, text.getvalue().encode())
