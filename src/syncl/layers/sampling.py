"""Sampling image features at projected 3D points (DETR3D, Wang et al. 2021, section 3.3)."""

import torch
from torch import Tensor
from torch.nn import functional

from syncl.geometry.projection import MIN_DEPTH_M, project_points


def sample_features(
    levels: tuple[Tensor, ...], points: Tensor, image_from_vehicle: Tensor, image_size: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Bilinear samples of every camera and level at projected points.

    Args:
        levels: per level [B, C, D, H_l, W_l]; sampled in the precision of `points`, since half precision
            cannot tell neighbouring pixels apart.
        points: [B, Q, 3] metres, vehicle frame.
        image_from_vehicle: [B, C, 4, 4]; used in float32 as the original does.
        image_size: (H, W) of the images the levels come from.

    Returns:
        Samples [B, C, Q, L, D] and the mask [B, C, Q] of points strictly inside the image and in front of the
        camera. Samples outside the mask are finite but not zero.
    """
    pixels, depth = project_points(image_from_vehicle.to(points.dtype), points)
    height, width = image_size
    size = torch.tensor([width, height], dtype=pixels.dtype, device=pixels.device)
    grid = pixels / size * 2 - 1
    inside = (depth > MIN_DEPTH_M) & (grid > -1).all(-1) & (grid < 1).all(-1)
    # Far-off coordinates overflow the sampler's integer arithmetic; anything beyond the border reads zero.
    grid = torch.nan_to_num(grid, 0.0, 2.0, -2.0).clamp(-2, 2).flatten(0, 1).unsqueeze(2)
    sampled = [
        functional.grid_sample(level.flatten(0, 1).to(grid.dtype), grid, align_corners=False)[..., 0]
        for level in levels
    ]
    stacked = torch.stack(sampled, dim=-1).unflatten(0, depth.shape[:2])
    return stacked.permute(0, 1, 3, 4, 2), inside
