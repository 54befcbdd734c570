"""Reading result files back, for drawing and inspection."""

from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from syncl.data.frame_objects import FrameObjects
from syncl.data.json_stream import convert_results
from syncl.errors import SynclError, shown
from syncl.geometry.poses import yaw_from_quaternion


def read_frame_objects(path: Path) -> dict[str, FrameObjects]:
    """Read a tracking or detection result file: sample token to objects in the global frame, in file order.

    Forecasts are read where the file has them (`forecast` in `syncl.data.nuscenes.results.submission`).

    Raises:
        SynclError: no such file, not JSON, no "results", or a box lacks a field or holds a wrong value; file,
            sample and field are named.
    """
    head, pieces = convert_results(path, dict, in_pieces=False)
    forecasting = _has_forecasts(path, head.get("meta"))
    return {token: _sample(path, token, entries, forecasting) for token, entries in pieces[0].items()}


def _has_forecasts(path: Path, meta: object) -> bool:
    step_s = meta.get("forecast_step_s") if isinstance(meta, dict) else None
    if step_s is None:
        return False
    if not isinstance(step_s, (int, float)) or not step_s > 0:
        raise SynclError(f"{path}: meta.forecast_step_s: {step_s!r}; must be a positive number of seconds")
    return True


def _sample(path: Path, token: str, entries: object, forecasting: bool) -> FrameObjects:
    if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
        raise SynclError(f"{path}: results of sample '{token}' are not a list of boxes")
    boxes = cast(list[dict[str, object]], entries)
    prefix = "tracking" if boxes and "tracking_name" in boxes[0] else "detection"

    def column(field: str) -> list[object]:
        for number, box in enumerate(boxes):
            if field not in box:
                raise SynclError(f"{path}: sample '{token}', box {number}: no field '{field}'")
        return [box[field] for box in boxes]

    def numbers(field: str, *shape: int) -> NDArray[np.float64]:
        values = column(field)
        try:
            return np.array(values, np.float64).reshape(len(boxes), *shape)
        except (TypeError, ValueError, OverflowError):
            raise SynclError(
                f"{path}: sample '{token}': field '{field}' does not hold numbers of shape {shape}"
            ) from None

    parts = [
        numbers("translation", 3),
        numbers("size", 3)[:, [1, 0, 2]],
        yaw_from_quaternion(numbers("rotation", 4))[:, None],
        numbers("velocity", 2),
    ]
    identities = column("tracking_id") if prefix == "tracking" else [""] * len(boxes)
    for number, identity in enumerate(identities):
        if type(identity) not in (str, int):
            raise SynclError(
                f"{path}: sample '{token}', box {number}: field 'tracking_id' is {shown(identity)}; it "
                "must be a text or a whole number of at most 64 bits: write larger ones as texts"
            )
    forecasts = None
    if forecasting:
        forecasts = numbers("forecast", -1, 2) if boxes else np.zeros((0, 0, 2))
    try:
        return FrameObjects(
            boxes=np.concatenate(parts, axis=1),
            classes=tuple(str(name) for name in column(f"{prefix}_name")),
            scores=numbers(f"{prefix}_score"),
            identities=tuple(str(identity) for identity in identities),
            forecasts=forecasts,
        )
    except SynclError as error:
        raise SynclError(f"{path}: sample '{token}': {str(error).removeprefix(f'{path}: ')}") from error
