"""Adapters of published formats on small models: strictness, both directions, every kind of misfit."""

import dataclasses
from functools import cache
from typing import get_args

import pytest
import torch
from torch import Tensor

from syncl.backbones import CpFpnConfig, FpnConfig, ResNetConfig, VoVNetConfig
from syncl.checkpoints.formats import FORMATS, find_format
from syncl.commands.convert import Format
from syncl.detectors import (
    BevEncoderConfig,
    BevformerConfig,
    Detr3dConfig,
    ImageEncoderConfig,
    Mutr3dDetr3dConfig,
    PetrConfig,
    Petrv2Config,
    ProposalConfig,
    StreamPetrConfig,
)
from syncl.errors import SynclError
from syncl.recipes import RECIPES
from syncl.trackers import AdaTrackConfig, DqTrackConfig, Mutr3dConfig, PfTrackConfig, SingleFrameConfig
from syncl.trackers.model import InputConfig, ModelConfig

RESNET = ImageEncoderConfig(
    ResNetConfig(
        depth=None, block="bottleneck", blocks=(1, 1, 1, 1), stem_width=8, widths=(8,) * 4, dcn_stages=(3, 4)
    ),
    FpnConfig(32, num_outs=4),
)
VOVNET = ImageEncoderConfig(VoVNetConfig("V-19-slim", out_stages=(4, 5)), CpFpnConfig(32))
CLASSES = ("car", "bus", "pedestrian")
SIZES = {"dim": 32, "heads": 4, "layers": 2, "hidden": 48}
DETR3D = Detr3dConfig(RESNET, CLASSES, queries=7, **SIZES)
PETR = PetrConfig(VOVNET, CLASSES, queries=7, **SIZES)
DETECTORS = {
    "detr3d": DETR3D,
    "bevformer": BevformerConfig(RESNET, CLASSES, queries=7, bev=BevEncoderConfig((3, 4), 2), **SIZES),
    "mutr3d": Mutr3dDetr3dConfig(RESNET, CLASSES, queries=7, **SIZES),
    "ada_track": Mutr3dDetr3dConfig(RESNET, CLASSES, queries=7, **SIZES),
    "dqtrack": Petrv2Config(VOVNET, CLASSES, queries=7, **SIZES),
    "petr": PETR,
    "pf_track": dataclasses.replace(PETR, learned_contents=True),
    "petrv2": Petrv2Config(VOVNET, CLASSES, queries=7, **SIZES),
    "streampetr": StreamPetrConfig(
        RESNET, CLASSES, queries=7, propagated=4, memory_slots=8, objects_a_frame=4, **SIZES
    ),
}
# Others hold no detector head (see `test_cc_3dt_file`).
WHOLE = tuple(name for name in FORMATS if name not in ("backbone", "cc_3dt"))


TRACKERS = {
    "pf_track": PfTrackConfig(heads=4, hidden=48),
    "ada_track": AdaTrackConfig(heads=4, hidden=48),
    "dqtrack": DqTrackConfig(),
}


def model(name: str) -> ModelConfig:
    tracker = TRACKERS.get(name, SingleFrameConfig())
    return ModelConfig(InputConfig((64, 64)), DETECTORS[name], tracker)


@cache
def written(name: str, seed: int) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    return find_format(name).write(model(name).build().state_dict(), model(name)).weights


def published(name: str, seed: int = 0) -> dict[str, Tensor]:
    """A file's parameters; take some away, put others in their place, but change none."""
    return dict(written(name, seed))


def test_the_command_knows_every_format() -> None:
    assert set(get_args(Format)) == set(FORMATS)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_its_recipe(name: str) -> None:
    assert find_format(name).recipe in RECIPES


def test_an_unknown_format_lists_those_there_are() -> None:
    with pytest.raises(SynclError, match="petr"):
        find_format("onnx")


@pytest.mark.parametrize("name", DETECTORS)
def test_running_averages_of_mmcv_are_left_out_and_said(name: str) -> None:
    weights = published(name)
    averaged = {
        f"ema_{entry.replace('.', '_')}": torch.zeros_like(tensor) for entry, tensor in weights.items()
    }
    conversion = find_format(name).read(weights | averaged, model(name), "trained.pth")
    assert averaged.keys() <= conversion.ignored.keys()
    assert "running average" in conversion.ignored[next(iter(averaged))]


@pytest.mark.parametrize("name", WHOLE)
def test_there_and_back(name: str) -> None:
    config = model(name)
    weights = config.build().state_dict()
    written = find_format(name).write(weights, config)
    assert not written.new
    read = find_format(name).read(written.weights, config, "file")
    assert not read.new and read.weights.keys() == weights.keys()
    assert all(torch.equal(read.weights[key], weights[key]) for key in weights)


