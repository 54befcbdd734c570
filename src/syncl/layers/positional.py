"""Sinusoidal encodings of points, times and grids, as the PETR family defines them."""

import math

import torch
from torch import Tensor


def sinusoid(value: Tensor, channels: int, temperature: float = 10000.0) -> Tensor:
    """Encode scalars [...] as [..., channels]: sin and cos interleaved, argument 2 pi value / frequency."""
    frequency = _frequencies(channels, temperature, value)
    angle = value[..., None] * (2 * math.pi) / frequency
    return torch.stack([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1).flatten(-2)


def encode_points(points: Tensor, channels: int = 128) -> Tensor:
    """Encode normalised points [..., 3] as [..., 3 channels], in the order y, x, z (PETR's
    `pos2posemb3d`).
    """
    x, y, z = points.unbind(-1)
    return torch.cat([sinusoid(y, channels), sinusoid(x, channels), sinusoid(z, channels)], dim=-1)


def encode_grid(valid: Tensor, channels: int = 128, eps: float = 1e-6) -> Tensor:
    """PETR's 3D sine encoding of camera, row and column (`SinePositionalEncoding3D`, normalised).

    Unlike `sinusoid` it is not interleaved: per axis all sines come first, then all cosines. A coordinate is
    the count of valid cells up to and including the cell, over the count at the axis' end, times 2 pi.

    Args:
        valid: [B, C, H, W] bool, False = padding.
        channels: channels an axis.
        eps: added to the end count.

    Returns:
        [B, C, H, W, 3 channels] float32, axes in the order camera, row, column.
    """
    counted = valid.float()
    encoded = []
    for axis in (1, 2, 3):
        count = counted.cumsum(axis)
        end = count.narrow(axis, count.shape[axis] - 1, 1)
        angle = (count / (end + eps) * (2 * math.pi))[..., None] / _frequencies(channels, 10000.0, count)
        encoded.append(torch.cat([angle[..., 0::2].sin(), angle[..., 1::2].cos()], dim=-1))
    return torch.cat(encoded, dim=-1)


def encode_plane(height: int, width: int, channels: int, like: Tensor, eps: float = 1e-6) -> Tensor:
    """DETR's sine encoding of the cells of an image, [channels, H, W]: row in the first half, then column.

    A cell's coordinate is its middle over the number of cells (mmdetection's `SinePositionalEncoding`,
    normalised, offset -0.5, nothing masked). Dtype and device are those of `like`; half precision, which
    cannot tell cells apart, is what the result is rounded to.
    """
    exact = torch.promote_types(like.dtype, torch.float32)
    rows, columns = (
        sinusoid((torch.arange(count, device=like.device) + 0.5).to(exact) / (count + eps), channels // 2)
        for count in (height, width)
    )
    grid = [rows[:, None].expand(-1, width, -1), columns[None].expand(height, -1, -1)]
    return torch.cat(grid, dim=-1).permute(2, 0, 1).to(like.dtype)


def encode_harmonics(values: Tensor, octaves: int) -> Tensor:
    """NeRF's encoding of [..., N] as [..., 2 N octaves], without pi and without the values themselves.

    For each of the frequencies 1, 2, 4, ... come the sines of all values, then the cosines of all values.
    """
    frequencies = 2.0 ** torch.arange(octaves, dtype=values.dtype, device=values.device)
    angle = values[..., None, :] * frequencies[:, None]
    return torch.stack([angle.sin(), angle.cos()], dim=-2).flatten(-3)


def _frequencies(channels: int, temperature: float, like: Tensor) -> Tensor:
    index = torch.arange(channels, dtype=like.dtype, device=like.device)
    return temperature ** (2 * torch.div(index, 2, rounding_mode="floor") / channels)
