"""What a tracker reports."""

from dataclasses import dataclass

from torch import Tensor

from syncl.structures.tensors import TensorStructure


@dataclass(frozen=True)
class Objects(TensorStructure):
    """Tracked (or detected) objects of B streams in one frame, padded to M rows.

    Attributes:
        boxes: [B, M, 9] float32 in the box layout, vehicle frame of this frame.
        labels: [B, M] int64 class index.
        scores: [B, M] float32 in [0, 1].
        identities: [B, M] int64, never reused within a scene; -1 for plain detections.
        valid: [B, M] bool; False = padding.
        forecasts: [B, M, F, 2] centres (x, y) expected 1 to F steps of the tracker's `forecast_step_s` from
            now, metres, vehicle frame of this frame; None from trackers that do not forecast.
    """

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    identities: Tensor
    valid: Tensor
    forecasts: Tensor | None = None