@pytest.mark.parametrize("name", WHOLE)
def test_a_missing_parameter_is_named(name: str) -> None:
    weights = published(name)
    lost = "pts_bbox_head.transformer.decoder.layers.1.norms.0.weight"
    del weights[lost]
    with pytest.raises(SynclError, match=f"weights.pth does not fit: missing: {lost}"):
        find_format(name).read(weights, model(name), "weights.pth")


@pytest.mark.parametrize("name", WHOLE)
def test_an_unknown_parameter_is_named(name: str) -> None:
    weights = published(name) | {"pts_bbox_head.surprise.weight": torch.ones(3)}
    with pytest.raises(SynclError, match=r"not known in this format: pts_bbox_head\.surprise\.weight"):
        find_format(name).read(weights, model(name), "weights.pth")


@pytest.mark.parametrize("name", WHOLE)
def test_another_size_names_both_shapes(name: str) -> None:
    other = dataclasses.replace(
        model(name), detector=dataclasses.replace(DETECTORS[name], hidden=SIZES["hidden"] + 16)
    )
    with pytest.raises(SynclError, match=r"has shape \(48, 32\), the model needs \(64, 32\)"):
        find_format(name).read(published(name), other, "weights.pth")


@pytest.mark.parametrize("name", ["petr", "pf_track", "streampetr"])
def test_shared_branches_are_stored_six_times_and_must_agree(name: str) -> None:
    weights = published(name)
    copies = [key for key in weights if key.endswith("_branches.5.4.bias")]
    assert len(copies) >= 1
    weights[copies[0]] = weights[copies[0]] + 1
    with pytest.raises(SynclError, match=r"branches\.5\.4\.bias differs from"):
        find_format(name).read(weights, model(name), "weights.pth")


@pytest.mark.parametrize("name", WHOLE)
def test_a_recipe_for_another_detector_is_refused(name: str) -> None:
    wrong = next(c for c in DETECTORS.values() if type(c) not in find_format(name).detectors)
    with pytest.raises(SynclError, match="choose another --recipe"):
        find_format(name).read(published(name), dataclasses.replace(model(name), detector=wrong), "f")


def test_a_file_of_another_variant_is_refused_with_the_recipe_that_it_is_for() -> None:
    small = dataclasses.replace(model("bevformer").detector, bev=BevEncoderConfig((50, 50), 2))
    read, config = find_format("bevformer").read, dataclasses.replace(model("bevformer"), detector=small)
    tiny = published("bevformer") | {"pts_bbox_head.bev_embedding.weight": torch.ones(2500, 32)}
    with pytest.raises(SynclError, match=r"has 2500 cells, the recipe's 12: choose --recipe bevformer_r50_"):
        read(tiny, model("bevformer"), "tiny.pth")
    with pytest.raises(SynclError, match=r"shapes differ: .*has 12 cells, the recipe's 2500$"):
        read(published("bevformer"), config, "own.pth")
    read, on_petrv2 = find_format("dqtrack").read, model("dqtrack")
    on_detr3d = dataclasses.replace(on_petrv2, detector=DETECTORS["detr3d"])
    file = find_format("dqtrack").write(on_detr3d.build().state_dict(), on_detr3d).weights
    with pytest.raises(SynclError, match=r"on DETR3D: choose --recipe dqtrack_detr3d_r101_900x1600"):
        read(file, on_petrv2, "d.pth")
    with pytest.raises(SynclError, match=r"on PETRv2: choose --recipe dqtrack_petrv2_v99_320x800"):
        read(published("dqtrack"), on_detr3d, "p.pth")
    with pytest.raises(SynclError, match="on UVTR or BEVStereo, detectors that are not here"):
        read(published("dqtrack") | {"query_embed_det.weight": torch.ones(7, 96)}, on_petrv2, "u.pth")


def test_ada_track_on_the_other_detector_names_the_first_keys_that_differ() -> None:
    on_detr3d, gated = model("ada_track"), AdaTrackConfig(heads=4, hidden=48, gated=True)
    on_petr = dataclasses.replace(on_detr3d, detector=DETECTORS["pf_track"], tracker=gated)
    adapter = find_format("ada_track")
    files = {
        name: adapter.write(m.build().state_dict(), m).weights
        for name, m in (("d", on_detr3d), ("p", on_petr))
    }
    with pytest.raises(SynclError, match=r"missing: .*not known in this format: bbox_size_fc\.bias"):
        adapter.read(files["d"], on_petr, "f")
    with pytest.raises(SynclError, match=r"lin_edge_gate\.weight"):
        adapter.read(
            files["p"], dataclasses.replace(on_petr, tracker=AdaTrackConfig(heads=4, hidden=48)), "f"
        )
    # The token of ADA-Track++ is new, and other trackers leave the association unused.
    plus = dataclasses.replace(on_petr, tracker=dataclasses.replace(gated, auxiliary_token=True))
    new = adapter.read(files["p"], plus, "f").new
    assert {name.rsplit(".", 1)[1] for name in new} == {"token", "token_bias"}
    alone = adapter.read(files["p"], dataclasses.replace(on_petr, tracker=SingleFrameConfig()), "f")
    assert not alone.new and all("asso" in name or "code_weights" in name for name in alone.ignored)


