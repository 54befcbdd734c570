"""Modulated deformable convolution (DCNv2, Zhu et al. 2019) in plain PyTorch.

Letters: N images, C input channels, O output channels, H x W input size, h x w output size, K kernel taps.
"""

import importlib
from collections.abc import Callable
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def deformable_convolution(
    features: Tensor,
    offsets: Tensor,
    modulation: Tensor,
    weight: Tensor,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
) -> Tensor:
    """Convolve with every kernel tap moved by its own offset and scaled by its own modulation.

    Bilinear sampling; everything outside the map is zero, as with a padded convolution. With zero offsets and
    unit modulation this is `conv2d`. torchvision's fused kernel is used where it can be imported.

    Args:
        features: [N, C, H, W].
        offsets: [N, 2 K, h, w] in input pixels; (dy, dx) interleaved for each tap, taps row-major.
        modulation: [N, K, h, w].
        weight: [O, C, kernel, kernel].
        stride: input pixels per output cell.
        padding: zeros around the input, pixels.
        dilation: pixels between taps.

    Returns:
        [N, O, h, w], of the dtype of `features`.
    """
    # No runtime is sure to have torchvision's operator.
    fused = None if torch.compiler.is_exporting() else _fused_kernel(features.device.type)
    if fused is not None:
        dtype = features.dtype
        return fused(
            features,
            offsets.to(dtype),
            weight.to(dtype),
            stride=stride,
            padding=padding,
            dilation=dilation,
            mask=modulation.to(dtype),
        )
    columns = _sample_taps(features, offsets, modulation, weight.shape[-1], stride, padding, dilation)
    kernel = weight.flatten(2).transpose(1, 2).flatten(1)
    output = kernel.to(columns.dtype) @ columns
    return output.reshape(*output.shape[:2], *offsets.shape[-2:])


def _sample_taps(
    features: Tensor,
    offsets: Tensor,
    modulation: Tensor,
    kernel_size: int,
    stride: int,
    padding: int,
    dilation: int,
) -> Tensor:
    """Return the modulated samples, [N, K C, h w] with the tap as the slower channel index."""
    # Of a map whose sides are powers of two all pixels have exact places between -1 and 1; of others places
    # round by some 1e-5 of a pixel, on every runtime differently.
    height, width = (1 << (side - 1).bit_length() for side in features.shape[-2:])
    features = F.pad(features, (0, width - features.shape[-1], 0, height - features.shape[-2]))
    out_height, out_width = offsets.shape[-2:]
    # Positions need float32 at least: half precision cannot tell neighbouring pixels of a large map apart.
    dtype = torch.promote_types(offsets.dtype, torch.float32)
    taps = kernel_size * kernel_size
    moved = offsets.to(dtype).reshape(-1, taps, 2, out_height, out_width)
    steps = torch.arange(kernel_size, device=features.device, dtype=dtype) * dilation - padding
    tap_y = steps.repeat_interleave(kernel_size)[:, None, None]
    tap_x = steps.repeat(kernel_size)[:, None, None]
    rows = torch.arange(out_height, device=features.device, dtype=dtype)[:, None] * stride
    columns_x = torch.arange(out_width, device=features.device, dtype=dtype) * stride
    y = moved[:, :, 0] + tap_y + rows
    x = moved[:, :, 1] + tap_x + columns_x
    grid = torch.stack([(2 * x + 1) / width - 1, (2 * y + 1) / height - 1], dim=-1)
    sampled = F.grid_sample(features.to(dtype), grid.flatten(1, 2), padding_mode="zeros", align_corners=False)
    sampled = sampled.reshape(*sampled.shape[:2], taps, -1) * modulation.to(dtype)[:, None].flatten(3)
    columns = sampled.transpose(1, 2).flatten(1, 2)
    return columns.to(features.dtype)


class DeformableConvolution(nn.Module):
    """A bias-free DCNv2 layer that predicts its own offsets and modulation from its input.

    Offsets and modulation logits come from one ordinary convolution, `conv_offset`, of equal kernel, stride
    and padding; it starts at zero, so a new layer is a convolution halved (modulation is the sigmoid of 0).
    Parameter names and channel order are those of published mmdetection checkpoints.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int = 3,
        stride: int = 1,
        padding: int = 1,
        dilation: int = 1,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.taps = kernel_size * kernel_size
        self.weight = nn.Parameter(torch.empty(out_channels, in_channels, kernel_size, kernel_size))
        self.conv_offset = nn.Conv2d(in_channels, 3 * self.taps, kernel_size, stride, padding, dilation)
        nn.init.kaiming_normal_(self.weight, mode="fan_out", nonlinearity="relu")
        for parameter in self.conv_offset.parameters():
            nn.init.zeros_(parameter)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, C, H, W] to [N, O, h, w]."""
        prediction = self.conv_offset(features)
        offsets, logits = prediction.split((2 * self.taps, self.taps), dim=1)
        return deformable_convolution(
            features, offsets, logits.sigmoid(), self.weight, self.stride, self.padding, self.dilation
        )


@cache
def _fused_kernel(device_type: str) -> Callable[..., Tensor] | None:
    """torchvision's kernel if it imports and runs on this kind of device, else None."""
    try:
        kernel: Callable[..., Tensor] = importlib.import_module("torchvision.ops").deform_conv2d
        unit = torch.ones(1, 1, 1, 1, device=device_type)
        kernel(unit, unit.new_zeros(1, 2, 1, 1), unit, mask=unit)
    except (ImportError, RuntimeError, AttributeError):
        # A torchvision wheel made for another torch fails in any of these ways, and NotImplementedError
        # (a RuntimeError) tells that it lacks this device. The plain version gives the same numbers.
        return None
    return kernel
