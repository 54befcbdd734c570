"""Losses of StreamPETR's auxiliary image head (`detectors.streampetr.focal_head`) and their 2D ground truth.

Letters: B streams, C cameras, I images (B C of them), N cells, M objects, K classes.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from syncl.detectors.passed import Features
from syncl.detectors.streampetr.focal_head import ImagePredictions
from syncl.geometry.boxes import box_corners
from syncl.geometry.projection import project_points
from syncl.structures import Annotations, Outcome
from syncl.structures.tensors import TensorStructure
from syncl.trackers.look import Decoded
from syncl.training.assignment import hungarian
from syncl.training.losses import mean_over_processes
from syncl.training.objectives.base import Objective

_IOU_EPS = 1e-6
# Boxes thinner than this many pixels are not looked for.
_THINNEST = 2.0
_NEAREST_M = 0.1


@dataclass(frozen=True)
class ImageTargets(TensorStructure):
    """Objects in images.

    Attributes:
        boxes: [B, C, M, 4] pixels, left, top, right, bottom; inside the image.
        centres: [B, C, M, 2] pixels, projection of the 3D centre, moved into the image.
        labels: [B, C, M] int64.
        valid: [B, C, M] bool; False = padding or not seen by the camera.
    """

    boxes: Tensor
    centres: Tensor
    labels: Tensor
    valid: Tensor


@torch.no_grad()
def project_annotations(features: Features, annotations: Annotations) -> ImageTargets:
    """Axis-aligned boxes around the projected corners, cut to the image, hidden ones left out.

    An object counts in a camera if its centre lies in front of it, its box is at least two pixels wide and
    high, and some pixel of the box is not covered by nearer boxes. As in the original, the farthest box
    counts even where it is covered.
    """
    height, width = features.image_size
    projections = features.image_from_vehicle.float()
    objects = annotations.labels.shape[1]
    corners = box_corners(annotations.boxes).flatten(1, 2)
    pixels, depth = project_points(projections, corners)
    pixels, depth = pixels.unflatten(2, (objects, 8)), depth.unflatten(2, (objects, 8))
    in_front = (depth > _NEAREST_M)[..., None]
    low = torch.where(in_front, pixels, torch.inf).amin(3)
    high = torch.where(in_front, pixels, -torch.inf).amax(3)
    size = pixels.new_tensor([width, height])
    low, high = torch.minimum(low.clamp(min=0), size), torch.minimum(high.clamp(min=0), size)
    centres, centre_depth = project_points(projections, annotations.boxes[..., :3])
    valid = ((high - low) >= _THINNEST).all(-1) & (centre_depth > _NEAREST_M)
    valid = valid & annotations.valid[:, None] & features.camera_valid[..., None]
    boxes = torch.cat([low, high], dim=-1)
    valid = valid & _visible(boxes, centre_depth, valid, (height, width))
    return ImageTargets(
        boxes,
        torch.minimum(centres.clamp(min=0), size),
        annotations.labels[:, None].expand_as(valid),
        valid,
    )


def _visible(boxes: Tensor, depth: Tensor, valid: Tensor, image_size: tuple[int, int]) -> Tensor:
    """Which boxes [B, C, M, 4] keep a pixel when all are painted, the nearest last: [B, C, M] bool."""
    host_boxes, host_depth, host_valid = boxes.cpu().numpy(), depth.cpu().numpy(), valid.cpu().numpy()
    visible = np.zeros_like(host_valid)
    for image in np.ndindex(*host_valid.shape[:2]):
        rows = np.flatnonzero(host_valid[image])
        if len(rows):
            order = rows[np.argsort(-host_depth[image][rows], kind="stable")]
            visible[image][order[uncovered(host_boxes[image][order], image_size)]] = True
    return torch.from_numpy(visible).to(valid.device)


def uncovered(boxes: NDArray[np.float32], image_size: tuple[int, int]) -> NDArray[np.int64]:
    """Indices of the boxes [N, 4] that keep a pixel when painted one after another; the first always does."""
    painted: NDArray[np.int64] = np.zeros(image_size, np.int64)
    corners = np.concatenate([np.ceil(boxes[:, :2]), np.floor(boxes[:, 2:])], axis=1).astype(np.int64)
    for index, (left, top, right, bottom) in enumerate(corners):
        painted[top:bottom, left:right] = index
    seen = np.unique(painted)
    return seen if seen[0] == 0 else np.concatenate([[0], seen])


@dataclass(frozen=True)
class ImageLossConfig:
    """Weights of losses and matching costs (the same numbers for both).

    Attributes:
        classification: quality focal loss; focal cost.
        box: L1 of boxes as fractions of the image.
        giou: generalised IoU of boxes.
        centre: L1 of projected centres as fractions of the image.
        centerness: Gaussian focal loss of the centre heat map.
    """

    classification: float = 2.0
    box: float = 5.0
    giou: float = 2.0
    centre: float = 10.0
    centerness: float = 1.0

    def build(self) -> "ImageObjective":
        """The objective."""
        return ImageObjective(self)


@dataclass(frozen=True)
class ImageObjective(Objective):
    """Trains StreamPETR's auxiliary image head, where the detector has it."""

    config: ImageLossConfig

    def __call__(self, decoded: Decoded, _outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        """See `image_losses`."""
        features = decoded.features
        predictions = features.found(ImagePredictions)
        if predictions is None:
            return {}
        targets = project_annotations(features, annotations)
        return image_losses(predictions, targets, features.image_size, self.config)


def image_losses(
    predictions: ImagePredictions, targets: ImageTargets, image_size: tuple[int, int], config: ImageLossConfig
) -> dict[str, Tensor]:
    """All losses by name, normalised by the number of objects seen in all images, at least one."""
    flat = predictions.map(lambda tensor: tensor.flatten(0, 1).float())
    goal = targets.map(lambda tensor: tensor.flatten(0, 1))
    size = flat.boxes.new_tensor([image_size[1], image_size[0]])
    heat = heat_maps(goal, image_size, predictions.grid_size)
    matched = match_cells(flat, goal, size, config)
    positive = matched >= 0
    count = mean_over_processes(positive.sum().to(flat.boxes.dtype)).clamp(min=1)
    losses = {"image_centerness": config.centerness * _heat_loss(flat.centerness, heat.flatten(1)) / count}
    if targets.labels.shape[2] == 0:
        zero = flat.boxes.sum() * 0 + flat.centres.sum() * 0
        losses["image_class"] = config.classification * _quality_focal(flat.logits, None, None).sum() / count
        return losses | {"image_box": zero, "image_giou": zero, "image_centre": zero}

    index = matched.clamp(min=0)
    boxes = _take(_fractions(goal.boxes, size), index)
    centres = _take(goal.centres / size, index)
    overlap, giou = overlaps(_corners(flat.boxes) * size.repeat(2), _corners(boxes) * size.repeat(2))
    labels = torch.where(positive, goal.labels.gather(1, index), -1)
    quality = torch.where(positive, overlap.detach(), 0)
    classification = _quality_focal(flat.logits, labels, quality)
    losses["image_class"] = config.classification * classification.sum() / count
    losses["image_box"] = config.box * _masked_l1(flat.boxes, boxes, positive) / count
    losses["image_giou"] = config.giou * ((1 - giou) * positive).sum() / count
    losses["image_centre"] = config.centre * _masked_l1(flat.centres, centres, positive) / count
    return losses


@torch.no_grad()
def match_cells(
    predictions: ImagePredictions, targets: ImageTargets, size: Tensor, config: ImageLossConfig
) -> Tensor:
    """Hungarian assignment of cells to objects, image by image: [I, N] int64 object, -1 = none.

    Args:
        predictions: fields [I, N, ...].
        targets: fields [I, M, ...].
        size: [2] image width and height in pixels.
        config: weights.
    """
    images, cells = predictions.centerness.shape
    if targets.labels.shape[1] == 0:
        return torch.full((images, cells), -1, dtype=torch.int64, device=size.device)
    probability = predictions.logits.sigmoid()
    negative = -(1 - probability + 1e-12).log() * 0.75 * probability**2
    positive = -(probability + 1e-12).log() * 0.25 * (1 - probability) ** 2
    labels = targets.labels.clamp(min=0)[:, None].expand(-1, cells, -1)
    cost = config.classification * (positive - negative).gather(2, labels)
    goal = _fractions(targets.boxes, size)
    cost = cost + config.box * torch.cdist(predictions.boxes, goal, p=1)
    _, giou = overlaps(_corners(predictions.boxes)[:, :, None] * size.repeat(2), targets.boxes[:, None])
    cost = cost - config.giou * giou
    cost = cost + config.centre * torch.cdist(predictions.centres, targets.centres / size, p=1)
    cost = torch.nan_to_num(cost, 100.0, 100.0, -100.0)
    everyone = torch.ones(images, cells, dtype=torch.bool, device=size.device)
    return hungarian(cost[None], everyone, targets.valid)[0]


def heat_maps(targets: ImageTargets, image_size: tuple[int, int], grid_size: tuple[int, int]) -> Tensor:
    """Heat maps [I, H, W]: a Gaussian around each projected centre, cut off at its radius, 1 in the middle.

    The radius is the distance from the centre to the nearest side of the box, in cells, at least one.
    """
    rows, columns = grid_size
    stride = image_size[0] / rows
    images, objects = targets.labels.shape
    if objects == 0:
        return targets.boxes.new_zeros(images, rows, columns)
    low, high = targets.boxes.split(2, dim=-1)
    nearest = torch.cat([targets.centres - low, high - targets.centres], dim=-1).amin(-1)
    radius = (nearest / stride).ceil().clamp(min=1)[..., None, None]
    middle = (targets.centres / stride).floor()
    down = torch.arange(rows, device=middle.device)[:, None] - middle[..., 1, None, None]
    across = torch.arange(columns, device=middle.device) - middle[..., 0, None, None]
    spread = 2 * ((2 * radius + 1) / 6) ** 2
    bump = torch.exp(-(down**2 + across**2) / spread)
    inside = (down.abs() <= radius) & (across.abs() <= radius) & targets.valid[..., None, None]
    return torch.where(inside, bump, 0).amax(1)


def overlaps(first: Tensor, second: Tensor) -> tuple[Tensor, Tensor]:
    """IoU and generalised IoU of boxes [..., 4] (left, top, right, bottom), leading dimensions broadcast."""
    area = (first[..., 2:] - first[..., :2]).prod(-1)
    other = (second[..., 2:] - second[..., :2]).prod(-1)
    low, high = torch.maximum(first[..., :2], second[..., :2]), torch.minimum(first[..., 2:], second[..., 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    union = (area + other - shared).clamp(min=_IOU_EPS)
    low, high = torch.minimum(first[..., :2], second[..., :2]), torch.maximum(first[..., 2:], second[..., 2:])
    hull = (high - low).clamp(min=0).prod(-1).clamp(min=_IOU_EPS)
    overlap = shared / union
    return overlap, overlap - (hull - union) / hull


def _quality_focal(logits: Tensor, labels: Tensor | None, quality: Tensor | None) -> Tensor:
    """Quality focal loss (Li et al., 2020), beta 2: the right class' goal is the box's IoU, all others' 0."""
    wanted = torch.zeros_like(logits)
    if labels is not None and quality is not None:
        wanted.scatter_(-1, labels.clamp(min=0)[..., None], torch.where(labels >= 0, quality, 0)[..., None])
    entropy = functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    return entropy * (wanted - logits.sigmoid()) ** 2


def _heat_loss(logits: Tensor, goal: Tensor) -> Tensor:
    """Gaussian focal loss of CornerNet, probabilities kept 1e-4 from 0 and 1."""
    probability = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    at_centre = -probability.log() * (1 - probability) ** 2
    elsewhere = -(1 - probability).log() * probability**2 * (1 - goal) ** 4
    return torch.where(goal == 1, at_centre, elsewhere).sum()


def _masked_l1(found: Tensor, wanted: Tensor, mask: Tensor) -> Tensor:
    return ((found - wanted).abs().sum(-1) * mask).sum()


def _fractions(boxes: Tensor, size: Tensor) -> Tensor:
    """Pixel corners [..., 4] as centre and size in fractions of the image."""
    low, high = (boxes / size.repeat(2)).split(2, dim=-1)
    return torch.cat([(low + high) / 2, high - low], dim=-1)


def _corners(boxes: Tensor) -> Tensor:
    """Centre and size [..., 4] as left, top, right, bottom."""
    centre, extent = boxes.split(2, dim=-1)
    return torch.cat([centre - extent / 2, centre + extent / 2], dim=-1)


def _take(table: Tensor, index: Tensor) -> Tensor:
    """Rows [I, N, X] of a table [I, M, X] at index [I, N]."""
    return table.gather(1, index[..., None].expand(-1, -1, table.shape[-1]))
