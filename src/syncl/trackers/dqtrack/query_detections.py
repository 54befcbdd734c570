"""What all queries of a frame say, before anybody ties them to tracks.

Letters: B streams, Q queries, D channels.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from syncl.detectors.base import Detector
from syncl.structures import Objects
from syncl.trackers.look import Decoded
from syncl.trackers.single_frame import SingleFrame, SingleFrameConfig
from syncl.trackers.state import TrackState


@dataclass(frozen=True)
class QueryObjects(Objects):
    """Every query's box with its best class.

    Attributes:
        embeddings: [B, Q, D] the features the heads saw.
    """

    embeddings: Tensor = field(default_factory=lambda: torch.zeros(0))


def query_objects(decoded: Decoded, detector: Detector) -> QueryObjects:
    """The last layer's."""
    predictions = decoded.standard
    scores, labels = predictions.logits[-1].detach().sigmoid().max(-1)
    nobody = torch.full_like(labels, -1)
    boxes, embeddings = detector.boxes(predictions.codes[-1]), predictions.embeddings[-1]
    return QueryObjects(boxes, labels, scores, nobody, predictions.valid, embeddings=embeddings)


class QueryDetections(SingleFrame):
    """Tells what all queries say, and carries nothing on."""

    def __init__(self, detector: Detector) -> None:
        super().__init__(detector, SingleFrameConfig())

    def conclude(self, decoded: Decoded) -> tuple[QueryObjects, TrackState]:
        """See `query_objects`."""
        return query_objects(decoded, self.detector), decoded.state
