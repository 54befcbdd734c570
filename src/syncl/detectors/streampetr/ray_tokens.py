"""StreamPETR's image tokens: contents told about their camera, positions from the points along their rays.

Letters: B batch, C cameras, S tokens in the order camera, row, column, D channels, Z depths, H W cells.
"""

import torch
from torch import Tensor, nn

from syncl.detectors.reference_range import PointRange, ReferenceRange
from syncl.layers.conditioning import FeatureGate, MotionNorm
from syncl.layers.frustum import depth_bins, frustum_points
from syncl.layers.numerics import inverse_sigmoid, mlp
from syncl.structures import Frame

# The camera norm sees focal lengths (2) and two points of the viewing ray (3 each).
_CONE = 8


class RayTokens(nn.Module):
    """Tokens of one feature level of all cameras."""

    depths: Tensor

    def __init__(self, dim: int, depth_count: int, depth_start_m: float, position_range: PointRange) -> None:
        super().__init__()
        self.position_range = ReferenceRange(position_range)
        depths = depth_bins(depth_count, depth_start_m, float(position_range[3]))
        self.register_buffer("depths", depths.float(), persistent=False)
        self.content_encoder = mlp(dim, dim, dim)
        self.camera_norm = MotionNorm(dim, _CONE)
        self.position_encoder = mlp(3 * depth_count, 4 * dim, dim)
        self.feature_gate = FeatureGate(dim)

    def forward(self, features: Tensor, frame: Frame) -> tuple[Tensor, Tensor]:
        """Keys (content plus position) and values (content), [B, S, D] each.

        Args:
            features: [B, C, D, H, W].
            frame: whose images they are of.
        """
        rig, grid = frame.rig, (features.shape[-2], features.shape[-1])
        return self.told(
            features, *self.rays(rig.vehicle_from_image, rig.image_from_camera, frame.image_size, grid)
        )

    def rays(
        self,
        vehicle_from_image: Tensor,
        image_from_camera: Tensor,
        image_size: tuple[int, int],
        grid_size: tuple[int, int],
    ) -> tuple[Tensor, Tensor]:
        """Positions [B, S, D] and what the camera norm sees [B, S, 8], both of the calibration alone.

        Args:
            vehicle_from_image: [B, C, 4, 4].
            image_from_camera: [B, C, 3, 3], or [B, C, 4, 4] with the same in its upper left corner.
            image_size: (H, W) of the images, padding included.
            grid_size: (H, W) of the feature level.
        """
        points = frustum_points(vehicle_from_image, image_size, grid_size, self.depths, 0.5)
        points = self.position_range.normalise(points).flatten(1, 3)
        cone = self._cone(points, image_from_camera, grid_size[0] * grid_size[1])
        return self.position_encoder(inverse_sigmoid(points).flatten(-2)), cone

    def told(self, features: Tensor, positions: Tensor, cone: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values [B, S, D] of features [B, C, D, H, W] that are told of their `rays`."""
        tokens = features.permute(0, 1, 3, 4, 2).flatten(1, 3)
        values = self.camera_norm(self.content_encoder(tokens), cone)
        return values + self.feature_gate(positions, values), values

    def _cone(self, points: Tensor, image_from_camera: Tensor, cells: int) -> Tensor:
        """What the camera norm sees of ray points [B, S, Z, 3]: [B, S, 8]."""
        focal = image_from_camera[..., :2, :2].diagonal(dim1=-2, dim2=-1).abs() / 1e3
        # Published weights were trained with focal lengths tiled over tokens, not repeated for each camera:
        # token t has those of camera t mod C.
        focal = focal.to(points.dtype).repeat(1, cells, 1)
        depths = points.shape[2]
        middle = 34 * depths // 64
        return torch.cat([focal, points[:, :, -1], points[:, :, middle]], dim=-1)


def attended_cameras(camera_valid: Tensor, cells: int) -> Tensor:
    """Mask [B, S] of the tokens of cameras [B, C] with `cells` cells each.

    A stream without any camera attends its black images rather than nothing (which would be nan).
    """
    attended = camera_valid | ~camera_valid.any(1, keepdim=True)
    return attended.repeat_interleave(cells, dim=1)
