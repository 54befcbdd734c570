"""3x3 convolutions by Winograd's minimal filtering, F(2, 3) (Lavin and Gray, CVPR 2016, section 4.1).

Two rows of output need four products with rows of the kernel instead of six. Of the four rows d of input that
they look at, and the three rows g of the kernel:

    m0 = (d0 - d2) g0    m1 = (d1 + d2) (g0 + g1 + g2) / 2    y0 = m0 + m1 + m2
    m3 = (d3 - d1) g2    m2 = (d2 - d1) (g0 - g1 + g2) / 2    y1 = m1 - m2 + m3

where each product is a convolution along the row. With columns treated alike there would be 16 products for
four outputs instead of 24, and of 36, but of more sums and with more rounding.
"""

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional

# Channels from which on the sums cost less than the products that they save.
_WIDE = 128


class WinogradConv2d(nn.Module):
    """A convolution that `suits_winograd`, for inference: the same, of two thirds of the products.

    Up to rounding: sums are rounded too, which in bfloat16 puts outputs 1.7 times as far from exact ones.

    Args:
        convolution: of which it is made.
        dtype: what it computes in.
    """

    def __init__(self, convolution: nn.Conv2d, dtype: torch.dtype) -> None:
        super().__init__()
        first, second, third = convolution.weight.detach().double().unbind(2)
        products = (first, (first + second + third) / 2, (first - second + third) / 2, third)
        self.weights = nn.ParameterList(
            nn.Parameter(rows[:, :, None].to(dtype, memory_format=torch.channels_last), False)
            for rows in products
        )
        bias = convolution.bias
        self.bias = None if bias is None else nn.Parameter(bias.detach().to(dtype), False)

    def forward(self, features: Tensor) -> Tensor:
        """Map [N, in_channels, H, W] to [N, out_channels, H, W], channels last."""
        height = features.shape[2]
        pairs = (height + 1) // 2
        padded = functional.pad(features.to(self.weights[0].dtype), (0, 0, 1, 1 + height % 2))
        d0, d1, d2, d3 = (padded[:, :, row : row + 2 * pairs - 1 : 2] for row in range(4))
        sums = (d0 - d2, d1 + d2, d2 - d1, d3 - d1)
        # Of the four products m1 alone is in both rows as it is.
        biases = (None, self.bias, None, None)
        m0, m1, m2, m3 = (
            functional.conv2d(rows, weight, bias, padding=(0, 1))
            for rows, weight, bias in zip(sums, self.weights, biases, strict=True)
        )
        both = torch.stack([y.movedim(1, 3) for y in (m0 + m1 + m2, m1 - m2 + m3)], dim=2)
        return both.flatten(1, 2)[:, :height].movedim(3, 1)


def suits_winograd(convolution: nn.Module) -> TypeGuard[nn.Conv2d]:
    """Whether a module is a plain 3x3 convolution that keeps the size, wide enough for this to be faster."""
    return (
        type(convolution) is nn.Conv2d
        and convolution.kernel_size == (3, 3)
        and convolution.padding == (1, 1)
        and convolution.stride == convolution.dilation == (1, 1)
        and convolution.groups == 1
        and convolution.padding_mode == "zeros"
        and min(convolution.in_channels, convolution.out_channels) >= _WIDE
    )
