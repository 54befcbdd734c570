"""Losses of a centre head's maps (CenterPoint, Yin et al., CVPR 2021), where the detector has one.

Letters: B streams, M objects, T tasks, K classes, Y X cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from syncl.detectors.bevdepth.centre_head import CentreMaps
from syncl.geometry.boxes import encode_boxes
from syncl.structures import Annotations, Outcome
from syncl.structures.tensors import TensorStructure
from syncl.trackers.look import Decoded
from syncl.training.losses import mean_over_processes
from syncl.training.objectives.base import Objective

# Columns of the box code that are averaged together, as published; their losses have these names.
_PARTS = {"place": (0, 2), "height": (2, 3), "size": (3, 6), "heading": (6, 8), "velocity": (8, 10)}
_EPS = 1e-12


@dataclass(frozen=True)
class CentreLossConfig:
    """Weights; the defaults are the published ones.

    Attributes:
        heat: of the heat maps' focal loss.
        box: of the L1 losses.
        code_weights: of each of the ten numbers of the box code in it.
        overlap: a bump is as wide as a centre may be off for the boxes still to overlap by this.
        smallest_radius: of a bump, in cells.
    """

    heat: float = 1.0
    box: float = 0.25
    code_weights: tuple[float, ...] = (1.0,) * 10
    overlap: float = 0.1
    smallest_radius: int = 2

    def build(self) -> "CentreObjective":
        """The objective."""
        return CentreObjective(self)


@dataclass(frozen=True)
class CentreTargets(TensorStructure):
    """What one task's maps should say.

    Attributes:
        heat: [B, K_t, Y, X] a bump around every centre, 1 in its cell.
        cells: [B, M] int64 cell of each object, row by row.
        codes: [B, M, 10] box codes, x and y from the cell's lower corner in cells.
        valid: [B, M] bool objects of this task inside the view.
    """

    heat: Tensor
    cells: Tensor
    codes: Tensor
    valid: Tensor


@dataclass(frozen=True)
class CentreObjective(Objective):
    """Trains the centre head, where the detector has one."""

    config: CentreLossConfig

    def __call__(self, decoded: Decoded, _outcome: Outcome, annotations: Annotations, /) -> dict[str, Tensor]:
        """`centre_heat` and the parts of `centre_box`, each summed over tasks."""
        maps = decoded.features.found(CentreMaps)
        if maps is None:
            return {}
        losses = [
            centre_losses(maps, task, centre_targets(maps, task, annotations, self.config), self.config)
            for task in range(len(maps.labels))
        ]
        return {f"centre_{name}": torch.stack([loss[name] for loss in losses]).sum() for name in losses[0]}


@torch.no_grad()
def centre_targets(
    maps: CentreMaps, task: int, annotations: Annotations, config: CentreLossConfig
) -> CentreTargets:
    """Targets of a task.

    Args:
        maps: of the same streams, for their form.
        task: its number.
        annotations: of the frame.
        config: forms of bumps.
    """
    rows, columns = maps.boxes.shape[-2:]
    boxes, labels = annotations.boxes, maps.labels[task]
    places = (boxes[..., :2] - maps.low) / maps.cell_m
    corner = places.trunc()
    column, row = corner.unbind(-1)
    own = annotations.labels[..., None] == torch.tensor(labels, device=boxes.device)
    valid = annotations.valid & own.any(-1) & (boxes[..., 3:5] > 0).all(-1)
    valid = valid & (column >= 0) & (column < columns) & (row >= 0) & (row < rows)
    radius = (
        bump_radii(boxes[..., 3:5] / maps.cell_m, config.overlap).trunc().clamp(min=config.smallest_radius)
    )
    down = torch.arange(rows, device=boxes.device) - row[..., None]
    across = torch.arange(columns, device=boxes.device) - column[..., None]
    spread = 2 * ((2 * radius + 1) / 6)[..., None, None] ** 2
    near = (down.abs() <= radius[..., None])[..., None] & (across.abs() <= radius[..., None])[..., None, :]
    bumps = torch.exp(-(down[..., None] ** 2 + across[..., None, :] ** 2) / spread) * near
    heat = boxes.new_zeros(len(boxes), len(labels), rows, columns)
    if boxes.shape[1]:
        shown = (own & valid[..., None]).to(bumps.dtype)
        heat = torch.stack([(bumps * shown[..., k, None, None]).amax(1) for k in range(len(labels))], dim=1)
    cells = torch.where(valid, row * columns + column, 0).long()
    codes = torch.cat([places - corner, encode_boxes(boxes)[..., 2:]], dim=-1)
    return CentreTargets(heat, cells, torch.where(valid[..., None], codes, 0), valid)


def bump_radii(sizes: Tensor, overlap: float) -> Tensor:
    """How far [...] corners of boxes of sizes [..., 2] may be off for them still to overlap by `overlap`.

    The least over three cases (both corners moved the same way, box inside, box outside), with CornerNet's
    roots, whose sign and divisor differ from the quadratic formula's, as all who followed have them.
    """
    total, area = sizes.sum(-1), sizes.prod(-1)
    roots = []
    for a, b, c in (
        (1.0, total, area * (1 - overlap) / (1 + overlap)),
        (4.0, 2 * total, (1 - overlap) * area),
        (4 * overlap, -2 * overlap * total, (overlap - 1) * area),
    ):
        roots.append((b + (b**2 - 4 * a * c).clamp(min=0).sqrt()) / 2)
    return torch.stack(roots).amin(0)


def centre_losses(
    maps: CentreMaps, task: int, targets: CentreTargets, config: CentreLossConfig
) -> dict[str, Tensor]:
    """Focal loss of a task's heat, L1 losses of its boxes where objects are, in the mean over objects."""
    losses = {"heat": config.heat * heat_loss(maps.heat[task].float(), targets.heat)}
    flat = maps.boxes[:, task].flatten(2).transpose(1, 2).float()
    found = flat.gather(1, targets.cells[..., None].expand(-1, -1, flat.shape[-1]))
    usable = targets.valid[..., None] & torch.isfinite(targets.codes)
    difference = (found - torch.where(usable, targets.codes, found)).abs()
    distance = (difference * difference.new_tensor(config.code_weights)).sum((0, 1))
    count = mean_over_processes(targets.valid.sum().to(flat.dtype)) + 1e-4
    for name, (start, end) in _PARTS.items():
        losses[name] = config.box * distance[start:end].sum() / count
    return losses


def heat_loss(logits: Tensor, goal: Tensor) -> Tensor:
    """CornerNet's focal loss, in the mean over centres; probabilities are kept 1e-4 from 0 and 1."""
    probability = logits.sigmoid().clamp(1e-4, 1 - 1e-4)
    at_centre = -(probability + _EPS).log() * (1 - probability) ** 2
    elsewhere = -(1 - probability + _EPS).log() * probability**2 * (1 - goal) ** 4
    centres = goal == 1
    count = mean_over_processes(centres.sum().to(logits.dtype)).clamp(min=1)
    return torch.where(centres, at_centre, elsewhere).sum() / count
