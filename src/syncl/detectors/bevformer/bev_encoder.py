"""From image features to a bird's-eye view: BEVFormer's encoder (Li et al., ECCV 2022, section 3).

Every cell of a grid around the vehicle is a query. In each layer it looks at the last view, moved with the
vehicle (temporal self-attention), and at the images where points above it are seen (spatial cross-attention).
Published weights rely on some oddities, which are kept:

- what temporal self-attention takes for the present view are the queries before the first layer, always;
- it attends both views apart and takes the mean;
- all points above a cell are looked up in a camera that sees one of them.

Letters: B streams, C cameras, N cells (row by row), S image tokens of a camera, D channels, Z heights.
"""

from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from syncl.detectors.reference_range import PointRange
from syncl.errors import SynclError
from syncl.geometry.projection import MIN_DEPTH_M, project_points
from syncl.layers.decoder import FeedForward
from syncl.layers.deformable_attention import DeformableAttention, Shapes
from syncl.layers.numerics import at_full_precision
from syncl.layers.recomputing import recomputed

# The published weights have embeddings of so many levels, however many they use.
LEVEL_EMBEDDINGS = 4
_VIEWS, _VIEW_POINTS = 2, 4
# Where no image is, however far from there a query looks, in units of the image.
_NOWHERE = -100.0


@dataclass(frozen=True)
class BevEncoderConfig:
    """The grid and its encoder. The defaults are BEVFormer base's.

    Attributes:
        shape: (rows, columns) of the grid over the point range; columns count along x.
        layers: encoder layers.
        heights: points above each cell that are looked for in the images.
        points: what a head looks at around them on each feature level; a multiple of `heights`.
        rotation_centre: (x, y) in cells about which the last view is turned; None = the grid's middle. The
            published small and tiny weights were trained with (100, 100), which is not the middle of theirs.
        checkpointing: recompute every layer in the backward pass: less memory, about a third more time.
    """

    shape: tuple[int, int] = (200, 200)
    layers: int = 6
    heights: int = 4
    points: int = 8
    rotation_centre: tuple[float, float] | None = None
    checkpointing: bool = False

    def __post_init__(self) -> None:
        if min(self.shape) < 1 or self.heights < 1 or self.points < 1 or self.points % self.heights:
            raise SynclError(
                f"bev: shape={self.shape} must be positive, points={self.points} a multiple of "
                f"heights={self.heights}"
            )


class View(NamedTuple):
    """Cells that one camera of one stream sees.

    Attributes:
        stream: its number.
        camera: its number.
        cells: [V] their numbers; None = all N of them, those that it does not see looking far beside it.
        references: [V, Z, 2] (x, y) of the points above them in units of the image, wild where not seen.
    """

    stream: int
    camera: int
    cells: Tensor | None
    references: Tensor


class Sight(NamedTuple):
    """Which cameras see which cells.

    Attributes:
        views: of all cameras of all streams.
        cameras: [B, N] how many cameras see a cell.
    """

    views: tuple[View, ...]
    cameras: Tensor


class History(NamedTuple):
    """What temporal self-attention looks at.

    Attributes:
        previous: [B, N, D] the last view, turned into the present axes.
        current: [B, N, D] the queries before the first layer.
        known: [B, 1, 1] bool; where there is no last view, a layer's own queries take the place of both.
        references: [B, N, 2, 2] (x, y) in units of the grid of each cell in the last view and in the present.
    """

    previous: Tensor
    current: Tensor
    known: Tensor
    references: Tensor


class TemporalSelfAttention(nn.Module):
    """Deformable attention of cells to the last view and the present one (section 3.4)."""

    def __init__(self, dim: int, heads: int, shape: tuple[int, int]) -> None:
        super().__init__()
        self.shapes: Shapes = (shape,) * _VIEWS
        self.attention = DeformableAttention(dim, heads, _VIEWS, _VIEW_POINTS, query_dim=2 * dim)

    def forward(self, x: Tensor, positions: Tensor, history: History) -> Tensor:
        """The update [B, N, D] to add to cells [B, N, D] with positional parts [N, D]."""
        attention = self.attention
        previous = torch.where(history.known, history.previous, x)
        current = torch.where(history.known, history.current, x)
        queries = torch.cat([previous, x + positions], dim=-1)
        values = attention.values(torch.cat([previous, current], dim=1))
        references = history.references[:, :, None, :, None]
        locations = references + attention.offsets(queries, self.shapes)
        weights = attention.logits(queries).softmax(-1) / _VIEWS
        out: Tensor = attention.output_projection(attention.attend(values, self.shapes, locations, weights))
        return out


