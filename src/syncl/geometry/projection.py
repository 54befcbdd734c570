"""Projection of points into images."""

import torch
from torch import Tensor

# Points nearer to the image plane than this are treated as behind the camera (DETR3D's value, metres).
MIN_DEPTH_M = 1e-5


def project_points(image_from_vehicle: Tensor, points: Tensor) -> tuple[Tensor, Tensor]:
    """Project vehicle-frame points into every camera.

    Args:
        image_from_vehicle: [..., C, 4, 4] pixel projections (intrinsics times camera_from_vehicle).
        points: [..., N, 3] metres, vehicle frame.

    Returns:
        Pixels [..., C, N, 2] (u, v) and depths [..., C, N] in metres along each optical axis. Pixels of
        points at or behind the image plane (depth <= 1e-5) are finite but meaningless.
    """
    ones = torch.ones_like(points[..., :1])
    homogeneous = torch.cat([points, ones], dim=-1).unsqueeze(-3)
    projected = homogeneous @ image_from_vehicle.transpose(-1, -2)
    depth = projected[..., 2]
    pixels = projected[..., :2] / depth.clamp(min=MIN_DEPTH_M)[..., None]
    return pixels, depth
