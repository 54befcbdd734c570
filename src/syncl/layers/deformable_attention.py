"""Multi-scale deformable attention (Zhu et al., ICLR 2021) in plain PyTorch.

A query attends a few points of each feature level instead of all cells. Two forms give the same: rows looked
up in a table, which never forms the samples and is several times as fast on CPUs, and `grid_sample`, which
has gradients. On a GPU mmcv's compiled operator takes the place of both where it can be imported.

Letters: B batch, S cells of all levels, Q queries, H heads, L levels, P points, K = L P, D channels a head.
"""

import importlib
from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.layers.numerics import at_full_precision

Shapes = tuple[tuple[int, int], ...]

# Points whose numbers fit the processor's cache.
_AT_A_TIME = 1 << 16
# How many images mmcv's operator takes in one go; any number that divides them.
_IMAGES_AT_A_TIME = 1


def deformable_attention(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """Weighted sums of bilinear samples; location `l` lies at pixel `l size - 0.5`, beyond the border is 0.

    Positions and sums are float32, whatever the values.

    Args:
        values: [B, S, H, D], the levels one behind the other, each row by row.
        shapes: (height, width) of each level.
        locations: [B, Q, H, L, P, 2] (x, y) in units of each level's width and height.
        weights: [B, Q, H, L, P].

    Returns:
        [B, Q, H D], head behind head.
    """
    values, locations, weights = values.float(), locations.float(), weights.float()
    fused = _fused_kernel() if values.is_cuda else None
    if fused is not None:
        areas = torch.tensor(shapes, device=values.device)
        starts = areas.prod(1).cumsum(0) - areas.prod(1)
        return fused(values.contiguous(), areas, starts, locations, weights, _IMAGES_AT_A_TIME)
    trained = torch.is_grad_enabled() and any(part.requires_grad for part in (values, locations, weights))
    if values.device.type == "cpu" and not trained and min(map(min, shapes)) > 1:
        return attend_rows(values, shapes, locations, weights)
    return attend_grids(values, shapes, locations, weights)


def attend_rows(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """`deformable_attention` as look-ups in a table of rows [S H, D]: four a point, a bag a query and head.

    Without gradients, on CPUs, for levels of at least 2 x 2 cells. Some queries are taken at a time, because
    what is computed of a point is little and the numbers stay in the processor's cache.
    """
    streams, cells, heads, channels = values.shape
    queries, points = weights.shape[1], weights.shape[3:].numel()
    places, counted = locations.flatten(3, 4), weights.flatten(3)
    tables, lattice = values.reshape(streams, cells * heads, channels), _Lattice.of(shapes, heads, points)
    output = values.new_empty(streams, queries, heads, channels)
    step = max(1, _AT_A_TIME // (heads * points))
    for stream in range(streams):
        for start in range(0, queries, step):
            part = slice(start, start + step)
            rows, shares = lattice.taps(places[stream, part], counted[stream, part])
            bags = functional.embedding_bag(
                rows.view(-1, 4 * points),
                tables[stream],
                mode="sum",
                per_sample_weights=shares.view(-1, 4 * points),
            )
            output[stream, part] = bags.view(-1, heads, channels)
    return output.flatten(2)


class _Lattice(NamedTuple):
    """The cells of all levels, as a number for each of a head's K points.

    Attributes:
        sizes: two of [K] float32, width and height.
        last: two of [K] float32, the last column and row that have a neighbour behind them.
        strides: two of [K] int32, from a cell's row in the table to its neighbour's, in x and in y.
        firsts: [H, K] int32 row of the level's first cell.
    """

    sizes: tuple[Tensor, Tensor]
    last: tuple[Tensor, Tensor]
    strides: tuple[Tensor, Tensor]
    firsts: Tensor

    @classmethod
    def of(cls, shapes: Shapes, heads: int, points: int) -> "_Lattice":
        heights, widths = torch.tensor(shapes).repeat_interleave(points // len(shapes), dim=0).unbind(1)
        areas = torch.tensor([0, *(height * width for height, width in shapes[:-1])])
        firsts = areas.cumsum(0).repeat_interleave(points // len(shapes)) * heads
        return cls(
            (widths.float(), heights.float()),
            ((widths - 2).float(), (heights - 2).float()),
            (torch.full_like(widths, heads).int(), (widths * heads).int()),
            (torch.arange(heads)[:, None] + firsts).int(),
        )

    def taps(self, places: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
        """Rows and shares [Q, H, 4, K] for locations [Q, H, K, 2] that count as much as weights [Q, H, K].

        A cell's share falls off linearly with the distance from it, to nothing one cell away. So places
        beyond the border, of which the two cells nearest to them are looked up, need no mask.
        """
        corners, near, far = [], [], []
        for axis, (size, last) in enumerate(zip(self.sizes, self.last)):
            place = (places[..., axis] * size).sub_(0.5)
            corner = place.floor().clamp_(min=0)
            corner = torch.minimum(corner, last, out=corner)
            beyond = place.sub_(corner)
            corners.append(corner.int())
            far.append(torch.minimum(beyond, 2 - beyond).clamp_(min=0))
            near.append(beyond.abs_().neg_().add_(1).clamp_(min=0))
        step_x, step_y = self.strides
        rows = torch.empty(*weights.shape[:2], 4, weights.shape[2], dtype=torch.int32)
        shares = torch.empty(rows.shape)
        torch.add(corners[1].mul_(step_y).add_(self.firsts), corners[0].mul_(step_x), out=rows[:, :, 0])
        torch.add(rows[:, :, 0], step_x, out=rows[:, :, 1])
        torch.add(rows[:, :, 0], step_y, out=rows[:, :, 2])
        torch.add(rows[:, :, 2], step_x, out=rows[:, :, 3])
        upper, lower = near[1].mul_(weights), far[1].mul_(weights)
        torch.mul(upper, near[0], out=shares[:, :, 0])
        torch.mul(upper, far[0], out=shares[:, :, 1])
        torch.mul(lower, near[0], out=shares[:, :, 2])
        torch.mul(lower, far[0], out=shares[:, :, 3])
        return rows, shares


def attend_grids(values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
    """`deformable_attention` by `grid_sample`, a level at a time; samples [B H, D, Q, P] are formed."""
    streams, _, heads, channels = values.shape
    total = values.new_zeros(streams * heads, channels, weights.shape[1])
    levels = values.split([height * width for height, width in shapes], dim=1)
    for number, (level, (height, width)) in enumerate(zip(levels, shapes)):
        maps = level.permute(0, 2, 3, 1).reshape(streams * heads, channels, height, width)
        grid = (2 * locations[:, :, :, number] - 1).transpose(1, 2).flatten(0, 1)
        samples = functional.grid_sample(maps, grid, padding_mode="zeros", align_corners=False)
        total = total + (samples * weights[:, :, :, number].transpose(1, 2).flatten(0, 1)[:, None]).sum(-1)
    return total.view(streams, heads * channels, -1).transpose(1, 2)


@cache
def _fused_kernel() -> Callable[..., Tensor] | None:
    """mmcv's operator if it imports with its compiled part, else None."""
    try:
        module = importlib.import_module("mmcv.ops.multi_scale_deform_attn")
        kernel: Callable[..., Tensor] = module.MultiScaleDeformableAttnFunction.apply
    except (ImportError, RuntimeError, AttributeError):
        # An mmcv made for another torch fails in any of these ways. The plain forms give the same numbers.
        return None
    return kernel


class DeformableAttention(nn.Module):
    """What the deformable attentions of a network share: where queries look, how much it counts, and values.

    Attributes:
        fixed_shapes: attend by `grid_sample` alone, which exports to every format.

    Args:
        dim: channels of values and output.
        heads: H.
        levels: L feature levels, or other groups of points with a map of their own.
        points: P points a head and level.
        query_dim: channels of queries; None = `dim`.
    """

    fixed_shapes: bool = False

    def __init__(self, dim: int, heads: int, levels: int, points: int, query_dim: int | None = None) -> None:
        super().__init__()
        self.heads, self.levels, self.points = heads, levels, points
        query_dim = dim if query_dim is None else query_dim
        self.sampling_offsets = nn.Linear(query_dim, 2 * heads * levels * points)
        self.attention_weights = nn.Linear(query_dim, heads * levels * points)
        self.value_projection = nn.Linear(dim, dim)
        self.output_projection = nn.Linear(dim, dim)
        self._initialise()

    def _initialise(self) -> None:
        # Every head starts with a direction of its own and its points one cell after the other.
        angles = torch.arange(self.heads) * (2 * torch.pi / self.heads)
        directions = torch.stack([angles.cos(), angles.sin()], dim=-1)
        directions = directions / directions.abs().amax(-1, keepdim=True)
        steps = torch.arange(1.0, self.points + 1)[:, None]
        start = (directions[:, None, None] * steps).expand(-1, self.levels, -1, -1)
        for linear in (self.sampling_offsets, self.attention_weights):
            nn.init.zeros_(linear.weight)
            nn.init.zeros_(linear.bias)
        with torch.no_grad():
            self.sampling_offsets.bias.copy_(start.flatten())
        for linear in (self.value_projection, self.output_projection):
            nn.init.xavier_uniform_(linear.weight)
            nn.init.zeros_(linear.bias)

    def values(self, features: Tensor) -> Tensor:
        """Features [B, S, D H] as heads see them: [B, S, H, D]."""
        projected: Tensor = self.value_projection(features)
        split: Tensor = projected.unflatten(-1, (self.heads, -1))
        return split

    def offsets(self, queries: Tensor, shapes: Shapes) -> Tensor:
        """[B, Q, H, L, P, 2] how far from their references queries look, in units of each level's size."""
        cells: Tensor = at_full_precision(self.sampling_offsets, queries)
        # Filled on the device: a list would be copied to it, and waited for.
        sizes = torch.stack([cells.new_full((), size) for shape in shapes for size in reversed(shape)])
        split = cells.unflatten(-1, (self.heads, self.levels, self.points, 2))
        units: Tensor = split / sizes.view(-1, 1, 2)
        return units

    def logits(self, queries: Tensor) -> Tensor:
        """[B, Q, H, L, P] how much what queries look at counts, before the softmax."""
        logits = at_full_precision(self.attention_weights, queries)
        split: Tensor = logits.unflatten(-1, (self.heads, self.levels, self.points))
        return split

    def attend(self, values: Tensor, shapes: Shapes, locations: Tensor, weights: Tensor) -> Tensor:
        """See `deformable_attention`."""
        if self.fixed_shapes:
            return attend_grids(values.float(), shapes, locations.float(), weights.float())
        return deformable_attention(values, shapes, locations, weights)
