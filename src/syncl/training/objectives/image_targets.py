"""2D ground truth in every camera, from 3D annotations.

Letters: B streams, C cameras, M objects.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from syncl.detectors.base import Features
from syncl.geometry.boxes import box_corners
from syncl.geometry.projection import project_points
from syncl.structures import Annotations
from syncl.structures.tensors import TensorStructure

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
