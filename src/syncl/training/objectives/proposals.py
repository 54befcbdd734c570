"""Losses of the auxiliary image head (`detectors.aids.proposals`).

Letters: B streams, C cameras, M objects, K classes, H W cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from syncl.detectors import Features
from syncl.detectors.aids.proposals import Proposals
from syncl.geometry.boxes import box_corners
from syncl.geometry.projection import project_points
from syncl.structures import Annotations, Outcome
from syncl.trackers.look import Decoded
from syncl.training.losses import mean_over_processes
from syncl.training.objectives.base import Objective

_NEAREST_M = 0.5


@dataclass(frozen=True)
class ProposalLossConfig:
    """Weights: heat map (focal), sub-cell offset (L1), log depth (L1)."""

    heat: float = 1.0
    offset: float = 0.5
    depth: float = 1.0

    def build(self) -> "ProposalObjective":
        """The objective."""
        return ProposalObjective(self)


@dataclass(frozen=True)
class ProposalObjective(Objective):
    """Trains the proposal head, where the detector has one."""

    config: ProposalLossConfig

    def __call__(self, decoded: Decoded, _outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        """See `proposal_losses`."""
        proposals = decoded.features.found(Proposals)
        if proposals is None:
            return {}
        return proposal_losses(proposals, decoded.features, annotations, self.config)


def proposal_losses(
    proposals: Proposals, features: Features, annotations: Annotations, config: ProposalLossConfig
) -> dict[str, Tensor]:
    """Penalty-reduced focal loss of the heat maps, L1 of offset and log depth at the centres' cells."""
    heat = proposals.heat.float()
    height, width = heat.shape[-2:]
    centres, depth = project_points(features.image_from_vehicle.float(), annotations.boxes[..., :3])
    cells = centres / proposals.stride
    inside = (cells >= 0).all(-1) & (cells[..., 0] < width) & (cells[..., 1] < height)
    inside = inside & (depth > _NEAREST_M) & annotations.valid[:, None] & features.camera_valid[..., None]
    count = mean_over_processes(inside.sum().to(heat.dtype)).clamp(min=1)
    if annotations.labels.shape[1] == 0:
        zero = heat.sum() * 0 + proposals.offsets.sum() * 0 + proposals.log_depths.sum() * 0
        return {"heat": zero + _heat_loss(heat, torch.zeros_like(heat), count), "offset": zero, "depth": zero}

    goal = _heat_maps(cells, inside, _radii(features, annotations, proposals.stride), annotations, heat.shape)
    losses = {"heat": config.heat * _heat_loss(heat, goal, count)}

    column = cells[..., 0].clamp(0, width - 1).long()
    row = cells[..., 1].clamp(0, height - 1).long()
    cell = row * width + column
    offsets = proposals.offsets.flatten(3).gather(3, cell[:, :, None].expand(-1, -1, 2, -1))
    wanted = torch.stack([cells[..., 0] - column - 0.5, cells[..., 1] - row - 0.5], dim=2)
    error = (offsets - wanted).abs().sum(2) * inside
    losses["offset"] = config.offset * torch.nan_to_num(error).sum() / count
    log_depths = proposals.log_depths.flatten(2).gather(2, cell)
    error = (log_depths - depth.clamp(min=_NEAREST_M).log()).abs() * inside
    losses["depth"] = config.depth * error.sum() / count
    return losses


def _radii(features: Features, annotations: Annotations, stride: int) -> Tensor:
    """Standard deviation [B, C, M] in cells of each object's bump: a sixth of its smaller image extent."""
    objects = annotations.labels.shape[1]
    corners = box_corners(annotations.boxes).flatten(1, 2)
    pixels, _ = project_points(features.image_from_vehicle.float(), corners)
    pixels = pixels.unflatten(2, (objects, 8))
    extent = (pixels.amax(3) - pixels.amin(3)).amin(-1) / stride
    radii: Tensor = (extent / 6).clamp(0.4, 2.0)
    return radii


def _heat_maps(
    cells: Tensor, inside: Tensor, radii: Tensor, annotations: Annotations, shape: torch.Size
) -> Tensor:
    """Goal heat maps [B, C, K, H, W]: a Gaussian around every centre, 1 in the centre's own cell."""
    height, width = shape[-2:]
    rows = torch.arange(height, device=cells.device)
    columns = torch.arange(width, device=cells.device)
    # An object is in one camera or two, so most pairs need no bump.
    stream, camera, object_ = inside.nonzero(as_tuple=True)
    centres = cells[stream, camera, object_].floor()
    across = (columns - centres[:, :1]) ** 2
    down = (rows - centres[:, 1:]) ** 2
    spread = 2 * radii[stream, camera, object_][:, None, None] ** 2
    bumps = torch.exp(-(down[:, :, None] + across[:, None, :]) / spread)
    goal = cells.new_zeros(shape).flatten(0, 2)
    maps = (stream * shape[1] + camera) * shape[2] + annotations.labels.clamp(min=0)[stream, object_]
    reduced: Tensor = goal.scatter_reduce(0, maps[:, None, None].expand_as(bumps), bumps, "amax")
    return reduced.view(shape)


def _heat_loss(logits: Tensor, goal: Tensor, count: Tensor) -> Tensor:
    """CenterNet's penalty-reduced focal loss.

    Cells are many, so each is looked at once: -log(1 - p) p^2 (1 - goal)^4, and where the goal is a centre
    the same of -logit, unreduced.
    """
    positive = goal >= 0.999
    wrong = torch.where(positive, -logits, logits)
    weight = (1 - goal).square().square().masked_fill(positive, 1.0)
    return (functional.softplus(wrong) * wrong.sigmoid().square() * weight).sum() / count
