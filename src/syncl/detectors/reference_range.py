"""The range that reference points live in, and the numbers decoders have for places in it."""

import torch
from torch import Tensor, nn

from syncl.errors import SynclError
from syncl.layers.numerics import REFERENCE_EPS

PointRange = tuple[float, float, float, float, float, float]
NUSCENES_RANGE: PointRange = (-51.2, -51.2, -5.0, 51.2, 51.2, 3.0)


class ReferenceRange(nn.Module):
    """Maps points between metres and the unit cube of a detector's range."""

    low: Tensor
    span: Tensor

    def __init__(self, point_range: PointRange) -> None:
        super().__init__()
        low, high = torch.tensor(point_range[:3]), torch.tensor(point_range[3:])
        # Compared as plain numbers: the module is also built on the meta device, where tensors have none.
        if any(most <= least for least, most in zip(point_range[:3], point_range[3:], strict=True)):
            raise SynclError(f"point_range {point_range}: every maximum must exceed its minimum")
        self.register_buffer("low", low, persistent=False)
        self.register_buffer("span", high - low, persistent=False)

    def normalise(self, points: Tensor) -> Tensor:
        """Metres [..., 3] to unit coordinates; points outside the range leave [0, 1]."""
        return (points - self.low) / self.span

    def to_metres(self, unit: Tensor) -> Tensor:
        """Unit coordinates [..., 3] to metres."""
        return unit * self.span + self.low

    def logits_of(self, points: Tensor) -> Tensor:
        """Metres [..., 3] to logits of unit coordinates; points outside the range saturate, on its border.

        The same as `inverse_sigmoid` of unit coordinates, which in float32 are 8 um apart over a range of
        122 m; from layer to layer and frame to frame that grew to millimetres. Metres from the range's middle
        are the finer the nearer to the vehicle.
        """
        half = self.span / 2
        reach = half * (1 - 2 * REFERENCE_EPS)
        offset = (points - (self.low + half)).clamp(-reach, reach)
        # Each where it loses nothing: one near the middle, the other near the border.
        far = torch.log((half + offset) / (half - offset))
        return torch.where(offset.abs() < half / 2, 2 * (offset / half).atanh(), far)

    def metres_at(self, logits: Tensor) -> Tensor:
        """Logits [..., 3] of unit coordinates to metres."""
        half = self.span / 2
        return (logits / 2).tanh() * half + (self.low + half)