def test_what_a_tracker_adds_is_new() -> None:
    config = dataclasses.replace(
        model("petr"),
        tracker=Mutr3dConfig(heads=4, hidden=32),
        detector=dataclasses.replace(PETR, proposals=ProposalConfig(count=3)),
    )
    read = find_format("petr").read(published("petr"), config, "weights.pth")
    new = {name.rsplit(".", 1)[0].split(".")[0] for name in read.new}
    assert new == {"query_interaction", "memory_bank", "detector"}
    assert all("proposal_head" in name for name in read.new if name.startswith("detector."))
    assert find_format("petr").write(config.build().state_dict(), config).new == read.new


def single_frame_pf_track() -> dict[str, Tensor]:
    """What PF-Track's single-frame detectors hold."""
    weights = published("pf_track")
    return {
        name: tensor
        for name, tensor in weights.items()
        if not name.startswith(("STReasoner.", "query_feat_embedding."))
    }


def test_a_single_frame_detector_of_pf_track_starts_with_contents_of_zero() -> None:
    config = dataclasses.replace(model("pf_track"), tracker=SingleFrameConfig())
    read = find_format("pf_track").read(single_frame_pf_track(), config, "f1.pth")
    assert read.new == ("detector.query_content.weight",)


def test_a_single_frame_detector_is_no_pf_track_tracker() -> None:
    with pytest.raises(SynclError, match=r"f1\.pth does not fit: missing: STReasoner\."):
        find_format("pf_track").read(single_frame_pf_track(), model("pf_track"), "f1.pth")


def test_reasoning_of_pf_track_is_ignored_with_a_reason_where_another_tracker_is_filled() -> None:
    config = dataclasses.replace(model("pf_track"), tracker=Mutr3dConfig(heads=4, hidden=32))
    read = find_format("pf_track").read(published("pf_track"), config, "f3.pth")
    assert "reasoning" in read.ignored["STReasoner.track_cls.0.weight"]
    assert "training loss" in read.ignored["criterion.code_weights"]
    assert {name.split(".")[0] for name in read.new} == {"query_interaction", "memory_bank"}


def test_reasoning_of_pf_track_is_read_strictly() -> None:
    weights = published("pf_track")
    lost = "STReasoner.spatial_transformer.decoder.layers.1.norms.2.bias"
    with pytest.raises(SynclError, match=f"missing: {lost}"):
        find_format("pf_track").read(
            {name: tensor for name, tensor in weights.items() if name != lost}, model("pf_track"), "f3.pth"
        )
    with pytest.raises(SynclError, match=r"not known in this format: STReasoner\.surprise"):
        find_format("pf_track").read(
            weights | {"STReasoner.surprise": torch.ones(1)}, model("pf_track"), "f3.pth"
        )
    plain = dataclasses.replace(model("pf_track"), detector=dataclasses.replace(PETR, learned_contents=False))
    read = find_format("pf_track").read(weights, plain, "f3.pth")
    assert "learned query contents" in read.ignored["query_feat_embedding.weight"]


def test_refined_boxes_of_pf_track_are_turned_into_our_code() -> None:
    weights = published("pf_track") | {"STReasoner.track_reg.6.bias": torch.arange(10.0)}
    read = find_format("pf_track").read(weights, model("pf_track"), "f").weights
    assert read["past.box_branch.6.bias"].tolist() == [0, 1, 4, 3, 2, 5, -7, -6, 8, 9]


def test_the_auxiliary_head_of_streampetr_is_ignored() -> None:
    weights = published("streampetr") | {"img_roi_head.cls.weight": torch.ones(2, 2)}
    read = find_format("streampetr").read(weights, model("streampetr"), "f")
    assert "2D head" in read.ignored["img_roi_head.cls.weight"]


