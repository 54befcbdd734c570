"""DETR3D as MUTR3D changes it (Zhang et al., CVPR workshops 2022): queries that bring the size of their box.

Four things differ from DETR3D:

- a query has a log size, learned for object queries and its last box's for track queries; every layer adds to
  it, as it does to the reference point;
- centre with size, heading and velocity have branches of their own;
- sine encodings and learned embeddings of pyramid level and camera are added to the image features;
- references that left the range are put back on its border before they are projected.

Letters: B batch, C cameras, Q queries, D channels.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from typing_extensions import override

from syncl.detectors.detr3d.detr3d import Detr3d, Detr3dConfig, Detr3dFeatures
from syncl.detectors.passed import DetectorMemory, Features
from syncl.layers.numerics import LARGEST_LOGIT, at_full_precision, mlp
from syncl.layers.positional import encode_plane
from syncl.structures import Frame, Queries

# Of the range: what metres in float32 may make of a place in it. Object queries farther from where they
# learned to start were put elsewhere, by proposals.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Mutr3dDetr3dConfig(Detr3dConfig):
    """Sizes of MUTR3D's DETR3D; see `Detr3dConfig` for the rest.

    Attributes:
        bottom_centres: whether the weights regress the centre of a box's bottom face, as published ones do;
            boxes are then lifted by half their height when they are reported.
    """

    queries: int = 300
    bottom_centres: bool = False

    def build(self) -> "Mutr3dDetr3d":
        """Build the module."""
        return self.with_aids(Mutr3dDetr3d, self.queries)


class SplitBranch(nn.Module):
    """The box code from three perceptrons: centre and size, heading, velocity."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.place = mlp(dim, dim, dim, 6)
        self.heading = mlp(dim, dim, dim, 2)
        self.velocity = mlp(dim, dim, dim, 2)

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] to [..., 10]; centre and size are updates."""
        return torch.cat([self.place(x), self.heading(x), self.velocity(x)], dim=-1)


class Mutr3dDetr3d(Detr3d):
    """See the module's docstring."""

    def __init__(self, config: Mutr3dDetr3dConfig) -> None:
        super().__init__(config)
        self.bottom_centres = config.bottom_centres
        self.query_sizes = nn.Linear(config.dim, 3)
        self.level_embedding = nn.Parameter(torch.randn(len(self.image_encoder.strides), config.dim))
        self.camera_embedding = nn.Parameter(torch.randn(config.counted_cameras(), config.dim))

    @override
    def box_branch(self) -> nn.Module:
        return SplitBranch(self.dim)

    @override
    def start(self, queries: Queries) -> tuple[Tensor, Tensor, Tensor | None]:
        # The original keeps references as logits, which saturate.
        logits = self.point_range.logits_of(queries.references)
        # Where object queries start is learned as logits. Metres in float32 round it, which at the range's
        # border, where a logit is steep, is 3e-4 of the gradient that it learns by.
        count = queries.object_count
        learned = at_full_precision(self.reference_points, queries.positions[:, :count])
        learned = learned.clamp(-LARGEST_LOGIT, LARGEST_LOGIT)
        rounded = (learned.sigmoid() - logits[:, :count].sigmoid()).abs() < _ROUNDING
        logits = torch.cat([torch.where(rounded, learned, logits[:, :count]), logits[:, count:]], dim=1)
        return self.point_range.metres_at(logits), logits, queries.codes[..., 3:6]

    @override
    def encode(self, frame: Frame, memory: DetectorMemory | None = None) -> Detr3dFeatures:
        """DETR3D's feature levels with the embeddings of place, level and camera added."""
        features = super().encode(frame, memory)
        cameras = self.camera_embedding[:, :, None, None]
        levels = []
        for level, embedding in zip(features.levels, self.level_embedding):
            plane = encode_plane(level.shape[-2], level.shape[-1], self.dim, level)
            levels.append(level + (plane + embedding[:, None, None] + cameras))
        return replace(features, levels=tuple(levels))

    @override
    def initial_queries(self, features: Features) -> Queries:
        """DETR3D's queries with the sizes they start from in their codes."""
        queries = super().initial_queries(features)
        sizes = at_full_precision(self.query_sizes, queries.positions)
        codes = torch.cat([queries.references, sizes, queries.codes[..., 6:]], dim=-1)
        return replace(queries, codes=codes)
