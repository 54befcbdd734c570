"""PETR's 3D position embedding input: where the viewing ray of every feature cell passes (section 3.2).

Letters: B batch, C cameras, H W cells, Z depth bins.
"""

import torch
from torch import Tensor

from syncl.geometry.precision import full_precision


def depth_bins(count: int, start_m: float, end_m: float) -> Tensor:
    """Linearly increasing depths [Z] float32, metres: bin i is start + step i (i + 1).

    Rounded to float32 at every step, as the original does: far bins differ by micrometres from exact ones,
    which sharp attention turns into relative differences above 1e-4.
    """
    index = torch.arange(count, dtype=torch.float32)
    step = (end_m - start_m) / (count * (count + 1))
    return start_m + step * index * (index + 1)


def frustum_points(
    vehicle_from_image: Tensor,
    image_size: tuple[int, int],
    grid_size: tuple[int, int],
    depths: Tensor,
    pixel_offset: float = 0.0,
) -> Tensor:
    """Vehicle-frame points along the viewing ray of every cell.

    Args:
        vehicle_from_image: [B, C, 4, 4]; used in float32.
        image_size: (H, W) of the images, padding included.
        grid_size: (H, W) of the feature level.
        depths: [Z].
        pixel_offset: where in its cell the ray passes: 0 = top-left corner, 0.5 = centre.

    Returns:
        [B, C, H, W, Z, 3] float32 metres.
    """
    rows, columns = grid_size
    device = vehicle_from_image.device
    v = (torch.arange(rows, device=device, dtype=torch.float32) + pixel_offset) * image_size[0] / rows
    u = (torch.arange(columns, device=device, dtype=torch.float32) + pixel_offset) * image_size[1] / columns
    depth = depths.to(device=device, dtype=torch.float32)
    u_grid, v_grid, d_grid = torch.broadcast_tensors(u[None, :, None], v[:, None, None], depth[None, None, :])
    pixel = torch.stack([u_grid * d_grid, v_grid * d_grid, d_grid, torch.ones_like(d_grid)], dim=-1)
    with full_precision(pixel):
        return torch.einsum("bcij,hwzj->bchwzi", vehicle_from_image[..., :3, :].float(), pixel)
