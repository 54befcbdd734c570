"""OneTrack's gradient coordination: what class losses of contradicted queries may tell the features below.

Of a query with polarity (+, -) or (-, +) one task says object and the other background, by heads of their own
over one feature. Each loss always trains its own head. What reaches the feature is chosen here, by reading
one of the losses off logits whose features are cut off (`HeadsApart`).

Letters: L decoder layers, B streams, Q queries, D channels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from syncl.errors import SynclError
from syncl.structures import Annotations, Predictions
from syncl.structures.tensors import TensorStructure
from syncl.trackers.one_track import HeadsApart
from syncl.training.assignment import Assignment
from syncl.training.losses import LossConfig, class_loss, set_losses
from syncl.training.strategies.one_track.two_tasks import Coordination


@dataclass(frozen=True)
class Polarity(TensorStructure):
    """The four groups of queries, [L, B, Q] bool each; together they are all that is supervised.

    Attributes:
        both: (+, +), positive for detecting and for tracking.
        neither: (-, -).
        detected: (+, -), an object for detecting alone.
        tracked: (-, +), an object for tracking alone.
    """

    both: Tensor
    neither: Tensor
    detected: Tensor
    tracked: Tensor

    @classmethod
    def of(cls, assignment: Assignment) -> "Polarity":
        """The groups of an assignment to two heads; queries that detection leaves out are negative there."""
        tracked, valid = assignment.targets >= 0, assignment.supervised
        detection = (assignment.detection or assignment).targets >= 0
        rest = tracked.shape[2] - detection.shape[2]
        detected = torch.nn.functional.pad(detection, (0, rest))
        return cls(
            detected & tracked & valid,
            ~detected & ~tracked & valid,
            detected & ~tracked & valid,
            ~detected & tracked & valid,
        )


def coordinated_losses(
    predictions: Predictions,
    assignment: Assignment,
    annotations: Annotations,
    config: LossConfig,
    coordination: Coordination,
    apart: object,
) -> dict[str, Tensor]:
    """`class`, `detect_class` and `box` as `set_losses` has them, contradicted queries coordinated.

    Args:
        predictions: of the standard decoder, with the logits of both heads.
        assignment: of both tasks.
        annotations: of the frame.
        config: loss weights.
        coordination: see `TwoTasksConfig`.
        apart: what the tracker reasoned: `HeadsApart`, which `none` and `drop` do without.

    Raises:
        SynclError: if the tracker has no heads apart.
    """
    if coordination == "none":
        return set_losses(predictions, assignment, annotations, config)
    groups = Polarity.of(assignment)
    if coordination == "drop":
        return set_losses(predictions, _without(assignment, groups), annotations, config)
    if not isinstance(apart, HeadsApart):
        raise SynclError(
            f"strategy: two_tasks.coordination={coordination} needs OneTrack, whose class heads also read "
            "features that are cut off; for other trackers with two heads choose none or drop"
        )
    against_detection, against_tracking = groups.tracked, groups.detected
    if coordination == "detach_positive":
        against_detection, against_tracking = groups.detected, groups.tracked
    chosen = replace(
        predictions,
        logits=torch.where(against_tracking[..., None], apart.tracking, predictions.logits),
        detection_logits=torch.where(
            against_detection[..., None], apart.detection, predictions.as_detected.logits
        ),
    )
    losses = set_losses(chosen, assignment, annotations, config)
    if coordination == "project":
        detecting, tracking = feature_gradients(apart, assignment, annotations, config)
        allowed = projected(detecting, tracking) * groups.tracked[..., None]
        allowed = allowed + projected(tracking, detecting) * groups.detected[..., None]
        # Its value is 0 and its gradient on the features is what is allowed of the negative tasks'.
        told = (predictions.embeddings * allowed).sum()
        losses["class"] = losses["class"] + (told - told.detach())
    return losses


def _without(assignment: Assignment, groups: Polarity) -> Assignment:
    """The assignment without class losses of the negative tasks of contradicted queries."""
    detection = assignment.detection or assignment
    count = detection.supervised.shape[2]
    told = detection.supervised & ~groups.tracked[:, :, :count]
    return replace(
        assignment,
        supervised=assignment.supervised & ~groups.detected,
        detection=replace(detection, supervised=told),
    )


def feature_gradients(
    apart: HeadsApart, assignment: Assignment, annotations: Annotations, config: LossConfig
) -> tuple[Tensor, Tensor]:
    """Gradients [L, B, Q, D] of the detecting and the tracking class loss on the features both heads read."""
    detection = assignment.detection or assignment
    logits = apart.detection[:, :, : detection.targets.shape[2]]
    detecting = class_loss(logits, detection, annotations, config)
    tracking = class_loss(apart.tracking, assignment, annotations, config)
    gradients = [
        torch.autograd.grad(loss, apart.features, retain_graph=True)[0] for loss in (detecting, tracking)
    ]
    return gradients[0], gradients[1]


def projected(gradient: Tensor, other: Tensor) -> Tensor:
    """Gradients [..., D] without what points against the other's (Yu et al. 2020, gradient surgery)."""
    along = (gradient * other).sum(-1, keepdim=True).clamp(max=0)
    return gradient - along / other.square().sum(-1, keepdim=True).clamp(min=1e-20) * other
