import pytest
import torch
from torch import nn

from syncl.backbones import VoVNetConfig
from syncl.backbones.vovnet import AggregationBlock, ChannelAttention
from syncl.errors import SynclError


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(1, 3, 70, 96)


def test_shapes_round_up_like_the_originals_pooling(images: torch.Tensor) -> None:
    net = VoVNetConfig(variant="V-19-slim", out_stages=(2, 3, 4, 5)).build()
    assert net.channels == (112, 256, 384, 512)
    assert net.strides == (4, 8, 16, 32)
    assert [tuple(level.shape[-2:]) for level in net(images)] == [(18, 24), (9, 12), (4, 6), (2, 3)]


def test_v99_has_the_size_of_the_original() -> None:
    with torch.device("meta"):
        net = VoVNetConfig(variant="V-99").build()
    assert sum(parameter.numel() for parameter in net.parameters()) == pytest.approx(69.5e6, rel=1e-3)


# Blocks of stages 2 to 5 and convolutions in each block, as published with the VoVNetV2 weights.
@pytest.mark.parametrize(
    ("variant", "blocks", "layers"),
    [
        ("V-19-slim", [1, 1, 1, 1], 3),
        ("V-19", [1, 1, 1, 1], 3),
        ("V-39", [1, 1, 2, 2], 5),
        ("V-57", [1, 1, 4, 3], 5),
        ("V-99", [1, 3, 9, 3], 5),
    ],
)
def test_variants_have_the_published_layout(variant: str, blocks: list[int], layers: int) -> None:
    with torch.device("meta"):
        net = VoVNetConfig(variant=variant).build()
    stages = [list(net.get_submodule(f"stage{number}").children()) for number in range(2, 6)]
    assert [len(stage) for stage in stages] == blocks
    assert {len(block.layers) for stage in stages for block in stage} == {layers}


def test_statistics_stay_fixed_but_scales_are_trained(images: torch.Tensor) -> None:
    net = VoVNetConfig(variant="V-19-slim").build().eval().train()
    before = {name: buffer.clone() for name, buffer in net.named_buffers()}
    net(images)[-1].sum().backward()
    for name, buffer in net.named_buffers():
        assert torch.equal(buffer, before[name]), name
    assert net.get_submodule("stem.0").norm.weight.grad.any()


def test_frozen_stages(images: torch.Tensor) -> None:
    net = VoVNetConfig(variant="V-19-slim", frozen_stages=2, norm="live").build().train()
    net(images)[-1].sum().backward()
    trained = {name.split(".")[0] for name, value in net.named_parameters() if value.grad is not None}
    assert trained == {"stage4", "stage5"}
    norms = [
        (name, child.training) for name, child in net.named_modules() if isinstance(child, nn.BatchNorm2d)
    ]
    assert {name.split(".")[0] for name, live in norms if live} == {"stage4", "stage5"}


def test_checkpointing_gives_equal_gradients(images: torch.Tensor) -> None:
    plain = VoVNetConfig(variant="V-19-slim").build()
    saving = VoVNetConfig(variant="V-19-slim", checkpointing=True).build()
    saving.load_state_dict(plain.state_dict())
    for net in (plain, saving):
        sum(level.square().sum() for level in net(images)).backward()
    for (name, ours), expected in zip(saving.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, msg=name)


def test_channel_attention_is_a_hard_sigmoid_of_the_mixed_means() -> None:
    attention = ChannelAttention(2)
    with torch.no_grad():
        attention.fc.weight.copy_(torch.tensor([[0.0, 1.0], [1.0, 0.0]])[:, :, None, None])
        attention.fc.bias.copy_(torch.tensor([0.0, -9.0]))
    features = torch.stack([torch.full((2, 2), 4.0), torch.tensor([[1.0, 2.0], [0.0, 3.0]])])[None]
    ours = attention(features)
    # Means 4 and 1.5: the first is scaled by (1.5 + 3) / 6, the second by relu6(4 - 9 + 3) / 6 = 0.
    torch.testing.assert_close(ours[0, 0], torch.full((2, 2), 3.0))
    assert not ours[0, 1].any()


def test_only_later_blocks_of_a_stage_have_a_shortcut() -> None:
    net = VoVNetConfig(variant="V-39").build()
    blocks = [(name, block) for name, block in net.named_modules() if isinstance(block, AggregationBlock)]
    assert [name for name, block in blocks if block.residual] == ["stage4.1", "stage5.1"]


def test_unknown_options_name_the_field() -> None:
    with pytest.raises(SynclError, match=r"variant.*V-100.*V-99"):
        VoVNetConfig(variant="V-100").build()
    with pytest.raises(SynclError, match="out_stages"):
        VoVNetConfig(out_stages=(1, 2)).build()
    with pytest.raises(SynclError, match="frozen_stages"):
        VoVNetConfig(frozen_stages=7).build()


def test_attention_pools_alike_in_half_precision() -> None:
    attention = ChannelAttention(8)
    features = torch.rand(2, 8, 20, 30).contiguous(memory_format=torch.channels_last)
    with torch.no_grad():
        expected = attention(features)
        found = attention.bfloat16()(features.bfloat16())
    torch.testing.assert_close(found.float(), expected, atol=0.01, rtol=0)
