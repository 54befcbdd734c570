"""StreamPETR's auxiliary image head: objects as 2D boxes, in training only (Focal-PETR, Wang et al. 2022).

Letters: B batch, C cameras, N cells in the order row, column, K classes, D channels, H W cells.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from syncl.errors import SynclError
from syncl.layers.numerics import at_full_precision, inverse_sigmoid, prior_bias
from syncl.structures.tensors import TensorStructure

_NORM_GROUPS = 32


@dataclass(frozen=True)
class FocalHeadConfig:
    """The auxiliary image head.

    Attributes:
        level: index of the feature level it looks at.
    """

    level: int = 0


@dataclass(frozen=True)
class ImagePredictions(TensorStructure):
    """What every cell of every camera says of the object it lies on. Places are fractions of the image.

    Attributes:
        logits: [B, C, N, K] class logits.
        centerness: [B, C, N] logits that an object's projected centre is here.
        boxes: [B, C, N, 4] centre x, centre y, width, height.
        centres: [B, C, N, 2] projection of the object's 3D centre.
        grid_size: (H, W).
    """

    logits: Tensor
    centerness: Tensor
    boxes: Tensor
    centres: Tensor
    grid_size: tuple[int, int]


class FocalHead(nn.Module):
    """Two convolution towers and four 1 x 1 heads."""

    def __init__(self, config: FocalHeadConfig, dim: int, classes: int, levels: int) -> None:
        super().__init__()
        if not 0 <= config.level < levels:
            raise SynclError(f"focal_head.level={config.level}: the neck has {levels} levels")
        self.config = config
        self.class_tower = _tower(dim)
        self.box_tower = _tower(dim)
        self.classes = nn.Conv2d(dim, classes, 1)
        self.centerness = nn.Conv2d(dim, 1, 1)
        self.sides = nn.Conv2d(dim, 4, 1)
        self.centre = nn.Conv2d(dim, 2, 1)
        for logits in (self.classes, self.centerness):
            nn.init.constant_(logits.bias, prior_bias(0.01))  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> ImagePredictions:
        """Predictions of a feature level [B, C, D, H, W]."""
        streams, cameras, _, rows, columns = features.shape
        maps = features.flatten(0, 1)
        seen, placed = self.class_tower(maps), self.box_tower(maps)

        def cells(output: Tensor) -> Tensor:
            listed: Tensor = output.flatten(2).transpose(1, 2).unflatten(0, (streams, cameras))
            return listed

        sides = cells(at_full_precision(self.sides, placed)).sigmoid()
        here = cell_centres(rows, columns, sides)
        low = (here - sides[..., :2]).clamp(0, 1)
        high = (here + sides[..., 2:]).clamp(0, 1)
        return ImagePredictions(
            logits=cells(self.classes(seen)),
            centerness=cells(self.centerness(seen))[..., 0],
            boxes=torch.cat([(low + high) / 2, high - low], dim=-1),
            centres=(inverse_sigmoid(here) + cells(at_full_precision(self.centre, placed))).sigmoid(),
            grid_size=(rows, columns),
        )


def cell_centres(rows: int, columns: int, like: Tensor) -> Tensor:
    """Places [N, 2] of cell centres as fractions (x, y) of the image."""
    y = (torch.arange(rows, dtype=like.dtype, device=like.device) + 0.5) / rows
    x = (torch.arange(columns, dtype=like.dtype, device=like.device) + 0.5) / columns
    return torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], dim=-1).flatten(0, 1)


def _tower(dim: int) -> nn.Sequential:
    groups = min(_NORM_GROUPS, dim)
    return nn.Sequential(nn.Conv2d(dim, dim, 3, padding=1), nn.GroupNorm(groups, dim), nn.ReLU())
