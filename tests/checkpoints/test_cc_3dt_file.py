"""CC-3DT's two files in the originals' names: an image network with its embedding head, and VeloLSTM."""

import dataclasses
from pathlib import Path

import pytest
import torch
from torch import Tensor

from rig import DETECTORS
from syncl.backbones import FpnConfig, ResNetConfig
from syncl.checkpoints.formats import find_format
from syncl.checkpoints.model_file import load_model, save_model
from syncl.checkpoints.published import read_published
from syncl.commands.convert import convert
from syncl.detectors import ImageEncoderConfig
from syncl.errors import SynclError
from syncl.recipes import RECIPES, find_recipe
from syncl.recipes.recipe import Recipe
from syncl.trackers import Cc3dtConfig, SingleFrameConfig
from syncl.trackers.cc_3dt import AppearanceConfig
from syncl.trackers.model import InputConfig, ModelConfig

WIDTH, DIM, HIDDEN, EMBEDDED = 8, 32, 24, 16
IMAGE_NETWORK = ImageEncoderConfig(
    ResNetConfig(
        depth=None,
        block="bottleneck",
        blocks=(1, 1, 2, 1),
        stem_width=WIDTH,
        widths=(WIDTH,) * 4,
        out_stages=(1, 2, 3, 4),
        norm="frozen",
    ),
    FpnConfig(DIM),
)
MODEL = ModelConfig(
    InputConfig((64, 96)),
    DETECTORS["detr3d"],
    Cc3dtConfig(motion="velo_lstm", appearance=AppearanceConfig(IMAGE_NETWORK, EMBEDDED, HIDDEN, groups=8)),
)
ADAPTER = find_format("cc_3dt")


def norm(name: str, channels: int) -> dict[str, Tensor]:
    numbers = {key: torch.rand(channels) for key in ("weight", "bias", "running_mean", "running_var")}
    return {f"{name}.{key}": value for key, value in numbers.items()}


def image_network(blocks: tuple[int, ...] = (1, 1, 2, 1)) -> dict[str, Tensor]:
    """What the published file of the image network holds, sizes aside."""
    weights = {"basemodel.conv1.weight": torch.randn(WIDTH, 3, 7, 7), **norm("basemodel.bn1", WIDTH)}
    inside = WIDTH
    for stage, count in enumerate(blocks, start=1):
        for number in range(count):
            name = f"basemodel.layer{stage}.{number}"
            sizes = ((WIDTH, inside, 1), (WIDTH, WIDTH, 3), (4 * WIDTH, WIDTH, 1))
            for place, (out, given, kernel) in enumerate(sizes, start=1):
                weights[f"{name}.conv{place}.weight"] = torch.randn(out, given, kernel, kernel)
                weights |= norm(f"{name}.bn{place}", out)
            if number == 0:
                weights[f"{name}.downsample.0.weight"] = torch.randn(4 * WIDTH, inside, 1, 1)
                weights |= norm(f"{name}.downsample.1", 4 * WIDTH)
            inside = 4 * WIDTH
    for level in range(4):
        for part, shape in (("inner", (DIM, 4 * WIDTH, 1, 1)), ("layer", (DIM, DIM, 3, 3))):
            weights[f"fpn.{part}_blocks.{level}.0.weight"] = torch.randn(shape)
            weights[f"fpn.{part}_blocks.{level}.0.bias"] = torch.randn(DIM)
    head = "qdtrack_head.similarity_head."
    for number in range(4):
        weights[f"{head}convs.{number}.weight"] = torch.randn(DIM, DIM, 3, 3)
        weights[f"{head}convs.{number}.norm.weight"] = torch.randn(DIM)
        weights[f"{head}convs.{number}.norm.bias"] = torch.randn(DIM)
    for name, (out, given) in {"fcs.0.0": (HIDDEN, DIM * 49), "fc_embed": (EMBEDDED, HIDDEN)}.items():
        weights |= {f"{head}{name}.weight": torch.randn(out, given), f"{head}{name}.bias": torch.randn(out)}
    return weights | {"faster_rcnn_head.rpn_head.rpn_conv.weight": torch.ones(2)}


def velo_lstm() -> dict[str, Tensor]:
    """What a published file of VeloLSTM holds."""
    weights = {"vel2feat.weight": torch.randn(64, 7), "vel2feat.bias": torch.randn(64)}
    for name, inputs in (("pred_lstm", 64), ("refine_lstm", 192)):
        for layer, given in enumerate((inputs, 128)):
            weights[f"{name}.weight_ih_l{layer}"] = torch.randn(512, given)
            weights[f"{name}.weight_hh_l{layer}"] = torch.randn(512, 128)
            weights |= {f"{name}.bias_{side}_l{layer}": torch.randn(512) for side in ("ih", "hh")}
    weights |= {name: torch.randn(7, 128) for name in ("pred2atten.weight", "conf2atten.weight")}
    return weights | {"conf2feat.weight": torch.randn(64, 1)}