class SpatialCrossAttention(nn.Module):
    """Deformable attention of cells to the images that see them (section 3.3), a camera at a time.

    Cells that no camera sees get the output projection's bias.
    """

    def __init__(self, dim: int, heads: int, levels: int, points: int) -> None:
        super().__init__()
        self.attention = DeformableAttention(dim, heads, levels, points)

    def forward(self, x: Tensor, tokens: Tensor, shapes: Shapes, sight: Sight) -> Tensor:
        """The update [B, N, D] to add to cells [B, N, D].

        Args:
            x: cells.
            tokens: [B, C, S, D] of the images, level behind level.
            shapes: (height, width) of each level.
            sight: who sees what.
        """
        attention = self.attention
        offsets, logits = attention.offsets(x, shapes), attention.logits(x)
        weights = logits.flatten(3).softmax(-1).view_as(logits)
        sums = [torch.zeros_like(cells, dtype=offsets.dtype) for cells in x]
        for stream, camera, cells, references in sight.views:
            values = attention.values(tokens[stream, camera][None])
            repeated = references.repeat(1, attention.points // references.shape[1], 1)
            rows = slice(None) if cells is None else cells
            locations = offsets[stream, rows] + repeated[:, None, None]
            attended = attention.attend(values, shapes, locations[None], weights[stream, rows][None])[0]
            if cells is None:
                sums[stream] = sums[stream] + attended
            else:
                sums[stream].index_add_(0, cells, attended)
        seen = torch.stack(sums) / sight.cameras.clamp(min=1)[..., None]
        out: Tensor = attention.output_projection(seen)
        return out


class BevEncoderLayer(nn.Module):
    """Temporal self-attention, spatial cross-attention, feed-forward, each followed by addition and norm."""

    def __init__(
        self, config: BevEncoderConfig, dim: int, heads: int, hidden: int, dropout: float, levels: int
    ) -> None:
        super().__init__()
        self.temporal_attention = TemporalSelfAttention(dim, heads, config.shape)
        self.spatial_attention = SpatialCrossAttention(dim, heads, levels, config.points)
        self.feed_forward = FeedForward(dim, hidden, dropout)
        self.temporal_norm = nn.LayerNorm(dim)
        self.spatial_norm = nn.LayerNorm(dim)
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        positions: Tensor,
        history: History,
        tokens: Tensor,
        shapes: Shapes,
        sight: Sight,
    ) -> Tensor:
        """Cells [B, N, D] after the layer; see its parts for the arguments."""
        x = self.temporal_norm(x + self.dropout(self.temporal_attention(x, positions, history)))
        x = self.spatial_norm(x + self.dropout(self.spatial_attention(x, tokens, shapes, sight)))
        out: Tensor = self.feed_forward_norm(x + self.feed_forward(x))
        return out


