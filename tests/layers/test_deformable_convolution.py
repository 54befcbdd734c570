import math
import sys
from collections.abc import Iterator
from types import ModuleType

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from syncl.layers.deformable_convolution import (
    DeformableConvolution,
    _fused_kernel,
    deformable_convolution,
)


@pytest.fixture(autouse=True)
def fresh_kernel_choice() -> Iterator[None]:
    _fused_kernel.cache_clear()
    yield
    _fused_kernel.cache_clear()


@pytest.mark.parametrize(("stride", "padding", "dilation"), [(1, 1, 1), (2, 1, 1), (1, 2, 2), (2, 0, 1)])
def test_is_an_ordinary_convolution_at_zero_offsets(stride: int, padding: int, dilation: int) -> None:
    features, weight = torch.randn(2, 5, 9, 12), torch.randn(4, 5, 3, 3)
    expected = F.conv2d(features, weight, stride=stride, padding=padding, dilation=dilation)
    size = expected.shape[-2:]

    ours = deformable_convolution(
        features, torch.zeros(2, 18, *size), torch.ones(2, 9, *size), weight, stride, padding, dilation
    )

    torch.testing.assert_close(ours, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2])
def test_equals_an_explicit_loop(stride: int) -> None:
    features, weight = torch.randn(1, 2, 6, 7).double(), torch.randn(3, 2, 3, 3).double()
    size = F.conv2d(features, weight, stride=stride, padding=1).shape[-2:]
    offsets = 3 * torch.randn(1, 18, *size).double()  # many taps fall partly or wholly outside
    modulation = torch.rand(1, 9, *size).double()

    ours = deformable_convolution(features, offsets, modulation, weight, stride)

    torch.testing.assert_close(ours, _loop(features, offsets, modulation, weight, stride))


def test_offsets_are_dy_dx_for_each_tap_row_by_row() -> None:
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 1, 2] = 1  # tap 5: the right neighbour
    offsets = torch.zeros(1, 18, 4, 4)
    offsets[:, 2 * 5] = 2  # dy
    offsets[:, 2 * 5 + 1] = -1.5  # dx

    ours = deformable_convolution(features, offsets, torch.ones(1, 9, 4, 4), weight)

    # At (1, 2) the tap reads row 1 + 2 = 3, column 2 + 1 - 1.5 = 1.5: between 13 and 14.
    assert ours[0, 0, 1, 2] == 13.5
    assert ours[0, 0, 2].tolist() == [0, 0, 0, 0]  # row 4 is outside


def test_gradients() -> None:
    features = torch.randn(1, 2, 4, 4, dtype=torch.float64, requires_grad=True)
    # A third of a pixel away from whole ones, where bilinear sampling has no derivative.
    offsets = torch.randint(-2, 3, (1, 18, 4, 4)).double().add(1 / 3).requires_grad_()
    modulation = torch.rand(1, 9, 4, 4, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(2, 2, 3, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(deformable_convolution, (features, offsets, modulation, weight))


def test_half_precision_still_finds_the_right_pixel_of_a_wide_map() -> None:
    features = torch.zeros(1, 1, 3, 1600, dtype=torch.bfloat16)
    features[0, 0, 1, 1501] = 1
    weight = torch.zeros(1, 1, 3, 3, dtype=torch.bfloat16)
    weight[0, 0, 1, 1] = 1
    zeros = torch.zeros(1, 18, 3, 1600, dtype=torch.bfloat16)

    ours = deformable_convolution(features, zeros, torch.ones_like(zeros[:, :9]), weight)

    assert ours.dtype == torch.bfloat16
    torch.testing.assert_close(ours, features, rtol=1e-2, atol=1e-2)


def test_a_new_layer_is_half_a_convolution() -> None:
    layer = DeformableConvolution(4, 6, stride=2)
    features = torch.randn(1, 4, 8, 8)
    expected = 0.5 * F.conv2d(features, layer.weight, stride=2, padding=1)
    torch.testing.assert_close(layer(features), expected, rtol=1e-4, atol=1e-5)


def test_a_fused_kernel_is_used_where_it_can_be_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def kernel(
        features: Tensor, offsets: Tensor, weight: Tensor, *, mask: Tensor, **sizes: int
    ) -> Tensor:  # the signature of torchvision.ops.deform_conv2d, as far as it is used
        calls.append(sizes)
        return torch.zeros(1)

    _pretend_torchvision(monkeypatch, kernel)
    layer = DeformableConvolution(4, 6, stride=2)

    assert layer(torch.randn(1, 4, 8, 8)).shape == (1,)
    assert calls[-1] == {"stride": 2, "padding": 1, "dilation": 1}


def test_what_is_exported_has_operators_of_torch_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    _pretend_torchvision(monkeypatch, lambda features, *_, **__: features)
    layer, features = DeformableConvolution(2, 2).eval(), torch.randn(1, 2, 4, 4)
    assert layer(features) is features, "the fused kernel runs"
    program = torch.export.export(layer, (features,), strict=False)
    assert any("grid_sampler" in str(node.target) for node in program.graph.nodes)


def test_a_broken_fused_kernel_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    def kernel(*tensors: Tensor, **options: object) -> Tensor:
        raise NotImplementedError("Could not run 'torchvision::deform_conv2d' with this backend")

    _pretend_torchvision(monkeypatch, kernel)
    assert DeformableConvolution(4, 6)(torch.randn(1, 4, 8, 8)).shape == (1, 6, 8, 8)


def _pretend_torchvision(monkeypatch: pytest.MonkeyPatch, kernel: object) -> None:
    package, operators = ModuleType("torchvision"), ModuleType("torchvision.ops")
    operators.deform_conv2d = kernel  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "torchvision", package)
    monkeypatch.setitem(sys.modules, "torchvision.ops", operators)


def _loop(features: Tensor, offsets: Tensor, modulation: Tensor, weight: Tensor, stride: int) -> Tensor:
    _, channels, height, width = features.shape
    out = torch.zeros(1, weight.shape[0], *offsets.shape[-2:], dtype=features.dtype)
    for row in range(out.shape[2]):
        for column in range(out.shape[3]):
            for tap in range(9):
                y = row * stride - 1 + tap // 3 + offsets[0, 2 * tap, row, column].item()
                x = column * stride - 1 + tap % 3 + offsets[0, 2 * tap + 1, row, column].item()
                sample = torch.zeros(channels, dtype=features.dtype)
                for cell_y in (math.floor(y), math.floor(y) + 1):
                    for cell_x in (math.floor(x), math.floor(x) + 1):
                        if 0 <= cell_y < height and 0 <= cell_x < width:
                            share = (1 - abs(y - cell_y)) * (1 - abs(x - cell_x))
                            sample += share * features[0, :, cell_y, cell_x]
                scaled = modulation[0, tap, row, column] * sample
                out[0, :, row, column] += weight[:, :, tap // 3, tap % 3] @ scaled
    return out


def test_whole_pixels_of_a_large_map_are_read_as_they_are():
    torch.manual_seed(0)
    features, weight = torch.randn(1, 4, 57, 100), torch.randn(3, 4, 3, 3)
    still, whole = torch.zeros(1, 18, 57, 100), torch.ones(1, 9, 57, 100)
    found = deformable_convolution(features, still, whole, weight)
    expected = F.conv2d(features.double(), weight.double(), padding=1)
    # Places that round make 1e-4 of it.
    assert (found - expected).abs().max() < 2e-5
