import re

import pytest
import torch

from syncl.backbones import VoVNetConfig
from syncl.checkpoints.names import published_vovnet_name
from syncl.errors import SynclError


@pytest.mark.parametrize("variant", ["V-19-slim", "V-39", "V-99"])
def test_every_vovnet_parameter_has_a_published_name_of_its_own(variant: str) -> None:
    with torch.device("meta"):
        ours = set(VoVNetConfig(variant=variant).build().state_dict())
    published = {name: published_vovnet_name(name) for name in ours}
    assert set(published) == ours and len(set(published.values())) == len(ours)


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
    assert published_vovnet_name(ours) == published


@pytest.mark.parametrize("name", ["stage3.OSA3_1.ese.fc.weight", "layer1.0.conv1.weight"])
def test_unknown_names_are_refused(name: str) -> None:
    with pytest.raises(SynclError, match=re.escape(name)):
        published_vovnet_name(name)
