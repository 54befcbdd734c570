"""Backbones and necks against the originals, on every golden that holds a backbone and a neck alone."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from golden import Golden, discover
from torch import Tensor

from syncl.backbones import Backbone, CpFpnConfig, FpnConfig, Neck, ResNetConfig, VoVNetConfig
from syncl.backbones.vovnet import VoVNet
from syncl.checkpoints.names import published_vovnet_name

SHIPPED = (
    "mutr3d/resnet101_dcn",
    "mutr3d/resnet50_dcn",
    "pftrack/vovnet19slim_cpfpn",
    "pftrack/vovnet_cpfpn",
    "pftrack/vovnet_cpfpn_4level",
    "pftrack/vovnet_fpn_4level",
    "streampetr/r50_cpfpn",
    "streampetr/vov99_cpfpn",
)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    root: Path = metafunc.config.getoption("--goldens")
    found = [name for name in discover(root) if _is_backbone(root / name)]
    # Without a folder the shipped names remain, so that the report shows what was skipped.
    metafunc.parametrize("name", found or SHIPPED)


def test_features_equal_the_originals(open_golden: Callable[[str], Golden], name: str) -> None:
    golden = open_golden(name)
    config = golden.config
    with torch.device("meta"):  # fresh weights would be drawn for nothing
        backbone, neck = _build(config["img_backbone"], config["img_neck"])
    _load(backbone, golden.state_dict("img_backbone."))
    neck.load_state_dict(golden.state_dict("img_neck."), strict=True, assign=True)
    backbone.eval()
    neck.eval()

    (image,) = golden.manifest["inputs"]
    with torch.inference_mode():
        features = backbone(golden.input(image))
        pyramid = neck(features)

    by_stride = {
        "backbone": dict(zip(backbone.strides, features, strict=True)),
        "neck": dict(zip(neck.strides, pyramid, strict=True)),
    }
    for output, entry in golden.manifest["outputs"].items():
        part, stride = _where(output, neck)
        golden.check(output, _slice(by_stride[part][stride], entry["meaning"]))


def _is_backbone(folder: Path) -> bool:
    config = json.loads((folder / "manifest.json").read_text()).get("config", {})
    return set(config) == {"img_backbone", "img_neck"}


def _build(backbone: dict[str, Any], neck: dict[str, Any]) -> tuple[Backbone, Neck]:
    built: Backbone
    if backbone["type"] == "ResNet":
        dcn = backbone.get("stage_with_dcn", ()) if "dcn" in backbone else ()
        built = ResNetConfig(
            depth=backbone["depth"],
            style=backbone["style"],
            out_stages=tuple(index + 1 for index in backbone["out_indices"]),
            frozen_stages=backbone["frozen_stages"],
            norm="fixed" if backbone["norm_cfg"]["requires_grad"] else "frozen",
            dcn_stages=tuple(stage for stage, used in enumerate(dcn, start=1) if used),
        ).build()
    else:
        built = VoVNetConfig(
            variant=backbone["spec_name"].removesuffix("-eSE"),
            out_stages=tuple(int(name.removeprefix("stage")) for name in backbone["out_features"]),
            frozen_stages=backbone.get("frozen_stages", -1),
        ).build()
    assert built.channels == tuple(neck["in_channels"])
    width, start = neck["out_channels"], neck.get("start_level", 0)
    if neck["type"] == "CPFPN":
        return built, CpFpnConfig(width, start).build(built.channels, built.strides)
    fpn = FpnConfig(
        out_channels=width,
        num_outs=neck["num_outs"],
        start_level=start,
        extra_convs=neck.get("add_extra_convs") or "none",
        relu_before_extra_convs=neck.get("relu_before_extra_convs", False),
        norm="batch" if neck.get("norm_cfg") else "none",
    )
    return built, fpn.build(built.channels, built.strides)


def _load(backbone: Backbone, weights: dict[str, Tensor]) -> None:
    if isinstance(backbone, VoVNet):
        published = {name: published_vovnet_name(name) for name in backbone.state_dict()}
        assert set(published.values()) == set(weights)
        weights = {name: weights[theirs] for name, theirs in published.items()}
    backbone.load_state_dict(weights, strict=True, assign=True)


def _where(output: str, neck: Neck) -> tuple[str, int]:
    """Which part an output's name speaks of, and its stride (level k and stage k have stride 2^k)."""
    if found := re.fullmatch(r"fpn(\d+)", output):
        return "neck", neck.strides[int(found[1])]
    if found := re.fullmatch(r"([cp])_stride(\d+)", output):
        return ("backbone" if found[1] == "c" else "neck"), int(found[2])
    found = re.fullmatch(r"(c|p|stage)(\d+)", output)
    assert found, f"cannot tell which feature map {output!r} is"
    return ("neck" if found[1] == "p" else "backbone"), 2 ** int(found[2])


def _slice(features: Tensor, meaning: str) -> Tensor:
    """Cut the map as the manifest says: `image 0`, `channels 0::8` or `[:, ::8]`."""
    if found := re.search(r"image (\d+)", meaning):
        features = features[int(found[1])][None]
    if found := re.search(r"channels 0::(\d+)|\[:, ::(\d+)\]", meaning):
        features = features[:, :: int(found[1] or found[2])]
    return features
