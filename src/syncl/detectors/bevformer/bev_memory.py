"""BEVFormer's memory: the bird's-eye view of the frame before, and where the vehicle was then.

Letters: B streams, N cells (row by row), D channels.
"""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
from torch import Tensor

from syncl.detectors.bevformer.vehicle_motion import VehicleMotion
from syncl.detectors.passed import DetectorMemory
from syncl.structures import Frame


@dataclass(frozen=True)
class BevMemory(DetectorMemory):
    """The last view of B streams.

    Attributes:
        bev: [B, N, D] without gradient.
        place: [B, 4] float64 where the vehicle was: x, y, z in the map (m), heading (degrees).
        valid: [B] bool; False = nothing of the stream's present scene has been seen.
    """

    kept_by_caller: ClassVar[tuple[str, ...]] = ("place",)

    bev: Tensor
    place: Tensor
    valid: Tensor

    @classmethod
    def empty(cls, streams: int, like: Tensor) -> "BevMemory":
        """The memory of streams that have seen nothing; cells, channels and dtype as in `like` [N, D]."""
        place = torch.zeros(streams, 4, dtype=torch.float64, device=like.device)
        return cls(like.new_zeros(streams, *like.shape), place, place[:, 0] > 0)

    def keep(self, streams: Tensor) -> Self:
        """See `DetectorMemory.keep`."""
        return replace(self, valid=self.valid & streams)

    def rebased(self, _new_from_global: Tensor, _start_s: Tensor) -> Self:
        """The same: its place in the map is left to who tells the vehicle's motion (`left_at`)."""
        return self

    def left_at(self, frame: Frame) -> Self:
        """See `DetectorMemory.left_at`."""
        return replace(self, place=VehicleMotion.of(frame).place)


def turned(
    bev: Tensor, shape: tuple[int, int], turn_deg: Tensor, centre: tuple[float, float] | None
) -> Tensor:
    """A view [B, N, D] as seen from a vehicle that has turned since, each cell from the nearest one.

    What lay outside the view is 0.

    Args:
        bev: row by row.
        shape: (rows, columns).
        turn_deg: [B] float64 counter-clockwise turn of the vehicle.
        centre: (x, y) in cells about which the view is turned; None = its own middle.
    """
    rows, columns = shape
    middle_x, middle_y = (columns / 2, rows / 2) if centre is None else centre
    angle = turn_deg.deg2rad()[:, None, None]
    y = (torch.arange(rows, dtype=angle.dtype, device=angle.device) + 0.5 - middle_y)[:, None]
    x = torch.arange(columns, dtype=angle.dtype, device=angle.device) + 0.5 - middle_x
    column = (middle_x + angle.cos() * x - angle.sin() * y - 0.5).round()
    row = (middle_y + angle.sin() * x + angle.cos() * y - 0.5).round()
    inside = ((column >= 0) & (column < columns) & (row >= 0) & (row < rows)).flatten(1)
    source = (row.clamp(0, rows - 1) * columns + column.clamp(0, columns - 1)).long().flatten(1)
    return bev.gather(1, source[..., None].expand_as(bev)) * inside[..., None]
