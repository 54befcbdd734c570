"""Supervision of lifted depths (BEVDepth, Li et al., AAAI 2023): from lidar where a frame has it, from the
annotated boxes where it has not.

Letters: B streams, C cameras, M objects, Z depth bins, H W cells of the feature map.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from syncl.detectors.bevdepth.view_transform import DepthPrediction, pixel_grid
from syncl.errors import SynclError
from syncl.geometry.precision import full_precision
from syncl.geometry.transforms import invert_affine
from syncl.structures import Annotations, Outcome
from syncl.trackers.look import Decoded
from syncl.training.objectives.base import Objective

# Parts of a direction that are smaller count as this: the ray runs along the box's face.
_PARALLEL = 1e-9


@dataclass(frozen=True)
class DepthLossConfig:
    """Weight of the cross entropy; the default is the published one."""

    weight: float = 100.0

    def build(self) -> "DepthObjective":
        """The objective."""
        return DepthObjective(self)


@dataclass(frozen=True)
class DepthObjective(Objective):
    """Trains the depth net, where the detector has one."""

    config: DepthLossConfig

    def __call__(self, decoded: Decoded, _outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        """See `depth_loss`."""
        found = decoded.features.found(DepthPrediction)
        if found is None:
            return {}
        depths = depths_of_boxes(found, annotations)
        if annotations.depths is not None:
            depths = _measured_first(annotations.depths, depths)
        depths = within_bins(depths, found.depths)
        return {"lifted_depth": self.config.weight * depth_loss(found.logits.float(), depths, found.depths)}


def within_bins(depths: Tensor, bins: Tensor) -> Tensor:
    """Depths [...], 0 where no bin has them: what is farther away is not at the last bin's depth."""
    end = 2 * bins[-1] - bins[-2]
    return torch.where((depths >= bins[0]) & (depths < end), depths, 0.0)


def _measured_first(measured: Tensor, depths: Tensor) -> Tensor:
    """Measured depths [B, C, H, W] in frames that have any; those of boxes in others.

    Raises:
        SynclError: if they are of other cells.
    """
    if measured.shape != depths.shape:
        raise SynclError(
            f"the lidar's depths have {measured.shape[-2]} x {measured.shape[-1]} cells, the lifted level "
            f"{depths.shape[-2]} x {depths.shape[-1]}; set training.data.depth_stride to that level's stride"
        )
    return torch.where((measured > 0).flatten(1).any(1)[:, None, None, None], measured, depths)


def depth_loss(logits: Tensor, depths: Tensor, bins: Tensor) -> Tensor:
    """Cross entropy of logits [..., Z, H, W] with the bins that depths [..., H, W] fall into.

    As published, every bin is asked for by itself (sigmoid, though lifting takes a softmax), and the mean is
    over all entries, also those of cells of whose depth nothing is known (0), which add nothing.
    """
    step = bins[1] - bins[0]
    number = ((depths - bins[0]) / step).floor().clamp(0, len(bins) - 1).long()
    goal = functional.one_hot(number, len(bins)).movedim(-1, -3).to(logits.dtype)
    entropy = functional.binary_cross_entropy_with_logits(logits, goal, reduction="none")
    return (entropy * (depths > 0)[..., None, :, :]).mean()


@torch.no_grad()
def depths_of_boxes(found: DepthPrediction, annotations: Annotations) -> Tensor:
    """Where the ray of every cell first meets an annotated box: [B, C, H, W] metres along the optical axis.

    0 where it meets none. Objects hide each other; what is not annotated hides nothing.
    """
    logits, matrices = found.logits, found.image_from_vehicle
    if annotations.boxes.shape[1] == 0:
        return logits.new_zeros(logits[:, :, 0].shape, dtype=torch.float32)
    size = (logits.shape[-2], logits.shape[-1])
    u, v = pixel_grid(found.image_size, size, matrices, found.pixel_centres)
    shape = (len(v), len(u))
    pixels = torch.stack(
        [u.expand(shape), v[:, None].expand(shape), torch.ones_like(u).expand(shape)], dim=-1
    )
    vehicle_from_image = invert_affine(matrices)
    with full_precision(matrices):
        rays = torch.einsum("bcij,hwj->bchwi", vehicle_from_image[..., :3, :3], pixels).float()
    start = vehicle_from_image[..., :3, 3].float()
    boxes = annotations.boxes[:, None, None, None]
    yaw, half = boxes[..., 6], boxes[..., 3:6] / 2
    origin = _along_boxes(start[:, :, None, None, None] - boxes[..., :3], yaw)
    direction = _along_boxes(rays[..., None, :], yaw)
    direction = torch.where(direction.abs() < _PARALLEL, _PARALLEL, direction)
    one, other = (-half - origin) / direction, (half - origin) / direction
    enters, leaves = torch.minimum(one, other).amax(-1), torch.maximum(one, other).amin(-1)
    hit = (enters < leaves) & (enters > 0) & annotations.valid[:, None, None, None]
    hit = hit & found.camera_valid[:, :, None, None, None]
    nearest = torch.where(hit, enters, torch.inf).amin(-1)
    return torch.where(torch.isfinite(nearest), nearest, 0.0)


def _along_boxes(vectors: Tensor, yaw: Tensor) -> Tensor:
    """Vectors [..., 3] along the axes of boxes that are turned by `yaw` [...]."""
    x, y, z = vectors.unbind(-1)
    cos, sin = yaw.cos(), yaw.sin()
    along = x * cos + y * sin
    return torch.stack([along, y * cos - x * sin, z.expand_as(along)], dim=-1)