@pytest.mark.parametrize("prefix", ["", "model."])
@pytest.mark.parametrize(("what", "ours"), [(image_network, "appearance."), (velo_lstm, "motion.")])
def test_each_file_fills_its_part_and_the_rest_is_new(what, ours: str, prefix: str) -> None:
    weights = what()
    read = ADAPTER.read({prefix + name: value for name, value in weights.items()}, MODEL, "file.pt")
    assert read.weights and all(name.startswith(ours) for name in read.weights)
    assert not [name for name in read.new if name.startswith(ours) and "num_batches" not in name]
    assert all("of the detector" in reason for reason in read.ignored.values())
    model = MODEL.build()
    model.load_state_dict(read.weights, strict=False)
    back = ADAPTER.write(model.state_dict(), MODEL).weights
    kept = [name for name in weights if not name.startswith("faster_rcnn_head")]
    assert kept and all(torch.equal(back[name], weights[name]) for name in kept)


def test_height_and_length_change_places_in_the_motion_model() -> None:
    weights = velo_lstm() | {"vel2feat.weight": torch.arange(7.0).expand(64, 7)}
    read = ADAPTER.read(weights, MODEL, "velo.pt").weights
    assert read["motion.network.step_features.weight"][0].tolist() == [0, 1, 2, 5, 4, 3, 6]


def test_files_of_other_sizes_and_other_networks_name_the_first_keys_that_differ() -> None:
    with pytest.raises(SynclError, match=r"r50\.pt does not fit: missing: basemodel\.layer3\.1\.conv1"):
        ADAPTER.read(image_network((1, 1, 1, 1)), MODEL, "r50.pt")
    with pytest.raises(SynclError, match=r"not known in this format: fpn\.inner_blocks\.4\.0\.weight"):
        ADAPTER.read(image_network() | {"fpn.inner_blocks.4.0.weight": torch.ones(1)}, MODEL, "f")
    halved = {name: tensor[: len(tensor) // 2] for name, tensor in velo_lstm().items()}
    with pytest.raises(SynclError, match=r"vel2feat\.weight has shape \(32, 7\), the model needs \(64, 7\)"):
        ADAPTER.read(halved, MODEL, "f")
    with pytest.raises(SynclError, match=r"holds neither CC-3DT's image network .* entries are img_backbone"):
        ADAPTER.read({"img_backbone.conv1.weight": torch.ones(1)}, MODEL, "bevformer.pth")


def test_a_recipe_that_has_no_place_for_the_file_is_refused() -> None:
    plain = dataclasses.replace(MODEL, tracker=Cc3dtConfig())
    with pytest.raises(SynclError, match=r"holds VeloLSTM, of which .* \(model\.tracker\.motion\)"):
        ADAPTER.read(velo_lstm(), plain, "f")
    with pytest.raises(SynclError, match=r"holds an image network.*model\.tracker\.appearance"):
        ADAPTER.read(image_network(), plain, "f")
    other = dataclasses.replace(MODEL, tracker=SingleFrameConfig())
    with pytest.raises(SynclError, match=r"is for CC-3DT.*choose another --recipe"):
        ADAPTER.read(velo_lstm(), other, "f")


class Unwelcome:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return (print, ("opened",))


def test_detector_looks_and_motion_come_together_in_one_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = find_recipe("petr_synthetic").training
    monkeypatch.setitem(RECIPES, "small", lambda: Recipe("small", "for tests", MODEL, training))
    detector, looks, whole = (tmp_path / f"{name}.safetensors" for name in ("detector", "looks", "whole"))
    alone = dataclasses.replace(MODEL, tracker=SingleFrameConfig())
    given = alone.build().state_dict()
    save_model(detector, given, alone)
    torch.save(image_network(), tmp_path / "image.pt")
    torch.save({"state_dict": velo_lstm()}, tmp_path / "velo.pt")
    first = convert(tmp_path / "image.pt", looks, from_="cc_3dt", recipe="small", init=detector)
    assert all(name.startswith("motion.") or "num_batches" in name for name in first.conversion.new)
    convert(tmp_path / "velo.pt", whole, from_="cc_3dt", recipe="small", init=looks)
    loaded = load_model(whole)
    assert "motion." not in loaded.notes["new"]
    weights = loaded.tracker.state_dict()
    assert all(torch.equal(weights[name], tensor) for name, tensor in given.items())
    written = ADAPTER.write(weights, MODEL).weights
    expected = read_published(tmp_path / "image.pt") | read_published(tmp_path / "velo.pt")
    assert all(torch.equal(written[name], expected[name]) for name in written if name in expected)
    torch.save(velo_lstm() | {"hook": Unwelcome()}, tmp_path / "unsafe.pt")
    with pytest.raises(SynclError, match="holds more than tensors"):
        convert(tmp_path / "unsafe.pt", tmp_path / "x.safetensors", from_="cc_3dt", recipe="small")
