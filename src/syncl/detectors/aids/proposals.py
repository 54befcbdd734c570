"""Image-level proposals: an auxiliary head, and object queries lifted from its best cells.

A training aid of the small recipes (the full-size recipes stay as published). Each cell of one feature level
says how likely the projected centre of an object of each class lies in it, where in the cell, and how far
away. The best cells give the starting points of some object queries, so a small decoder need not find depth
and direction from nothing. In the spirit of CenterNet (Zhou et al., 2019).

Letters: B batch, C cameras, K classes, H W cells of the level, P proposals, D channels.
"""

from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.aids.nearby import NearbyProposals
from syncl.geometry.precision import full_precision
from syncl.layers.numerics import at_full_precision, mlp, prior_bias
from syncl.layers.positional import encode_points
from syncl.structures.tensors import TensorStructure

# Focal length for which predicted depth is metric; other cameras' depths scale with theirs, because what an
# image shows is depth over focal length. In image heights, so it does not depend on resolution.
_REFERENCE_FOCAL = 1.0
# Below every logit. Small enough that logits less the first, and whole numbers less the second, stay apart.
_NO_PEAK, _NO_CAMERA = 1e2, 1e6


@dataclass(frozen=True)
class ProposalConfig:
    """The auxiliary head.

    Attributes:
        count: how many object queries start from proposals.
        level: index of the feature level it looks at.
        max_depth_m: predicted depths are limited to this.
        nearby: whether the decoder also tells every query what proposals lie around it (`aids.nearby`).
        moves: whether it also moves queries towards them before it looks; needs `nearby`.
    """

    count: int = 64
    level: int = 0
    max_depth_m: float = 70.0
    nearby: bool = False
    moves: bool = False


@dataclass(frozen=True)
class Proposals(TensorStructure):
    """Output of the auxiliary head and the proposals taken from it.

    Attributes:
        heat: [B, C, K, H, W] logits that an object's projected centre lies in the cell.
        offsets: [B, C, 2, H, W] (u, v) of the centre relative to the cell centre, in cells.
        log_depths: [B, C, H, W] log of depth in metres.
        stride: pixels a cell.
        references: [B, P, 3] metres, vehicle frame, without gradient, best first.
        scores: [B, P] in 0 to 1, without gradient.
        embeddings: [B, P, D] features of the chosen cells.
    """

    heat: Tensor
    offsets: Tensor
    log_depths: Tensor
    stride: int
    references: Tensor
    scores: Tensor
    embeddings: Tensor


class ProposalHead(nn.Module):
    """Predicts proposals and turns them into query contents."""

    def __init__(self, config: ProposalConfig, dim: int, classes: int, stride: int) -> None:
        super().__init__()
        self.config = config
        self.stride = stride
        self.tower = nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), nn.ReLU())
        self.heat = nn.Conv2d(dim, classes, 1)
        self.offset = nn.Conv2d(dim, 2, 1)
        self.log_depth = nn.Conv2d(dim, 1, 1)
        self.content = nn.Linear(dim, dim)
        self.position = mlp(3 * dim, dim, dim)
        self.position_channels = dim
        self.nearby = NearbyProposals(dim, config.moves) if config.nearby else None
        nn.init.constant_(self.heat.bias, prior_bias(0.01))  # type: ignore[arg-type]
        nn.init.constant_(self.log_depth.bias, 2.7)  # type: ignore[arg-type]  # about 15 m

    def forward(
        self,
        features: Tensor,
        vehicle_from_image: Tensor,
        image_from_camera: Tensor,
        camera_valid: Tensor,
        image_height: int,
    ) -> Proposals:
        """Proposals of one feature level.

        Args:
            features: [B, C, D, H, W].
            vehicle_from_image: [B, C, 4, 4].
            image_from_camera: [B, C, 3, 3] float64 intrinsics.
            camera_valid: [B, C] bool.
            image_height: pixels.
        """
        streams, cameras = features.shape[:2]
        flat = features.flatten(0, 1)
        heat, offsets, log_depths = self._maps(self.tower(flat))
        focal = image_from_camera[..., 1, 1].to(offsets.dtype) / (image_height * _REFERENCE_FOCAL)
        log_depths = log_depths[:, 0] + focal.flatten().log()[:, None, None]

        shape = (streams, cameras)
        heat, offsets, log_depths = (x.unflatten(0, shape) for x in (heat, offsets, log_depths))
        with torch.no_grad():
            references, scores, cells = self._best(
                heat, offsets, log_depths, vehicle_from_image, camera_valid
            )
        tokens = features.permute(0, 1, 3, 4, 2).flatten(1, 3)
        chosen = tokens.gather(1, cells[..., None].expand(-1, -1, tokens.shape[-1]))
        return Proposals(heat, offsets, log_depths, self.stride, references, scores, self.content(chosen))

    def _maps(self, tower: Tensor) -> tuple[Tensor, ...]:
        """Heat, offsets and log depths of the tower's output.

        In training one convolution serves all three, a third of the time with its backward pass. Its last
        bits differ from those of three, by which trained models have been used.
        """
        heads = (self.heat, self.offset, self.log_depth)
        if not torch.is_grad_enabled():
            return tuple(at_full_precision(head, tower) for head in heads)
        weight = torch.cat([head.weight for head in heads])
        bias = torch.cat([cast(Tensor, head.bias) for head in heads])
        with full_precision(tower):
            maps = functional.conv2d(tower.to(weight.dtype), weight, bias)
        parts: tuple[Tensor, ...] = maps.split([head.out_channels for head in heads], dim=1)
        return parts

    def positions(self, unit_references: Tensor) -> Tensor:
        """Positional part [B, P, D] for proposals at unit coordinates [B, P, 3]."""
        out: Tensor = self.position(encode_points(unit_references, self.position_channels))
        return out

    def _best(
        self,
        heat: Tensor,
        offsets: Tensor,
        log_depths: Tensor,
        vehicle_from_image: Tensor,
        camera_valid: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        score = heat.amax(2)
        # A cell counts only where it is the best of its 3 x 3 neighbourhood, and its camera looks. Where
        # too few do, each runtime would take what it likes of equal ones, so the others keep an order.
        peak = functional.max_pool2d(score.flatten(0, 1), 3, stride=1, padding=1).view_as(score)
        score = torch.where(score == peak, score, score - _NO_PEAK)
        unseen = -_NO_CAMERA - torch.arange(score[0].numel(), device=score.device, dtype=score.dtype)
        score = torch.where(camera_valid[..., None, None], score, unseen.view_as(score[0]))
        count = min(self.config.count, score[0].numel())
        best, cells = score.flatten(1).topk(count, dim=1)

        height, width = score.shape[-2:]
        rows = torch.arange(height, device=score.device, dtype=offsets.dtype)
        columns = torch.arange(width, device=score.device, dtype=offsets.dtype)
        u = ((columns[None, :] + 0.5 + offsets[:, :, 0]) * self.stride).flatten(1).gather(1, cells)
        v = ((rows[:, None] + 0.5 + offsets[:, :, 1]) * self.stride).flatten(1).gather(1, cells)
        depth = log_depths.exp().clamp(max=self.config.max_depth_m).flatten(1).gather(1, cells)
        camera = cells // (height * width)
        matrix = vehicle_from_image.to(u.dtype).gather(1, camera[..., None, None].expand(-1, -1, 4, 4))
        pixel = torch.stack([u * depth, v * depth, depth, torch.ones_like(depth)], dim=-1)
        with full_precision(pixel):
            points = matrix @ pixel[..., None]
        return points[..., :3, 0], best.sigmoid(), cells
