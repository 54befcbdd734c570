import pytest
import torch

from syncl.backbones import ConvNeXt, ConvNeXtConfig
from syncl.errors import SynclError

TINY = ((1, 2, 1, 1), (4, 4, 8, 8))


def tiny(**options: object) -> ConvNeXt:
    return ConvNeXtConfig(None, *TINY, **options).build()


@pytest.fixture(scope="module")
def images() -> torch.Tensor:
    return torch.randn(3, 3, 64, 96)


# Parameters without classifier and last norm, as timm and torchvision have them.
@pytest.mark.parametrize(
    ("variant", "parameters"),
    [("tiny", 27818592), ("small", 49453152), ("base", 87564416), ("large", 196227264)],
)
def test_variants_have_the_published_size(variant: str, parameters: int) -> None:
    with torch.device("meta"):
        net = ConvNeXtConfig(variant).build()
    norms = sum(parameter.numel() for parameter in net.output_norms.parameters())
    assert sum(parameter.numel() for parameter in net.parameters()) - norms == parameters


def test_shapes_and_strides(images: torch.Tensor) -> None:
    net = tiny(out_stages=(2, 4))
    assert net.channels == (4, 8) and net.strides == (8, 32)
    assert [tuple(level.shape) for level in net(images)] == [(3, 4, 8, 12), (3, 8, 2, 3)]


def test_frozen_parts_stay(images: torch.Tensor) -> None:
    net = tiny(frozen_stages=2, layer_scale=1.0)
    sum(level.square().sum() for level in net(images)).backward()
    trained = {name.rsplit(".", 2)[0] for name, value in net.named_parameters() if value.grad is not None}
    assert all(name.startswith(("stages.2", "stages.3", "output_norms")) for name in trained)
    assert any(name.startswith("stages.2.downsample") for name in trained)


def test_blocks_are_left_out_in_training_image_by_image(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    net = tiny(drop_path=0.5, layer_scale=1.0, out_stages=(4,))
    assert [block.drop_path for stage in net.stages for block in stage.blocks] == [0, 0.125, 0.25, 0.375, 0.5]
    block = net.stages[3].blocks[0]
    features = torch.randn(64, 8, 2, 3)
    whole = block.eval()(features) - features
    changes = block.train()(features) - features
    kept = changes.flatten(1).any(1)
    assert 16 < kept.sum() < 48
    torch.testing.assert_close(changes[kept], 2 * whole[kept])


def test_checkpointing_gives_equal_gradients(images: torch.Tensor) -> None:
    plain, saving = tiny(layer_scale=1.0), tiny(layer_scale=1.0, checkpointing=True)
    saving.load_state_dict(plain.state_dict())
    for net in (plain, saving):
        sum(level.square().sum() for level in net(images)).backward()
    for (name, ours), expected in zip(saving.named_parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours.grad, expected.grad, msg=name)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"variant": "huge"}, r"variant: 'huge' is unknown; choose from tiny"),
        ({"variant": None, "blocks": (1, 1)}, r"blocks=\(1, 1\) and widths="),
        ({"out_stages": (0, 1)}, "out_stages"),
        ({"frozen_stages": 5}, "frozen_stages: 5"),
        ({"drop_path": 1.0}, "drop_path: 1.0"),
    ],
)
def test_options_out_of_range_name_the_field(options: dict, said: str) -> None:
    with pytest.raises(SynclError, match=said):
        ConvNeXtConfig(**options).build()
