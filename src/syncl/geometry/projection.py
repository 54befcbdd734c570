"""Projection of points into images."""

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
    x, y, z = points.unsqueeze(-3).unsqueeze(-2).unbind(-1)
    columns = image_from_vehicle[..., None, :3, :].unbind(-1)
    # Summed in this order, as the originals' small matrix products are: another order moves the pixels of
    # points near a camera's plane, which alone differed from DETR3D's own outputs by up to 9e-5 (60 seeds).
    projected = columns[0] * x + columns[1] * y + columns[2] * z + columns[3]
    depth = projected[..., 2]
    pixels = projected[..., :2] / depth.clamp(min=MIN_DEPTH_M)[..., None]
    return pixels, depth
