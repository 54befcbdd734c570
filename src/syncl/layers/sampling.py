"""Sampling image features at projected 3D points (DETR3D, Wang et al. 2021, section 3.3).

A point is seen by one or two cameras of a rig. So nothing is sampled for the others: what a point reads is a
list of rows of the feature maps with their bilinear shares, and a weighted sum over cameras and levels is one
look-up a level.

Letters: B batch, C cameras, Q points, L levels, D channels, P pairs of a point and a camera.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from syncl.geometry.projection import MIN_DEPTH_M, project_points


class Taps(NamedTuple):
    """What points read of each level.

    Attributes:
        visible: [B, C, Q] points strictly inside the image and in front of the camera.
        pairs: [P] the point and camera of each pair, as its place in [B, Q, C] laid out flat.
        starts: [B Q] the first of each point's pairs; None = all B Q C pairs are there, in order.
        rows: per level [P, 4] rows of its table (`tables_of`).
        shares: per level [P, 4] how much each row counts; beyond the border nothing does.
    """

    visible: Tensor
    pairs: Tensor
    starts: Tensor | None
    rows: tuple[Tensor, ...]
    shares: tuple[Tensor, ...]


def tables_of(levels: tuple[Tensor, ...], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """Feature levels [B, C, D, H_l, W_l] as tables [B C H_l W_l, D] to look rows up in.

    Args:
        levels: one tensor a level.
        dtype: that of the points, since sums of many samples want full precision.
    """
    return tuple(level.movedim(2, -1).flatten(0, -2).to(dtype) for level in levels)


def taps_of(
    points: Tensor,
    image_from_vehicle: Tensor,
    camera_valid: Tensor,
    image_size: tuple[int, int],
    shapes: tuple[tuple[int, int], ...],
    fixed_shapes: bool = False,
) -> Taps:
    """Where points lie in every camera and level.

    Args:
        points: [B, Q, 3] metres, vehicle frame. They get gradients from what is sampled.
        image_from_vehicle: [B, C, 4, 4]; used in the points' precision as the original does.
        camera_valid: [B, C] bool; the others see nothing.
        image_size: (H, W) of the images the levels come from.
        shapes: (H_l, W_l) of each level.
        fixed_shapes: look all pairs up, so that no shape depends on what points see.
    """
    grid, visible = seen_places(points, image_from_vehicle, camera_valid, image_size)
    cameras, count = visible.shape[1:]
    seen = visible.transpose(1, 2).flatten()
    starts: Tensor | None
    if fixed_shapes:
        pairs, starts = torch.arange(len(seen), device=points.device), None
    elif points.device.type == "cpu":
        pairs = seen.nonzero()[:, 0]
        counts = seen.view(-1, cameras).sum(1)
        starts = counts.cumsum(0) - counts
    else:
        # Elsewhere to wait for the number of visible pairs costs more than to look all of them up.
        pairs = torch.arange(len(seen), device=points.device)
        starts = pairs[::cameras]
    kept = seen[pairs]
    places = grid.transpose(1, 2).flatten(0, 2)[pairs].masked_fill(~kept[:, None], 0.0)
    image = pairs // (count * cameras) * cameras + pairs % cameras
    found = [_bilinear(places, kept, image, shape) for shape in shapes]
    return Taps(visible, pairs, starts, tuple(rows for rows, _ in found), tuple(share for _, share in found))


def seen_places(
    points: Tensor, image_from_vehicle: Tensor, camera_valid: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Where points lie in images, from -1 to 1 from border to border [B, C, Q, 2], and whether they are seen
    there [B, C, Q] bool; arguments as for `taps_of`.
    """
    pixels, depth = project_points(image_from_vehicle.to(points.dtype), points)
    height, width = image_size
    grid = torch.stack([pixels[..., 0] / width, pixels[..., 1] / height], dim=-1) * 2 - 1
    inside = (depth > MIN_DEPTH_M) & (grid > -1).all(-1) & (grid < 1).all(-1)
    return grid, inside & camera_valid[..., None]


def _bilinear(places: Tensor, kept: Tensor, image: Tensor, shape: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Rows and shares [P, 4] of one level for places [P, 2], from -1 to 1, in images [P] of the batch."""
    height, width = shape
    columns = ((places[:, 0] + 1) * width - 1) / 2
    lines = ((places[:, 1] + 1) * height - 1) / 2
    left, top = columns.detach().floor(), lines.detach().floor()
    right_share, bottom_share = columns - left, lines - top
    x = torch.stack([left, left + 1, left, left + 1], dim=-1)
    y = torch.stack([top, top, top + 1, top + 1], dim=-1)
    shares = torch.stack([1 - right_share, right_share], dim=-1).repeat(1, 2) * torch.stack(
        [1 - bottom_share, bottom_share], dim=-1
    ).repeat_interleave(2, dim=-1)
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height) & kept[:, None]
    x, y = x.clamp(0, width - 1).long(), y.clamp(0, height - 1).long()
    return (image[:, None] * height + y) * width + x, shares * inside


def log_pixel_scales(points: Tensor, image_from_vehicle: Tensor, visible: Tensor) -> Tensor:
    """[B, Q, 1] log of how many pixels a metre has at points, the mean over cameras that see one; 0 without.

    Args:
        points: [B, Q, 3] metres, vehicle frame. They get no gradients.
        image_from_vehicle: [B, C, 4, 4].
        visible: [B, C, Q] bool which points a camera sees.
    """
    points = points.detach()
    rows = image_from_vehicle.to(points.dtype)
    # The row of u, without its part along the optical axis, whose length is 1.
    across, axis = rows[..., 0, :3], rows[..., 2, :3]
    focal = (across - (across * axis).sum(-1, keepdim=True) * axis).norm(dim=-1, keepdim=True)
    depth = project_points(rows, points)[1]
    scales = torch.where(visible, focal / depth, 1.0).log()
    return (scales.sum(1) / visible.sum(1).clamp(min=1))[..., None]


def weighted_samples(tables: tuple[Tensor, ...], taps: Taps, weights: Tensor) -> Tensor:
    """Sums [B, Q, D] of each point's samples over cameras and levels.

    Args:
        tables: from `tables_of`.
        taps: from `taps_of`.
        weights: [B, Q, C, L] how much each sample counts.
    """
    streams, count, cameras, _ = weights.shape
    if taps.starts is None:
        # Bags of one length, as products that export to every format.
        counted = weights.flatten(0, 2).to(tables[0].dtype)
        shares = [counted[:, level, None] * share for level, share in enumerate(taps.shares)]
        bags = (streams * count, 1, 4 * cameras)
        read = [
            share.view(bags) @ table[rows.view(bags[0], -1)]
            for table, rows, share in zip(tables, taps.rows, shares)
        ]
        return torch.stack(read).sum(0).view(streams, count, -1)
    chosen = weights.flatten(0, 2)[taps.pairs].to(tables[0].dtype)
    starts = taps.starts
    sums = [
        functional.embedding_bag(
            rows.flatten(),
            table,
            starts * rows.shape[1],
            mode="sum",
            per_sample_weights=(chosen[:, level, None] * shares).flatten(),
        )
        for level, (table, rows, shares) in enumerate(zip(tables, taps.rows, taps.shares))
    ]
    total = torch.stack(sums).sum(0)
    return total.view(streams, count, -1)
