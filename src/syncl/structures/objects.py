"""What a tracker reports."""

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from syncl.errors import SynclError
from syncl.structures.tensors import TensorStructure

if TYPE_CHECKING:
    import pandas


@dataclass(frozen=True)
class TrackedObject:
    """One reported object, in the vehicle frame of its frame.

    Attributes:
        identity: the same in all frames of a scene, never reused; None for plain detections.
        class_name: what it is.
        score: in [0, 1].
        center_m: (x, y, z) of its centre.
        size_lwh_m: length, width, height.
        yaw_rad: heading, counter-clockwise from x.
        velocity_m_s: (vx, vy) over the ground; nan where unknown.
        stream: which of the frame's streams it is of.
    """

    identity: int | None
    class_name: str
    score: float
    center_m: tuple[float, float, float]
    size_lwh_m: tuple[float, float, float]
    yaw_rad: float
    velocity_m_s: tuple[float, float]
    stream: int = 0

    @property
    def speed_m_s(self) -> float:
        """Speed over the ground."""
        return math.hypot(*self.velocity_m_s)

    def __str__(self) -> str:
        x, y, z = self.center_m
        name = self.class_name if self.identity is None else f"{self.class_name} {self.identity}"
        size = " x ".join(f"{metres:.1f}" for metres in self.size_lwh_m)
        return (
            f"{name}: score {self.score:.2f}, at ({x:.1f}, {y:.1f}, {z:.1f}) m, {size} m, heading "
            f"{math.degrees(self.yaw_rad):.0f} degrees, {self.speed_m_s:.1f} m/s"
        )


@dataclass(frozen=True, repr=False)
class Objects(TensorStructure):
    """Tracked (or detected) objects of B streams in one frame, padded to M rows.

        for tracked in objects:
            print(tracked.identity, tracked.class_name, tracked.center_m, tracked.speed_m_s)

    `len` counts the objects and iterating gives them as `TrackedObject`, stream by stream; the tensors are
    for machines.

    Attributes:
        boxes: [B, M, 9] float32 in the box layout, vehicle frame of this frame.
        labels: [B, M] int64 class index.
        scores: [B, M] float32 in [0, 1].
        identities: [B, M] int64, never reused within a scene; -1 for plain detections.
        valid: [B, M] bool; False = padding.
        forecasts: [B, M, F, 2] centres (x, y) expected 1 to F steps of the tracker's `forecast_step_s` from
            now, metres, vehicle frame of this frame; None from trackers that do not forecast.
        classes: the names that `labels` number; `Tracker.step` fills them in.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    identities: Tensor
    valid: Tensor
    forecasts: Tensor | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return int(self.valid.sum())

    def __bool__(self) -> bool:
        """Always: a frame without objects is a report as well."""
        return True

    def __iter__(self) -> Iterator[TrackedObject]:
        host = self.to("cpu")
        for stream, row in host.valid.nonzero().tolist():
            x, y, z, length, width, height, yaw, vx, vy = host.boxes[stream, row].tolist()
            label, identity = int(host.labels[stream, row]), int(host.identities[stream, row])
            yield TrackedObject(
                identity=None if identity < 0 else identity,
                class_name=self.classes[label] if self.classes else str(label),
                score=float(host.scores[stream, row]),
                center_m=(x, y, z),
                size_lwh_m=(length, width, height),
                yaw_rad=yaw,
                velocity_m_s=(vx, vy),
                stream=stream,
            )

    def __repr__(self) -> str:
        counts = Counter(tracked.class_name for tracked in self)
        kinds = ", ".join(f"{count} {name}" for name, count in counts.most_common())
        streams = "" if self.valid.shape[0] == 1 else f" in {self.valid.shape[0]} streams"
        return f"<Objects: {len(self)}{streams}{f': {kinds}' if kinds else ''}>"

    def to_records(self) -> list[dict[str, str | float | int | None]]:
        """The objects as flat rows: the columns of a recording's `tracks.csv`, and the speed."""
        return [
            {
                **({"stream": tracked.stream} if self.valid.shape[0] > 1 else {}),
                "identity": tracked.identity,
                "class": tracked.class_name,
                "score": tracked.score,
                **dict(zip(("x_m", "y_m", "z_m"), tracked.center_m)),
                **dict(zip(("length_m", "width_m", "height_m"), tracked.size_lwh_m)),
                "yaw_rad": tracked.yaw_rad,
                **dict(zip(("vx_m_s", "vy_m_s"), tracked.velocity_m_s)),
                "speed_m_s": tracked.speed_m_s,
            }
            for tracked in self
        ]

    def to_pandas(self) -> "pandas.DataFrame":
        """The rows of `to_records` as a pandas table.

        Raises:
            SynclError: pandas is not installed.
        """
        try:
            import pandas
        except ImportError as error:
            raise SynclError(
                "to_pandas: pandas is not installed; pip install pandas, or to_records"
            ) from error
        return pandas.DataFrame(self.to_records())