class BevEncoder(nn.Module):
    """See the module's docstring.

    Args:
        config: grid and layers.
        dim: D.
        heads: attention heads.
        hidden: hidden channels of the feed-forward networks.
        dropout: in attention and feed-forward.
        levels: feature levels of the images.
        cameras: C.
        numbers: how many numbers it is told of the vehicle's motion.
        point_range: what the grid and the points above it span, metres.
    """

    references: Tensor
    pillars: Tensor

    def __init__(
        self,
        config: BevEncoderConfig,
        *,
        dim: int,
        heads: int,
        hidden: int,
        dropout: float,
        levels: int,
        cameras: int,
        numbers: int,
        point_range: PointRange,
    ) -> None:
        super().__init__()
        self.config = config
        rows, columns = config.shape
        self.bev_embedding = nn.Embedding(rows * columns, dim)
        self.row_embedding = nn.Embedding(rows, dim // 2)
        self.column_embedding = nn.Embedding(columns, dim // 2)
        self.camera_embedding = nn.Parameter(torch.randn(cameras, dim))
        self.level_embedding = nn.Parameter(torch.randn(max(levels, LEVEL_EMBEDDINGS), dim))
        self.motion_encoder = nn.Sequential(
            nn.Linear(numbers, dim // 2), nn.ReLU(), nn.Linear(dim // 2, dim), nn.ReLU(), nn.LayerNorm(dim)
        )
        self.layers = nn.ModuleList(
            BevEncoderLayer(config, dim, heads, hidden, dropout, levels) for _ in range(config.layers)
        )
        for embedding in (self.row_embedding, self.column_embedding):
            nn.init.uniform_(embedding.weight)
        references, pillars = _grid(config, point_range)
        self.register_buffer("references", references, persistent=False)
        self.register_buffer("pillars", pillars, persistent=False)

    def forward(
        self,
        levels: tuple[Tensor, ...],
        sight: Sight,
        numbers: Tensor,
        previous: Tensor,
        known: Tensor,
        shift: Tensor,
    ) -> Tensor:
        """The view [B, N, D] of a frame.

        Args:
            levels: image features [B, C, D, H_l, W_l].
            sight: from `look_up`.
            numbers: [B, 18] float64 what is told of the vehicle's motion.
            previous: [B, N, D] the last view, turned into the present axes.
            known: [B] bool whether there is one.
            shift: [B, 2] (x, y) how far the vehicle went since, in units of the grid.
        """
        tokens, shapes = self.tokens(levels)
        told = at_full_precision(self.motion_encoder, numbers.to(self.bev_embedding.weight.dtype))
        x = self.bev_embedding.weight + told[:, None]
        positions = self.positions()
        moved = torch.stack([shift, torch.zeros_like(shift)], dim=1).to(self.references.dtype)
        references = self.references[:, None] + moved[:, None]
        history = History(previous, x, known[:, None, None], references)
        for layer in self.layers:
            look = partial(
                layer, positions=positions, history=history, tokens=tokens, shapes=shapes, sight=sight
            )
            x = recomputed(look, x) if self.config.checkpointing and self.training else look(x)
        return x

    def tokens(self, levels: tuple[Tensor, ...]) -> tuple[Tensor, Shapes]:
        """Levels [B, C, D, H_l, W_l] as tokens [B, C, S, D] that know camera and level, and their shapes."""
        cameras = self.camera_embedding[:, None]
        tokens = [
            level.flatten(3).transpose(2, 3) + (cameras + embedding)
            for level, embedding in zip(levels, self.level_embedding)
        ]
        return torch.cat(tokens, dim=2), tuple((level.shape[-2], level.shape[-1]) for level in levels)

    def positions(self) -> Tensor:
        """[N, D] learned positional parts of the cells: of the column, then of the row."""
        rows, columns = self.config.shape
        column = self.column_embedding.weight.expand(rows, -1, -1)
        row = self.row_embedding.weight[:, None].expand(-1, columns, -1)
        return torch.cat([column, row], dim=-1).flatten(0, 1)

    def look_up(
        self,
        image_from_vehicle: Tensor,
        camera_valid: Tensor,
        image_size: tuple[int, int],
        fixed_shapes: bool = False,
    ) -> Sight:
        """Which cameras see which cells, once a frame.

        Args:
            image_from_vehicle: [B, C, 4, 4]; used in float32, as the original does.
            camera_valid: [B, C] bool; the others see nothing.
            image_size: (H, W) of the images, padding included.
            fixed_shapes: let every camera look at all cells, so that no shape depends on what it sees.
        """
        streams, cameras = camera_valid.shape
        projections = image_from_vehicle.to(self.pillars.dtype)
        pixels, depth = project_points(projections, self.pillars.flatten(0, 1)[None])
        height, width = image_size
        units = torch.stack([pixels[..., 0] / width, pixels[..., 1] / height], dim=-1)
        hit = (depth > MIN_DEPTH_M) & (units > 0).all(-1) & (units < 1).all(-1) & camera_valid[..., None]
        units = units.unflatten(2, self.pillars.shape[:2])
        seen = hit.unflatten(2, self.pillars.shape[:2]).any(-1)
        if fixed_shapes:
            units = torch.where(seen[..., None, None], units, _NOWHERE)
        views = []
        for stream in range(streams):
            for camera in range(cameras):
                if fixed_shapes:
                    views.append(View(stream, camera, None, units[stream, camera]))
                    continue
                if seen.is_meta:  # Cost is being counted without values.
                    cells = torch.arange(seen.shape[2], device=seen.device)
                else:
                    cells = seen[stream, camera].nonzero()[:, 0]
                views.append(View(stream, camera, cells, units[stream, camera, cells]))
        return Sight(tuple(views), seen.sum(1))


def _grid(config: BevEncoderConfig, point_range: PointRange) -> tuple[Tensor, Tensor]:
    """Middles of the cells [N, 2] in units of the grid, and the points above them [N, Z, 3] in metres."""
    rows, columns = config.shape
    low, high = torch.tensor(point_range[:3]), torch.tensor(point_range[3:])
    y, x = ((torch.arange(count) + 0.5) / count for count in (rows, columns))
    cells = torch.stack([x.expand(rows, -1), y[:, None].expand(-1, columns)], dim=-1).flatten(0, 1)
    # From half a metre above the bottom of the range to half a metre below its top.
    margin = 0.5 / (point_range[5] - point_range[2])
    heights = torch.linspace(margin, 1 - margin, config.heights)
    above = torch.cat(
        [cells[:, None].expand(-1, len(heights), -1), heights.expand(len(cells), -1)[..., None]], dim=-1
    )
    return cells, above * (high - low) + low
