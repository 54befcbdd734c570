"""Winograd's convolutions are those that they are made of."""

import pytest
import torch
from torch import nn

from syncl.layers.winograd import WinogradConv2d, suits_winograd


@pytest.mark.parametrize(("height", "width", "bias"), [(6, 5, True), (7, 4, False), (1, 3, True)])
def test_it_is_the_convolution_that_it_is_made_of(height: int, width: int, bias: bool) -> None:
    convolution = nn.Conv2d(5, 6, 3, padding=1, bias=bias).double()
    images = torch.randn(2, 5, height, width, dtype=torch.float64)
    found = WinogradConv2d(convolution, torch.float64)(images)
    torch.testing.assert_close(found, convolution(images), rtol=1e-12, atol=1e-12)
    assert found.stride(1) == 1, "channels are next to each other"


def test_it_rounds_less_than_twice_as_much_in_half_precision() -> None:
    torch.manual_seed(0)
    convolution = nn.Conv2d(128, 128, 3, padding=1)
    images = torch.randn(1, 128, 12, 16).relu().bfloat16()
    with torch.no_grad():
        ours = WinogradConv2d(convolution, torch.bfloat16)(images)
        exact = convolution.double()(images.double())
        once = convolution.bfloat16()(images)
    assert ours.dtype == torch.bfloat16
    assert (ours - exact).norm() < 2 * (once - exact).norm() < 0.01 * exact.norm()


@pytest.mark.parametrize(
    "other",
    [
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3),
        nn.Conv2d(128, 128, 3, padding=1, stride=2),
        nn.Conv2d(128, 128, 3, padding=1, groups=2),
        nn.Conv2d(128, 128, 3, padding=1, padding_mode="circular"),
        nn.Conv2d(64, 128, 3, padding=1),
        nn.Linear(128, 128),
    ],
    ids=str,
)
def test_other_convolutions_stay(other: nn.Module) -> None:
    assert suits_winograd(nn.Conv2d(128, 128, 3, padding=1))
    assert not suits_winograd(other)
