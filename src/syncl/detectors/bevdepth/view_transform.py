"""From image features to a bird's-eye view by lift and splat, with depths that are learned (Philion and
Fidler, ECCV 2020; Li et al., BEVDepth, AAAI 2023).

Every cell of the feature map is a ray with a distribution over depth bins. Its context, times the probability
of a bin, falls into the cell of the ground under that bin's point; what falls into one cell is summed.

The volume of all points is never formed: points are sorted by the cell they fall into, and a cell's sum reads
the contexts of its points, weighted by their probabilities, straight from the feature map.

Letters: B streams, C cameras, Z depth bins, H W cells of the feature map, F its channels, D context channels,
Y X cells of the view (y counts along the vehicle's left), P points that fall into the view.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from syncl.detectors.bevdepth.blocks import residual_stage
from syncl.errors import SynclError
from syncl.geometry.precision import full_precision
from syncl.geometry.transforms import invert_affine
from syncl.layers.deformable_convolution import DeformableConvolution
from syncl.structures.tensors import TensorStructure

CALIBRATION_NUMBERS = 21


@dataclass(frozen=True)
class BevGrid:
    """The view's cells: `shape` (rows, columns) squares of `cell_m` metres from (`low_x`, `low_y`) on, one
    layer high from `low_z` to `high_z`, metres, vehicle frame.
    """

    low_x: float
    low_y: float
    cell_m: float
    shape: tuple[int, int]
    low_z: float
    high_z: float

    @property
    def cells(self) -> int:
        """Their number."""
        return self.shape[0] * self.shape[1]


@dataclass(frozen=True)
class DepthPrediction(TensorStructure):
    """What the depth net says.

    Attributes:
        logits: [B, C, Z, H, W].
        depths: [Z] metres where bins begin, equally spaced.
        image_from_vehicle: [B, C, 4, 4] float64 of the images it was said of.
        camera_valid: [B, C] bool.
        image_size: (height, width) of the images in pixels.
        pixel_centres: see `pixel_grid`.
    """

    logits: Tensor
    depths: Tensor
    image_from_vehicle: Tensor
    camera_valid: Tensor
    image_size: tuple[int, int]
    pixel_centres: bool = False


class Splat(NamedTuple):
    """Which points fall where.

    Attributes:
        points: [P] their numbers in [B, C, Z, H, W] laid out flat, sorted by the cell they fall into.
        rays: [P] the numbers of their rays in [B, C, H, W].
        starts: [B Y X] where the points of each cell begin.
        offsets: [P, 2] x and y of each point from the middle of its cell, in cells; None = not asked for.
    """

    points: Tensor
    rays: Tensor
    starts: Tensor
    offsets: Tensor | None = None


class Cells(NamedTuple):
    """Where every bin of every ray falls: a function of the calibration alone.

    Attributes:
        numbers: [B, C, Z, H, W] of the cells, row by row; -1 = beside the view.
        offsets: [B, C, Z, H, W, 2] x and y from the middle of the cell, in cells; None = not asked for.
    """

    numbers: Tensor
    offsets: Tensor | None


def pixel_grid(
    image_size: tuple[int, int], grid_size: tuple[int, int], like: Tensor, centres: bool = False
) -> tuple[Tensor, Tensor]:
    """Pixels (u [W], v [H]) that a feature map's cells stand for.

    As published, from the first pixel to the last, which is up to half a cell beside what a cell sees.

    Args:
        image_size: (height, width) of the images in pixels.
        grid_size: (H, W).
        like: whose dtype and device they have.
        centres: the middles of cells instead, where all that samples features here has them.
    """
    if centres:
        v, u = (
            (torch.arange(cells, dtype=like.dtype, device=like.device) + 0.5) * (pixels / cells)
            for pixels, cells in zip(image_size, grid_size)
        )
        return u, v
    u = torch.linspace(0, image_size[1] - 1, grid_size[1], dtype=like.dtype, device=like.device)
    v = torch.linspace(0, image_size[0] - 1, grid_size[0], dtype=like.dtype, device=like.device)
    return u, v


def lift_points(
    image_from_vehicle: Tensor,
    image_size: tuple[int, int],
    grid_size: tuple[int, int],
    depths: Tensor,
    pixel_centres: bool = False,
) -> Tensor:
    """Where every bin of every ray is: [B, C, Z, H, W, 3] metres, vehicle frame, as precise as the matrices.

    Args:
        image_from_vehicle: [B, C, 4, 4] float64.
        image_size: (height, width) of the images in pixels.
        grid_size: (H, W).
        depths: [Z] metres along the optical axis.
        pixel_centres: see `pixel_grid`.
    """
    u, v = pixel_grid(image_size, grid_size, image_from_vehicle, pixel_centres)
    depth = depths.to(image_from_vehicle.dtype)[:, None, None]
    shape = (len(depths), *grid_size)
    pixels = [u * depth, v[:, None] * depth, depth, torch.ones_like(depth)]
    homogeneous = torch.stack([part.expand(shape) for part in pixels], dim=-1)
    vehicle_from_image = invert_affine(image_from_vehicle)[..., :3, :]
    with full_precision(homogeneous):
        return torch.einsum("bcij,zhwj->bczhwi", vehicle_from_image, homogeneous)


def cells_of(points: Tensor, grid: BevGrid, cell_offsets: bool = False) -> Cells:
    """Where points [B, C, Z, H, W, 3] (metres, vehicle frame) fall; where in their cells, if asked.

    As published, numbers of cells are truncated towards zero: points up to a cell (in height: the whole
    layer) below the lower bounds fall into the first one.
    """
    rows, columns = grid.shape
    lows, sizes = (
        (grid.low_x, grid.low_y, grid.low_z),
        (grid.cell_m, grid.cell_m, grid.high_z - grid.low_z),
    )
    places = [(axis - low) / size for axis, low, size in zip(points.unbind(-1), lows, sizes)]
    x, y, z = (place.trunc() for place in places)
    inside = (x >= 0) & (x < columns) & (y >= 0) & (y < rows) & (z == 0)
    numbers = torch.where(inside, y * columns + x, -1.0).long()
    if not cell_offsets:
        return Cells(numbers, None)
    return Cells(numbers, torch.stack([place.frac() - 0.5 for place in places[:2]], dim=-1).float())


def sort_points(points: Tensor, camera_valid: Tensor, grid: BevGrid, cell_offsets: bool = False) -> Splat:
    """Which points fall into which cell (`cells_of`), sorted by cell.

    Args:
        points: [B, C, Z, H, W, 3] metres, vehicle frame.
        camera_valid: [B, C] bool; nothing of the others falls anywhere.
        grid: the view.
        cell_offsets: whether to say where in its cell a point lies.
    """
    streams, _, bins, height, width = points.shape[:5]
    cells = cells_of(points, grid, cell_offsets)
    stream = torch.arange(streams, device=points.device).view(-1, 1, 1, 1, 1)
    cell = (stream * grid.cells + cells.numbers).flatten()
    if points.is_meta:  # Cost is being counted without values.
        numbers = torch.arange(cell.numel(), device=points.device)
    else:
        inside = (cells.numbers >= 0) & camera_valid[..., None, None, None]
        numbers = inside.flatten().nonzero()[:, 0]
    cell = cell[numbers]
    order = cell.argsort(stable=True)
    numbers = numbers[order]
    pixels = height * width
    rays = numbers // (bins * pixels) * pixels + numbers % pixels
    edges = torch.arange(streams * grid.cells, device=points.device)
    starts = torch.searchsorted(cell[order], edges)
    offsets = cells.offsets
    return Splat(numbers, rays, starts, None if offsets is None else offsets.flatten(0, 4)[numbers])


def splat(context: Tensor, probabilities: Tensor, plan: Splat, grid: BevGrid) -> Tensor:
    """The view [B, D, Y, X]: sums of contexts times probabilities over the points of each cell.

    With offsets in the plan [B, 3 D, Y, X]: behind them the same sums with every point times its x from the
    middle of its cell, then times its y, in cells. So where in a cell something lies is not lost.

    Args:
        context: [B, C, D, H, W].
        probabilities: [B, C, Z, H, W] of the bins.
        plan: from `sort_points`.
        grid: the view.
    """
    table = context.movedim(2, -1).flatten(0, 3).float()
    shares = probabilities.flatten()[plan.points].float()
    weights = [shares]
    if plan.offsets is not None:
        weights += [shares * offset for offset in plan.offsets.unbind(1)]
    sums = [
        functional.embedding_bag(plan.rays, table, plan.starts, mode="sum", per_sample_weights=weight)
        for weight in weights
    ]
    return torch.cat(sums, dim=1).view(context.shape[0], *grid.shape, -1).movedim(-1, 1)


def scatter(
    context: Tensor, probabilities: Tensor, cells: Cells, camera_valid: Tensor, grid: BevGrid
) -> Tensor:
    """The same as `splat` up to the order of sums, by adding all points of all rays up, seen or not: the
    volume is formed, and no shape depends on where points fall.

    Args:
        context: [B, C, D, H, W].
        probabilities: [B, C, Z, H, W] of the bins.
        cells: of the rig.
        camera_valid: [B, C] bool.
        grid: the view.
    """
    streams, rows = context.shape[0], grid.cells + 1
    # The last row is nowhere, and is cut off.
    seen = (cells.numbers >= 0) & camera_valid[..., None, None, None]
    cell = torch.where(seen, cells.numbers.long(), grid.cells)
    stream = torch.arange(streams, device=context.device).view(-1, 1, 1, 1, 1)
    shares = probabilities.float()
    weights = [shares]
    if cells.offsets is not None:
        weights += [shares * offset for offset in cells.offsets.unbind(-1)]
    rays = context.float().movedim(2, -1)[:, :, None]
    volume = torch.cat([weight[..., None] * rays for weight in weights], dim=-1)
    empty = volume.new_zeros(streams * rows, volume.shape[-1])
    index = (cell + stream * rows).flatten()
    sums = empty.index_put((index,), volume.flatten(0, 4), accumulate=True)
    return sums.view(streams, rows, -1)[:, :-1].view(streams, *grid.shape, -1).movedim(-1, 1)


class CameraAwareDepth(nn.Module):
    """Depth logits from image features and the camera's calibration.

    Features are gated, channel by channel, by what the calibration says; residual blocks and a deformable
    convolution follow.
    """

    def __init__(self, channels: int, hidden: int, blocks: int, bins: int, numbers: int) -> None:
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.calibration_norm = nn.BatchNorm1d(numbers)
        self.calibration_gate = nn.Linear(numbers, hidden)
        self.blocks = residual_stage(hidden, hidden, blocks)
        self.deformable = DeformableConvolution(hidden, hidden)
        self.deformable_norm = nn.BatchNorm2d(hidden)
        self.predict = nn.Conv2d(hidden, bins, 1)

    def forward(self, features: Tensor, numbers: Tensor) -> Tensor:
        """Logits [N, Z, H, W] of features [N, F, H, W] of cameras with calibrations [N, numbers]."""
        gate = self.calibration_gate(self.calibration_norm(numbers)).sigmoid()
        x = self.blocks(self.reduce(features) * gate[..., None, None])
        logits: Tensor = self.predict(self.deformable_norm(self.deformable(x)))
        return logits


def calibration_numbers(image_from_camera: Tensor, camera_from_vehicle: Tensor) -> Tensor:
    """What the depth net is told of cameras, [B C, 21] float32: intrinsics, then rotation and place of the
    camera in the vehicle.

    The original also tells what augmentation did to the image, apart from the intrinsics; a rig's intrinsics
    are those of the image as it is, so that is in them.
    """
    vehicle_from_camera = invert_affine(camera_from_vehicle)
    parts = (image_from_camera, vehicle_from_camera[..., :3, :3], vehicle_from_camera[..., :3, 3:])
    return torch.cat([part.flatten(2) for part in parts], dim=-1).flatten(0, 1).float()


class ViewTransform(nn.Module):
    """Lift and splat; see the module's docstring.

    Args:
        channels: F.
        context: D.
        hidden: channels of the depth net.
        blocks: its residual blocks.
        depths_m: (first, end, step) of the depth bins.
        grid: the view.
        pixel_centres: see `pixel_grid`.
        cell_offsets: see `splat`.
        numbers: how many numbers the depth net is told of a camera.

    Raises:
        SynclError: if there are no depth bins.
    """

    depths: Tensor

    def __init__(
        self,
        *,
        channels: int,
        context: int,
        hidden: int,
        blocks: int,
        depths_m: tuple[float, float, float],
        grid: BevGrid,
        pixel_centres: bool = False,
        cell_offsets: bool = False,
        numbers: int = CALIBRATION_NUMBERS,
    ) -> None:
        super().__init__()
        first, end, step = depths_m
        if not (0 < first < end and step > 0):
            raise SynclError(f"detector.depths_m={depths_m}: must be (first, end, step), 0 < first < end")
        self.grid, self.pixel_centres, self.cell_offsets = grid, pixel_centres, cell_offsets
        self.register_buffer("depths", torch.arange(first, end, step), persistent=False)
        self.context = nn.Conv2d(channels, context, 1)
        self.depth = CameraAwareDepth(channels, hidden, blocks, len(self.depths), numbers)

    def forward(
        self,
        features: Tensor,
        image_from_vehicle: Tensor,
        numbers: Tensor,
        camera_valid: Tensor,
        image_size: tuple[int, int],
        cells: Cells | None = None,
    ) -> tuple[Tensor, DepthPrediction]:
        """The view [B, D, Y, X] ([B, 3 D, Y, X] with offsets in cells) and the depths behind it.

        Args:
            features: [B, C, F, H, W].
            image_from_vehicle: [B, C, 4, 4] float64.
            numbers: [B C, numbers] of the cameras.
            camera_valid: [B, C] bool.
            image_size: (height, width) of the images in pixels, padding included.
            cells: where points fall, if no shape may depend on it; None = they are sorted.
        """
        streams, cameras = features.shape[:2]
        flat = features.flatten(0, 1)
        logits = self.depth(flat, numbers).unflatten(0, (streams, cameras))
        context = self.context(flat).unflatten(0, (streams, cameras))
        shares = logits.float().softmax(2)
        if cells is not None:
            bev = scatter(context, shares, cells, camera_valid, self.grid)
        else:
            with torch.no_grad():
                height, width = features.shape[-2:]
                points = lift_points(
                    image_from_vehicle, image_size, (height, width), self.depths, self.pixel_centres
                )
                plan = sort_points(points, camera_valid, self.grid, self.cell_offsets)
            bev = splat(context, shares, plan, self.grid)
        return bev, DepthPrediction(
            logits, self.depths, image_from_vehicle, camera_valid, image_size, self.pixel_centres
        )
