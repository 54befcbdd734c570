"""PETR's 3D position embedding input: where the viewing ray of every feature cell passes (section 3.2).

Letters: B batch, C cameras, H W cells, Z depth bins.
"""

import torch
from torch import Tensor

from syncl.geometry.precision import full_precision
from syncl.layers.numerics import inverse_sigmoid


def depth_bins(count: int, start_m: float, end_m: float) -> Tensor:
    """Linearly increasing depths [Z] float32, metres: bin i is start + step i (i + 1).

    Rounded to float32 at every step, as the original does: far bins differ by micrometres from exact ones,
    which sharp attention turns into relative differences above 1e-4.
    """
    index = torch.arange(count, dtype=torch.float32)
    step = (end_m - start_m) / (count * (count + 1))
    return start_m + step * index * (index + 1)


def frustum_points(
    image_from_vehicle: Tensor,
    image_size: tuple[int, int],
    grid_size: tuple[int, int],
    depths: Tensor,
    position_range: tuple[float, float, float, float, float, float],
    pixel_offset: float = 0.0,
) -> Tensor:
    """Vehicle-frame points along the viewing ray of every cell, as unit coordinates of a range.

    Args:
        image_from_vehicle: [B, C, 4, 4] float64; inverted in float64.
        image_size: (H, W) of the images, padding included.
        grid_size: (H, W) of the feature level.
        depths: [Z].
        position_range: minima then maxima in metres that map to 0 and 1.
        pixel_offset: where in its cell the ray passes: 0 = top-left corner, 0.5 = centre.

    Returns:
        [B, C, H, W, Z, 3] float32; points outside the range leave [0, 1].
    """
    rows, columns = grid_size
    device = image_from_vehicle.device
    v = (torch.arange(rows, device=device, dtype=torch.float32) + pixel_offset) * image_size[0] / rows
    u = (torch.arange(columns, device=device, dtype=torch.float32) + pixel_offset) * image_size[1] / columns
    depth = depths.to(device=device, dtype=torch.float32)
    u_grid, v_grid, d_grid = torch.broadcast_tensors(u[None, :, None], v[:, None, None], depth[None, None, :])
    pixel = torch.stack([u_grid * d_grid, v_grid * d_grid, d_grid, torch.ones_like(d_grid)], dim=-1)
    vehicle_from_image = torch.linalg.inv(image_from_vehicle.double()).float()
    with full_precision(pixel):
        points = torch.einsum("bcij,hwzj->bchwzi", vehicle_from_image[..., :3, :], pixel)
    low = points.new_tensor(position_range[:3])
    span = points.new_tensor(position_range[3:]) - low
    return (points - low) / span


def frustum_coordinates(
    image_from_vehicle: Tensor,
    image_size: tuple[int, int],
    grid_size: tuple[int, int],
    depths: Tensor,
    position_range: tuple[float, float, float, float, float, float],
) -> Tensor:
    """The points of `frustum_points` as logits [B, C, H, W, 3 Z], depth-major, x y z fastest.

    A cell's pixel is its top-left corner, not its centre: published PETR weights were trained so.
    """
    points = frustum_points(image_from_vehicle, image_size, grid_size, depths, position_range)
    return inverse_sigmoid(points).flatten(-2)
