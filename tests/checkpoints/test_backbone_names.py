import pytest
import torch

from syncl.backbones import CpFpnConfig, FpnConfig, ResNetConfig, VoVNetConfig
from syncl.checkpoints.backbones import fpn_names, published_vovnet_names, resnet_names, vovnet_names
from syncl.errors import SynclError


@pytest.mark.parametrize("variant", ["V-19-slim", "V-39", "V-99"])
def test_vovnet_names_round_trip(variant: str) -> None:
    with torch.device("meta"):
        ours = set(VoVNetConfig(variant=variant).build().state_dict())
    published = published_vovnet_names(ours)
    back = vovnet_names(published.values())
    assert {back[published[name]] for name in ours} == ours
    assert all(back[published[name]] == name for name in ours)


@pytest.mark.parametrize(
    ("published", "ours"),
    [
        ("stem.stem_3/norm.running_mean", "stem.2.norm.running_mean"),
        ("stage4.OSA4_9.layers.4.OSA4_9_4/conv.weight", "stage4.8.layers.4.conv.weight"),
        ("stage5.OSA5_1.concat.OSA5_1_concat/norm.bias", "stage5.0.concat.norm.bias"),
        ("stage2.OSA2_1.ese.fc.bias", "stage2.0.ese.fc.bias"),
    ],
)
def test_vovnet_examples(published: str, ours: str) -> None:
    assert vovnet_names([published]) == {published: ours}
    assert published_vovnet_names([ours]) == {ours: published}


def test_resnet_and_fpn_names_are_the_published_ones() -> None:
    with torch.device("meta"):
        net = ResNetConfig(depth=50, dcn_stages=(3, 4)).build()
        necks = [
            FpnConfig(norm="batch").build(net.channels, net.strides),
            CpFpnConfig().build(net.channels, net.strides),
        ]
    assert resnet_names(net.state_dict()) == {name: name for name in net.state_dict()}
    for neck in necks:
        assert fpn_names(neck.state_dict()) == {name: name for name in neck.state_dict()}


def test_offsets_of_old_checkpoints_are_found() -> None:
    old = "layer3.0.conv2_offset.weight"
    assert resnet_names([old]) == {old: "layer3.0.conv2.conv_offset.weight"}


@pytest.mark.parametrize(
    ("mapping", "name"),
    [
        (resnet_names, "fc.weight"),
        (resnet_names, "img_backbone.conv1.weight"),
        (vovnet_names, "layer1.0.conv1.weight"),
        (vovnet_names, "stage3.OSA3_1.layers.0.OSA3_2_0/conv.weight"),  # numbers that disagree
        (published_vovnet_names, "stage3.OSA3_1.ese.fc.weight"),
        (fpn_names, "lateral_convs.conv.weight"),
    ],
)
def test_unknown_names_are_refused(mapping: object, name: str) -> None:
    with pytest.raises(SynclError, match=name.replace(".", r"\.")):
        mapping([name])