def test_box_branches_are_turned_into_our_code() -> None:
    weights = published("petr")
    bias = torch.arange(10.0)
    for index in range(6):
        weights[f"pts_bbox_head.reg_branches.{index}.4.bias"] = bias
    read = find_format("petr").read(weights, model("petr"), "f").weights
    # x, y, log w, log l, z, log h, sin', cos', ... become x, y, z, log l, log w, log h, -cos', -sin', ...
    assert read["detector.box_branches.0.4.bias"].tolist() == [0, 1, 4, 3, 2, 5, -7, -6, 8, 9]


def test_branches_of_mutr3d_are_turned_into_our_code() -> None:
    weights = published("mutr3d")
    head = "pts_bbox_head."
    weights[f"{head}reg_branches.1.4.bias"] = torch.arange(6.0)
    weights[f"{head}direction_branches.1.4.bias"] = torch.tensor([6.0, 7.0])
    weights["bbox_size_fc.bias"] = torch.tensor([1.0, 2.0, 3.0])
    read = find_format("mutr3d").read(weights, model("mutr3d"), "f").weights
    branch = "detector.box_branches.1"
    # x, y, log w, log l, z, log h; sin', cos'; w, l, h.
    assert read[f"{branch}.place.4.bias"].tolist() == [0, 1, 4, 3, 2, 5]
    assert read[f"{branch}.heading.4.bias"].tolist() == [-7, -6]
    assert read["detector.query_sizes.bias"].tolist() == [2, 1, 3]


def test_a_whole_mutr3d_goes_there_and_back_and_its_detector_alone_too() -> None:
    whole = dataclasses.replace(model("mutr3d"), tracker=Mutr3dConfig(heads=4, hidden=32))
    weights = whole.build().state_dict()
    adapter = find_format("mutr3d")
    written = adapter.write(weights, whole)
    assert not written.new and any(name.startswith("memory_bank.") for name in written.weights)
    read = adapter.read(written.weights, whole, "f")
    assert not read.new and all(torch.equal(read.weights[name], weights[name]) for name in weights)
    assert set(read.ignored) == {"criterion.code_weights"}
    alone = adapter.read(written.weights, model("mutr3d"), "f")
    assert not alone.new
    assert "tracking module" in alone.ignored["query_interact.norm1.weight"]
    del written.weights["query_interact.norm1.weight"]
    with pytest.raises(SynclError, match=r"missing: query_interact\.norm1\.weight"):
        adapter.read(written.weights, whole, "f")


def test_published_mutr3d_weights_regress_bottom_centres_and_the_model_knows() -> None:
    changed = find_format("mutr3d").converted(model("mutr3d"))
    assert isinstance(changed.detector, Mutr3dDetr3dConfig) and changed.detector.bottom_centres
    assert find_format("detr3d").converted(model("detr3d")) == model("detr3d")


def test_offsets_of_old_deformable_convolutions_are_found() -> None:
    weights = published("detr3d")
    old = {name.replace("conv2.conv_offset", "conv2_offset"): tensor for name, tensor in weights.items()}
    assert set(old) != set(weights)
    assert not find_format("detr3d").read(old, model("detr3d"), "f").new


def test_counters_may_be_absent() -> None:
    weights = {name: tensor for name, tensor in published("petr").items() if "num_batches" not in name}
    read = find_format("petr").read(weights, model("petr"), "f")
    assert read.new and all(name.endswith("num_batches_tracked") for name in read.new)


@pytest.mark.parametrize("prefix", ["img_backbone.", "backbone.", ""])
@pytest.mark.parametrize("name", ["detr3d", "petr"])
def test_a_backbone_is_found_under_its_usual_prefixes(prefix: str, name: str) -> None:
    inside = {
        key.replace("img_backbone.", prefix, 1): tensor
        for key, tensor in published(name).items()
        if key.startswith("img_backbone.")
    }
    read = find_format("backbone").read(inside | {"fc.weight": torch.ones(2)}, model(name), "f")
    assert len(read.weights) == len(inside)
    assert set(read.ignored) == {"fc.weight"}
    assert all(".backbone." not in key for key in read.new)


def test_another_backbone_is_refused() -> None:
    inside = {key: tensor for key, tensor in published("petr").items() if key.startswith("img_backbone.")}
    with pytest.raises(SynclError, match=r"missing: img_backbone\.conv1\.weight"):
        find_format("backbone").read(inside, model("detr3d"), "vovnet.pth")


def test_pf_track_on_detr3d_is_refused_with_the_reason() -> None:
    weights = published("pf_track")
    detr3d = published("detr3d")
    head = {name: tensor for name, tensor in detr3d.items() if name.startswith("pts_bbox_head.transformer")}
    with pytest.raises(
        SynclError, match=r"f3\.pth is of PF-Track on DETR3D.*published trackers.*are on PETR"
    ):
        find_format("pf_track").read(weights | head, model("pf_track"), "f3.pth")
