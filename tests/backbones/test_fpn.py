import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from syncl.backbones import CpFpnConfig, Fpn, FpnConfig
from syncl.errors import SynclError

CHANNELS, STRIDES = (4, 6, 8), (8, 16, 32)


@pytest.fixture
def features() -> tuple[Tensor, ...]:
    # Odd sizes: each level is enlarged to the exact size of the finer one, not doubled.
    return torch.randn(2, 4, 11, 15), torch.randn(2, 6, 6, 8), torch.randn(2, 8, 3, 4)


def test_levels_are_summed_top_down_by_nearest_neighbour(features: tuple[Tensor, ...]) -> None:
    neck = FpnConfig(out_channels=5).build(CHANNELS, STRIDES)
    first, second, third = (conv(level) for conv, level in zip(neck.lateral_convs, features, strict=True))
    second = second + F.interpolate(third, size=(6, 8))
    first = first + F.interpolate(second, size=(11, 15))

    outputs = neck(features)

    for output, conv, expected in zip(outputs, neck.fpn_convs, (first, second, third), strict=True):
        torch.testing.assert_close(output, conv(expected))


@pytest.mark.parametrize("extra", ["none", "on_input", "on_lateral", "on_output"])
def test_extra_levels(features: tuple[Tensor, ...], extra: str) -> None:
    neck = FpnConfig(out_channels=5, num_outs=4, start_level=1, extra_convs=extra).build(CHANNELS, STRIDES)
    assert neck.channels == (5, 5, 5, 5)
    assert neck.strides == (16, 32, 64, 128)

    outputs = neck(features)

    assert [tuple(level.shape[-2:]) for level in outputs] == [(6, 8), (3, 4), (2, 2), (1, 1)]
    if extra == "none":
        torch.testing.assert_close(outputs[2], outputs[1][..., ::2, ::2])
        return
    lateral = neck.lateral_convs[1](features[2])
    source = {"on_input": features[2], "on_lateral": lateral, "on_output": outputs[1]}[extra]
    torch.testing.assert_close(outputs[2], neck.fpn_convs[2](source))
    torch.testing.assert_close(outputs[3], neck.fpn_convs[3](outputs[2]))


def test_relu_stands_before_the_second_extra_level_only(features: tuple[Tensor, ...]) -> None:
    config = FpnConfig(out_channels=5, num_outs=5, extra_convs="on_output", relu_before_extra_convs=True)
    neck = config.build(CHANNELS, STRIDES)
    outputs = neck(features)
    torch.testing.assert_close(outputs[3], neck.fpn_convs[3](outputs[2]))
    torch.testing.assert_close(outputs[4], neck.fpn_convs[4](outputs[3].relu()))


def test_norm_replaces_every_bias() -> None:
    names = set(FpnConfig(norm="batch").build(CHANNELS, STRIDES).state_dict())
    assert "lateral_convs.0.bn.running_var" in names
    assert not [name for name in names if name.endswith("conv.bias")]


def test_cp_fpn_refines_the_finest_level_only(features: tuple[Tensor, ...]) -> None:
    neck = CpFpnConfig(out_channels=5, start_level=1).build(CHANNELS, STRIDES)
    full = FpnConfig(out_channels=5, start_level=1).build(CHANNELS, STRIDES)
    full.load_state_dict(neck.state_dict(), strict=False)

    ours, complete = neck(features), full(features)

    assert neck.strides == (16, 32)
    torch.testing.assert_close(ours[0], complete[0])
    torch.testing.assert_close(ours[1], neck.lateral_convs[1](features[2]))


def test_levels_that_do_not_fit_name_the_field() -> None:
    with pytest.raises(SynclError, match=r"num_outs: 2"):
        FpnConfig(num_outs=2).build(CHANNELS, STRIDES)
    with pytest.raises(SynclError, match=r"start_level: 3"):
        FpnConfig(start_level=3).build(CHANNELS, STRIDES)
    with pytest.raises(SynclError, match=r"CpFpnConfig\.start_level"):
        CpFpnConfig(start_level=-1).build(CHANNELS, STRIDES)


def test_wrong_number_of_inputs_is_refused(features: tuple[Tensor, ...]) -> None:
    neck: Fpn = FpnConfig().build(CHANNELS, STRIDES)
    with pytest.raises(ValueError, match="zip"):
        neck(features[:2])
