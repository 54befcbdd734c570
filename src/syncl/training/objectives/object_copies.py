"""Disturbed copies of annotated objects for a recurrence over objects (DORT): it learns to bring them back,
also where the base detector finds nothing yet.

Letters: B streams, M objects, N copies.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from syncl.detectors import Detector
from syncl.geometry.boxes import encode_boxes
from syncl.structures import Annotations, Outcome, Queries
from syncl.trackers.look import Decoded
from syncl.training.objectives.base import Objective
from syncl.training.strategies.refined_candidates import TurnLossConfig, turn_box_loss


@dataclass(frozen=True)
class ObjectCopiesConfig:
    """How far copies are off, uniformly; the first two are those of the published code's object head.

    Attributes:
        copies: of every object.
        centre_m: along each axis.
        size: each side, relative to itself.
        heading_rad: the heading.
        velocity_m_s: along each axis.
        weight: of the loss, relative to `loss`.
        loss: of the turns.
    """

    copies: int = 1
    centre_m: float = 1.0
    size: float = 0.2
    heading_rad: float = 0.2
    velocity_m_s: float = 2.0
    weight: float = 1.0
    loss: TurnLossConfig = field(default_factory=TurnLossConfig)

    def build(self) -> "ObjectCopies":
        """The objective."""
        return ObjectCopies(self)


@dataclass(frozen=True)
class ObjectCopies(Objective):
    """See the module's docstring."""

    config: ObjectCopiesConfig

    def further_queries(self, detector: Detector, annotations: Annotations, /) -> Queries | None:
        """The copies, object by object; none for a frame without objects.

        Raises:
            SynclError: if the detector has no recurrence over objects.
        """
        if annotations.labels.shape[1] == 0:
            return None
        codes = disturbed(annotations, self.config)
        labels, valid = (
            rows.repeat(1, self.config.copies) for rows in (annotations.labels, annotations.valid)
        )
        return detector.copies(codes, labels, valid)

    def __call__(self, decoded: Decoded, _outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        """`copies_box`: see `turn_box_loss`."""
        found = decoded.further_predictions
        if found is None:
            found = decoded.standard.rows(slice(0, 0))
        objects = torch.arange(annotations.labels.shape[1], device=found.codes.device)
        targets = objects.repeat(self.config.copies).expand_as(found.valid)
        targets = torch.where(found.valid, targets, -1)
        loss = turn_box_loss(found.codes, targets, annotations, self.config.loss)
        return {"copies_box": self.config.weight * loss}


def disturbed(annotations: Annotations, config: ObjectCopiesConfig) -> Tensor:
    """Box codes [B, N, 10] of disturbed copies."""
    boxes = annotations.boxes.repeat(1, config.copies, 1)
    most = boxes.new_tensor(
        [*(config.centre_m,) * 3, *(config.size,) * 3, config.heading_rad, *(config.velocity_m_s,) * 2]
    )
    off = (torch.rand_like(boxes) * 2 - 1) * most
    moved = torch.cat(
        [(boxes + off)[..., :3], boxes[..., 3:6] * (1 + off[..., 3:6]), (boxes + off)[..., 6:]], -1
    )
    return torch.where(annotations.valid.repeat(1, config.copies)[..., None], encode_boxes(moved), 0)
