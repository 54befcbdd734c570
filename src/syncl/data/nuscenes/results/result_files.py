"""Reading result files back, for drawing and inspection."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import orjson
from numpy.typing import NDArray

from syncl.errors import SynclError
from syncl.geometry.poses import yaw_from_quaternion


@dataclass(frozen=True)
class SampleResults:
    """The boxes of one sample, N rows in file order.

    Attributes:
        boxes: [N, 9] float64 box layout, global frame.
        names: N class names.
        scores: [N] float64.
        identities: N track identities; "" in detection results.
        forecasts: [N, F, 2] float64 centres (x, y) expected 1 to F steps on, global frame; None where the
            file has none (`forecast` in `syncl.data.nuscenes.results.submission`).
        forecast_step_s: seconds of a step; None likewise.
    """

    boxes: NDArray[np.float64]
    names: tuple[str, ...]
    scores: NDArray[np.float64]
    identities: tuple[str, ...]
    forecasts: NDArray[np.float64] | None = None
    forecast_step_s: float | None = None


def read_results(path: Path) -> dict[str, SampleResults]:
    """Read a tracking or detection result file: sample token to boxes in the global frame.

    Raises:
        SynclError: no such file, not JSON, no "results", or a box lacks a field or holds a wrong value.
    """
    try:
        data = path.read_bytes()
        content = orjson.loads(data)
    except FileNotFoundError:
        raise SynclError(f"{path}: no such result file") from None
    except OSError as error:
        raise SynclError(f"{path}: cannot be read ({error.strerror})") from error
    except orjson.JSONDecodeError:
        content = _parse_with_nan(path, data)
    if not isinstance(content, dict) or not isinstance(content.get("results"), dict):
        raise SynclError(f"{path}: not a nuScenes result file: expected an object with 'meta' and 'results'")
    step_s = _forecast_step_s(path, content.get("meta"))
    return {token: _sample(path, token, entries, step_s) for token, entries in content["results"].items()}


def _forecast_step_s(path: Path, meta: object) -> float | None:
    step_s = meta.get("forecast_step_s") if isinstance(meta, dict) else None
    if step_s is None:
        return None
    if not isinstance(step_s, (int, float)) or not step_s > 0:
        raise SynclError(f"{path}: meta.forecast_step_s: {step_s!r}; must be a positive number of seconds")
    return float(step_s)


def _parse_with_nan(path: Path, data: bytes) -> object:
    """Parse what is JSON but for NaN and Infinity, which other writers leave in velocities."""
    try:
        content: object = json.loads(data)
    except ValueError as error:
        raise SynclError(f"{path}: damaged or not a result file: not valid JSON ({error})") from error
    return content


def _sample(path: Path, token: str, entries: object, step_s: float | None) -> SampleResults:
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
        except (TypeError, ValueError):
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
    return SampleResults(
        boxes=np.concatenate(parts, axis=1),
        names=tuple(str(name) for name in column(f"{prefix}_name")),
        scores=numbers(f"{prefix}_score"),
        identities=tuple(str(identity) for identity in identities),
        forecasts=None if step_s is None else numbers("forecast", -1, 2) if boxes else np.zeros((0, 0, 2)),
        forecast_step_s=step_s,
    )
