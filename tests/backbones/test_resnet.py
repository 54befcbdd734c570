import pytest
import torch
from torch import Tensor, nn

from syncl.backbones import ResNet, ResNetConfig
from syncl.errors import SynclError

SMALL = ResNetConfig(
    depth=None,
    block="basic",
    blocks=(1, 1, 2, 1),
    stem_width=16,
    widths=(16, 32, 64, 128),
    out_stages=(2, 3, 4),
)
SMALL_BOTTLENECK = ResNetConfig(
    depth=None, block="bottleneck", blocks=(1, 1, 2, 1), stem_width=8, widths=(4, 8, 8, 16)
)


def _with(config: ResNetConfig, **changes: object) -> ResNetConfig:
    return ResNetConfig(**{**vars(config), **changes})


def _live_norms(module: nn.Module) -> list[str]:
    return [
        name for name, child in module.named_modules() if isinstance(child, nn.BatchNorm2d) and child.training
    ]


def test_small_net_has_the_shapes_it_promises() -> None:
    net = SMALL.build()
    features = net(torch.randn(2, 3, 96, 160))
    assert net.channels == (32, 64, 128)
    assert net.strides == (8, 16, 32)
    assert [tuple(level.shape) for level in features] == [(2, 32, 12, 20), (2, 64, 6, 10), (2, 128, 3, 5)]
    assert sum(parameter.numel() for parameter in net.parameters()) < 1_000_000


# Parameters of torchvision's networks of the same names, less their 1000-way classifier and its bias.
@pytest.mark.parametrize(
    ("depth", "parameters", "width"),
    [
        (18, 11_689_512 - 513_000, 512),
        (34, 21_797_672 - 513_000, 512),
        (50, 25_557_032 - 2_049_000, 2048),
        (101, 44_549_160 - 2_049_000, 2048),
    ],
)
def test_named_depths_have_the_published_size(depth: int, parameters: int, width: int) -> None:
    with torch.device("meta"):
        net = ResNetConfig(depth=depth).build()
        assert sum(parameter.numel() for parameter in net.parameters()) == parameters
        assert net(torch.zeros(1, 3, 64, 64))[-1].shape == (1, width, 2, 2)


def test_style_moves_the_stride_of_a_bottleneck() -> None:
    for style, strides in (("pytorch", (1, 2)), ("caffe", (2, 1))):
        block = _with(SMALL_BOTTLENECK, style=style).build().get_submodule("layer2.0")
        assert (block.conv1.stride[0], block.conv2.stride[0]) == strides


def test_norm_policies_hold_in_training_mode() -> None:
    images = torch.randn(2, 3, 32, 32)
    for norm, trained, moves in (("live", True, True), ("fixed", True, False), ("frozen", False, False)):
        net = _with(SMALL, norm=norm).build().train()
        before = net.bn1.running_mean.clone()
        net(images)
        assert net.bn1.weight.requires_grad is trained
        assert (not torch.equal(net.bn1.running_mean, before)) is moves
        assert bool(_live_norms(net)) is moves


def test_frozen_stages_neither_train_nor_count() -> None:
    net = _with(SMALL, frozen_stages=1).build().eval().train()
    sum(level.sum() for level in net(torch.randn(2, 3, 32, 32))).backward()
    with_gradient = {name.split(".")[0] for name, value in net.named_parameters() if value.grad is not None}
    assert with_gradient == {"layer2", "layer3", "layer4"}
    assert not [name for name in _live_norms(net) if name.split(".")[0] in {"bn1", "layer1"}]


def test_frozen_norm_leaves_every_branch_alive() -> None:
    live, frozen = (_with(SMALL, norm=norm).build() for norm in ("live", "frozen"))
    assert not live.get_submodule("layer2.0").bn2.weight.any()  # starts as the identity, then learns
    assert frozen.get_submodule("layer2.0").bn2.weight.all()


def test_checkpointing_gives_equal_outputs_gradients_and_statistics() -> None:
    torch.manual_seed(0)
    plain = _with(SMALL_BOTTLENECK, dcn_stages=(4,)).build()
    for name, parameter in plain.named_parameters():
        if "conv_offset" in name or name.endswith("bn3.weight"):
            nn.init.normal_(parameter, std=0.3)
    saving = _with(SMALL_BOTTLENECK, dcn_stages=(4,), checkpointing=True).build()
    saving.load_state_dict(plain.state_dict())
    images = torch.randn(2, 3, 64, 64)

    def run(net: ResNet) -> tuple[Tensor, ...]:
        outputs: tuple[Tensor, ...] = net(images)
        sum(level.square().mean() for level in outputs).backward()
        return outputs

    for ours, expected in zip(run(saving), run(plain), strict=True):
        torch.testing.assert_close(ours, expected)
    for (name, ours), expected in zip(saving.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, msg=name)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(saving.get_buffer(name), buffer)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (_with(SMALL, widths=(16, 32)), "widths"),
        (_with(SMALL, blocks=(1, 0, 1, 1)), "blocks"),
        (_with(SMALL, out_stages=(3, 2)), "out_stages"),
        (_with(SMALL, out_stages=()), "out_stages"),
        (_with(SMALL, out_stages=(5,)), "out_stages"),
        (_with(SMALL, frozen_stages=5), "frozen_stages"),
        (_with(SMALL, dcn_stages=(4,)), "dcn_stages"),
        (ResNetConfig(depth=99), "depth"),
    ],
)
def test_contradictory_options_name_the_field(config: ResNetConfig, field: str) -> None:
    with pytest.raises(SynclError, match=field):
        config.build()
