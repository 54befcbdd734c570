"""A tracker without tracks: plain detection, frame by frame, behind the same contract."""

from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.geometry.boxes import decode_boxes
from syncl.structures import Objects, Outcome, Predictions
from syncl.trackers.base import Tracker
from syncl.trackers.look import Decoded
from syncl.trackers.state import TrackState


@dataclass(frozen=True)
class SingleFrameConfig:
    """Detection only.

    Attributes:
        max_objects: how many (query, class) pairs are reported a frame.
        output_range_m: objects whose centre lies beyond +-this in x or y are not reported.
        output_height_m: the same for z.
    """

    max_objects: int = 300
    output_range_m: float = 61.2
    output_height_m: float = 10.0

    @property
    def most_chosen(self) -> int:
        """See `ChoosingConfig`."""
        return self.max_objects

    def build(self, detector: Detector) -> "SingleFrame":
        """Build the module around a detector."""
        return SingleFrame(detector, self)


def best_pairs(
    predictions: Predictions,
    max_objects: int,
    output_range_m: float,
    output_height_m: float,
    boxes: Tensor | None = None,
) -> Objects:
    """The highest scoring (query, class) pairs of the last layer, as DETR-style detectors decode.

    One query can give several labelled boxes. Pairs are chosen before the range is looked at, so there may be
    fewer valid ones than asked for. Identities are -1. `boxes` [B, Q, 9] take the place of the decoded codes.
    """
    scores = predictions.logits[-1].sigmoid()
    streams, _, classes = scores.shape
    scores = scores.masked_fill(~predictions.valid[..., None], 0).flatten(1)
    top, flat = scores.topk(min(max_objects, scores.shape[1]), dim=1)
    rows = flat // classes
    decoded = decode_boxes(predictions.codes[-1]) if boxes is None else boxes
    boxes = decoded.gather(1, rows[..., None].expand(-1, -1, 9))
    valid = (boxes[..., :2].abs() <= output_range_m).all(-1) & (top > 0)
    valid = valid & (boxes[..., 2].abs() <= output_height_m)
    identities = torch.full((streams, top.shape[1]), -1, dtype=torch.int64, device=top.device)
    return Objects(boxes, flat % classes, top, identities, valid)


class SingleFrame(Tracker):
    """Reports detections and carries nothing on."""

    detects_only = True

    def __init__(self, detector: Detector, config: SingleFrameConfig) -> None:
        super().__init__()
        self.detector = detector
        self.config = config

    def fixed_slots(self) -> int:
        """No rows: nothing is carried on."""
        return 0

    def conclude(self, decoded: Decoded) -> tuple[Objects, TrackState]:
        """Objects are the best (query, class) pairs."""
        config = self.config
        boxes = self.detector.boxes(decoded.standard.codes[-1])
        most = max(config.max_objects, self.detector.unsettled)
        objects = best_pairs(decoded.standard, most, config.output_range_m, config.output_height_m, boxes)
        return objects, decoded.state

    def carry(self, decoded: Decoded, _outcome: Outcome, /) -> TrackState:
        """Nothing lives on."""
        return decoded.state
