"""Where the tracks of the next state come from, in trackers that pair detections with tracks.

Letters: B streams, D detections, N tracks, R rows of the next state.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.structures.tensors import TensorStructure
from syncl.trackers.rows import take_rows_or_zero


@dataclass(frozen=True)
class NextRows(TensorStructure):
    """Where the rows [B, R] of the next state come from.

    Attributes:
        detection: [B, R] detection row, -1 = the track was missed.
        track: [B, R] track row, -1 = new.
    """

    detection: Tensor
    track: Tensor

    @property
    def valid(self) -> Tensor:
        """[B, R] bool; False = padding."""
        return (self.detection >= 0) | (self.track >= 0)

    @property
    def seen(self) -> Tensor:
        """[B, R] bool rows with a detection."""
        return self.detection >= 0

    @property
    def born(self) -> Tensor:
        """[B, R] bool rows without a track so far."""
        return self.seen & (self.track < 0)

    @property
    def paired(self) -> Tensor:
        """[B, R] bool rows with both."""
        return self.seen & (self.track >= 0)

    def take(self, values: Tensor) -> Tensor:
        """Values [B, D, ...] of the rows' detections; 0 where there is none."""
        return take_rows_or_zero(values, self.detection)

    def held(self, values: Tensor) -> Tensor:
        """Values [B, N, ...] of the rows' tracks; 0 where there is none."""
        return take_rows_or_zero(values, self.track)

    def mixed(self, of_detections: Tensor, of_tracks: Tensor) -> Tensor:
        """The detection's value where the row has one, else the track's."""
        seen = self.seen.reshape(*self.seen.shape, *[1] * (of_detections.dim() - 2))
        return torch.where(seen, self.take(of_detections), self.held(of_tracks))
