"""Which of a frame's boxes go because surer ones are in the same place.

Letters: B streams, Q boxes, K classes, T tasks.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from syncl.detectors.bevdepth.centre_head import Candidates, CentreTask
from syncl.geometry.overlap import bev_iou


class Suppression(nn.Module):
    """Each task's rule: by overlap of boxes scaled by class, or by distance of centres (`CentreTask`)."""

    scales: Tensor
    overlaps: Tensor
    radii: Tensor

    def __init__(self, tasks: Sequence[CentreTask], classes: tuple[str, ...]) -> None:
        super().__init__()
        scale = {
            name: factor
            for task in tasks
            for name, factor in zip(task.classes, task.scales or (1.0,) * len(task.classes))
        }
        self.register_buffer("scales", torch.tensor([scale[name] for name in classes]), persistent=False)
        self.register_buffer("overlaps", torch.tensor([task.overlap for task in tasks]), persistent=False)
        self.register_buffer("radii", torch.tensor([task.radius_m for task in tasks]), persistent=False)

    @torch.no_grad()
    def forward(self, boxes: Tensor, logits: Tensor, candidates: Candidates) -> Tensor:
        """[B, Q] bool: the boxes that stay.

        Args:
            boxes: [B, Q, 9] metres.
            logits: [B, Q] by which one is surer than another; of equal ones the first is.
            candidates: whose boxes they are.
        """
        tasks, valid = candidates.tasks, candidates.valid
        scaled = torch.cat(
            [boxes[..., :3], boxes[..., 3:6] * self.scales[candidates.labels][..., None], boxes[..., 6:]], -1
        )
        distance = torch.cdist(boxes[..., :2], boxes[..., :2])
        reach = scaled[..., 3:5].norm(dim=-1) / 2
        rival = (tasks[:, :, None] == tasks[:, None]) & valid[:, :, None] & valid[:, None]
        rank = logits.argsort(dim=1, descending=True, stable=True).argsort(dim=1)
        rival = rival & (rank[:, None] < rank[:, :, None])
        radius = self.radii[tasks][..., None]
        beats = rival & (radius > 0) & (distance <= radius)
        stream, worse, better = (rival & (distance < reach[:, :, None] + reach[:, None])).nonzero(
            as_tuple=True
        )
        overlap = bev_iou(scaled[stream, worse], scaled[stream, better])
        too_much = overlap > self.overlaps[tasks[stream, worse]]
        beats[stream[too_much], worse[too_much], better[too_much]] = True
        return greedy_survivors(beats) & valid


def greedy_survivors(beats: Tensor) -> Tensor:
    """[B, Q] bool: rows that stay when the surest takes its choice first.

    A row stays unless a surer one that stays beats it. Repeated from all staying, that settles row by row in
    the order of sureness, most of them at once; what it settles on is what the sequential rule gives.

    Args:
        beats: [B, Q, Q] bool, whether the row is beaten by the column; never both ways.
    """
    stay = torch.ones_like(beats[:, :, 0])
    while True:
        settled = ~(beats & stay[:, None]).any(-1)
        if bool((settled == stay).all()):
            return stay
        stay = settled
