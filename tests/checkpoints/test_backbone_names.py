import re

import pytest
import torch

from syncl.backbones import ConvNeXtConfig, CpFpnConfig, VoVNetConfig
from syncl.checkpoints.formats import find_format
from syncl.checkpoints.names import published_vovnet_name
from syncl.detectors import Detr3dConfig, ImageEncoderConfig
from syncl.errors import SynclError
from syncl.trackers import SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig

CONVNEXT = ModelConfig(
    InputConfig((64, 64)),
    Detr3dConfig(
        ImageEncoderConfig(ConvNeXtConfig(None, (1, 1, 1, 2), (4, 4, 8, 8)), CpFpnConfig(32)),
        ("car",),
        queries=7,
        dim=32,
        heads=4,
        layers=1,
        hidden=48,
    ),
    SingleFrameConfig(),
)


def published_convnext() -> dict[str, torch.Tensor]:
    """A classifier of the authors' repository."""
    found = {"norm.weight": torch.ones(8), "norm.bias": torch.zeros(8), "head.weight": torch.ones(3, 8)}
    widths = (4, 4, 8, 8)
    for stage, (width, blocks) in enumerate(zip(widths, (1, 1, 1, 2))):
        before = widths[stage - 1] if stage else 3
        convolution = torch.full((width, before, 2, 2) if stage else (width, 3, 4, 4), 0.5)
        first, second = (torch.ones(before), convolution) if stage else (convolution, torch.ones(width))
        for part, weight in enumerate((first, second)):
            place = f"downsample_layers.{stage}.{part}"
            found |= {f"{place}.weight": weight, f"{place}.bias": torch.zeros(len(weight))}
        for block in range(blocks):
            place = f"stages.{stage}.{block}"
            for name, shape in {
                "dwconv": (width, 1, 7, 7),
                "norm": (width,),
                "pwconv1": (4 * width, width),
                "pwconv2": (width, 4 * width),
            }.items():
                found |= {
                    f"{place}.{name}.weight": torch.full(shape, stage + 0.1 * block),
                    f"{place}.{name}.bias": torch.zeros(shape[0]),
                }
            found[f"{place}.gamma"] = torch.ones(width)
    return found


@pytest.mark.parametrize("prefix", ["", "backbone.", "img_backbone."])
def test_a_convnext_is_found_and_norms_of_outputs_are_new(prefix: str) -> None:
    weights = published_convnext()
    inside = {prefix + name: tensor for name, tensor in weights.items() if name[:4] not in ("norm", "head")}
    read = find_format("backbone").read(inside | {"head.weight": torch.ones(1)}, CONVNEXT, "convnext.pth")
    assert len(read.weights) == len(inside) and set(read.ignored) == {"head.weight"}
    place = "detector.image_encoder.backbone."
    assert (read.weights[f"{place}stages.3.blocks.1.mlp.fc1.weight"] == 3.1).all()
    new = {name for name in read.new if name.startswith(place)}
    assert new == {f"{place}output_norms.{stage}.{leaf}" for stage in (3, 4) for leaf in ("weight", "bias")}


def test_norms_of_outputs_are_taken_where_a_file_has_them() -> None:
    norms = {f"norm{stage}.{leaf}": torch.full((8,), 7.0) for stage in (2, 3) for leaf in ("weight", "bias")}
    read = find_format("backbone").read(published_convnext() | norms, CONVNEXT, "f")
    assert (read.weights["detector.image_encoder.backbone.output_norms.4.bias"] == 7).all()
    assert set(read.ignored) == {"norm.weight", "norm.bias", "head.weight"}


def test_a_convnext_of_another_size_is_refused() -> None:
    weights = published_convnext()
    weights["stages.3.1.gamma"] = torch.ones(9)
    with pytest.raises(SynclError, match=r"stages\.3\.blocks\.1\.gamma has shape \(9,\), the model needs"):
        find_format("backbone").read(weights, CONVNEXT, "f")


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
