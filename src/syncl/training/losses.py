"""Classification and box losses of a decoder group, all layers at once.

Letters: L decoder layers, B streams, Q queries, M objects, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from syncl.geometry.boxes import encode_boxes
from syncl.structures import Annotations, Predictions
from syncl.training.assignment import Assignment


@dataclass(frozen=True)
class LossConfig:
    """Loss weights; the defaults are DETR3D's and PETR's.

    Attributes:
        classification: weight of the focal loss.
        box: weight of the L1 loss.
        alpha: focal balance.
        gamma: focal focus.
        code_weights: weight of each of the ten box code numbers.
        count_vanished: whether tracks whose object is gone count in the normaliser of the classification
            loss, as in MUTR3D.
        own_class_count: whether each process divides its class loss by its own number, as PETR and StreamPETR
            do, and not by the processes' mean as DETR3D does.
    """

    classification: float = 2.0
    box: float = 0.25
    alpha: float = 0.25
    gamma: float = 2.0
    code_weights: tuple[float, ...] = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.2, 0.2)
    count_vanished: bool = False
    own_class_count: bool = False


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a tensor over all training processes; itself where there is one."""
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return value
    total = value.clone()
    torch.distributed.all_reduce(total)
    return total / torch.distributed.get_world_size()


def sigmoid_focal_loss(logits: Tensor, targets: Tensor, alpha: float, gamma: float) -> Tensor:
    """Focal loss (Lin et al., 2017) of every logit, same shape as `logits`; `targets` are 0 or 1."""
    probability = logits.sigmoid()
    cross_entropy = functional.binary_cross_entropy_with_logits(logits, targets, reduction="none")
    wrong = probability * (1 - targets) + (1 - probability) * targets
    balance = alpha * targets + (1 - alpha) * (1 - targets)
    return balance * wrong**gamma * cross_entropy


def set_losses(
    predictions: Predictions, assignment: Assignment, annotations: Annotations, config: LossConfig
) -> dict[str, Tensor]:
    """`class` and `box` loss of a group, and with two class heads `detect_class`, summed over its layers.

    Each layer is normalised by its number of positives (for classes perhaps with vanished tracks) over all
    streams, at least one, in the mean over processes; `LossConfig` says what may differ. Rows whose target is
    not finite have no box loss.
    """
    losses = {"class": class_loss(predictions.logits, assignment, annotations, config)}
    detection = assignment.detection
    if detection is not None and predictions.detection_logits is not None:
        logits = predictions.detection_logits[:, :, : detection.targets.shape[2]]
        losses["detect_class"] = class_loss(logits, detection, annotations, config)
    boxes = assignment.targets if assignment.boxes is None else assignment.boxes
    return losses | {"box": box_loss(predictions.codes, boxes, annotations, config)}


def class_loss(
    logits: Tensor, assignment: Assignment, annotations: Annotations, config: LossConfig
) -> Tensor:
    """Focal loss of logits [L, B, Q, K], see `set_losses`."""
    targets = assignment.targets
    positive = targets >= 0
    classified = positive.sum((1, 2)).to(logits.dtype)
    wanted = torch.zeros_like(logits)
    if annotations.labels.shape[1]:
        labels = annotations.labels.expand(targets.shape[0], -1, -1).gather(2, targets.clamp(min=0))
        wanted.scatter_(-1, labels.clamp(min=0)[..., None], positive[..., None].to(wanted.dtype))
    focal = sigmoid_focal_loss(logits.float(), wanted.float(), config.alpha, config.gamma)
    focal = (focal.sum(-1) * assignment.supervised).sum((1, 2))
    if config.count_vanished and assignment.vanished is not None:
        classified = classified + assignment.vanished.sum()
    if not config.own_class_count:
        classified = mean_over_processes(classified)
    # MUTR3D divides by zero where nothing is matched and nothing vanished; the floor of one stays here.
    return config.classification * (focal / classified.clamp(min=1)).sum()


def box_loss(codes: Tensor, targets: Tensor, annotations: Annotations, config: LossConfig) -> Tensor:
    """L1 loss of box codes [L, B, Q, 10] with targets [L, B, Q], see `set_losses`."""
    positive = targets >= 0
    count = mean_over_processes(positive.sum((1, 2)).to(codes.dtype)).clamp(min=1)
    if not annotations.labels.shape[1]:
        return codes.sum() * 0
    goal = encode_boxes(annotations.boxes).expand(targets.shape[0], -1, -1, -1)
    index = targets.clamp(min=0)[..., None].expand(-1, -1, -1, goal.shape[-1])
    goal = goal.gather(2, index)
    usable = positive & torch.isfinite(goal).all(-1)
    difference = (codes - torch.where(usable[..., None], goal, codes)).abs()
    weights = difference.new_tensor(config.code_weights)
    distance = (difference * weights).sum(-1).sum((1, 2))
    return config.box * (distance / count).sum()
