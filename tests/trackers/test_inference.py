"""Half precision where it belongs, and BatchNorm folded."""

from pathlib import Path

import pytest
import torch
from torch import nn

import rig
from rig import make_frame
from syncl.checkpoints.model_file import load_model, save_model
from syncl.deployment.exported import load
from syncl.errors import SynclError
from syncl.layers.winograd import WinogradConv2d
from syncl.structures.tensors import named_tensors
from syncl.trackers.inference import Precision, fold_norms, for_inference, settle
from syncl.trackers.inputs import InputConfig
from syncl.trackers.model import ModelConfig


@pytest.mark.parametrize("detector", ["petr", "streampetr", "mutr3d_detr3d"])
@pytest.mark.parametrize(("kind", "narrow"), [("mutr3d", 0), ("pf_track", 0), ("pf_track", 128)])
def test_a_state_keeps_its_types_in_half_precision(
    kind: str, narrow: int, detector: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncl.trackers.inference._NARROW", narrow)
    first = {"keep_score": 0.0} if kind == "mutr3d" else {"record_score": 0.0}
    tracker = rig.make_tracker(
        detector, kind, birth_score=0.0, output_score=0.0, max_tracks=20, **first
    ).eval()
    half = for_inference(tracker, "bfloat16")
    assert half.rounds_encoder_only == bool(narrow)
    state, held = tracker.initial_state(), half.initial_state()
    for number in range(2):
        frame = make_frame(0.5 * number, speed_m_s=2.0)
        objects, state = tracker.step(frame, state)
        found, held = half.step(frame, held)
    types = {name: tensor.dtype for name, tensor in named_tensors(state).items()}
    assert {name: tensor.dtype for name, tensor in named_tensors(held).items()} == types
    assert found.boxes.dtype == objects.boxes.dtype == found.scores.dtype == torch.float32
    assert found.valid.any() and not torch.equal(found.boxes, objects.boxes)
    assert tracker.precision == torch.float32


def norms_of(module: nn.Module) -> list[nn.BatchNorm2d]:
    return [part for part in module.modules() if isinstance(part, nn.BatchNorm2d)]


def with_statistics(module: nn.Module) -> nn.Module:
    """As if its BatchNorm had been trained."""
    for norm in norms_of(module):
        for tensor in (norm.running_mean, norm.weight.data, norm.bias.data):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    return module.eval()


def test_what_is_loaded_to_step_is_folded_and_other_words_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    made = ModelConfig(InputConfig((rig.HEIGHT, rig.WIDTH)), rig.DETECTORS["petr"], rig.TRACKERS["mutr3d"])
    tracker = with_statistics(made.build())
    save_model(tmp_path / "model.safetensors", tracker.state_dict(), made)
    kept = load_model(tmp_path / "model.safetensors").tracker
    assert norms_of(kept)
    frame = make_frame()
    with torch.no_grad():
        expected = kept.look(frame, kept.initial_state()).standard
        for folded in (
            load(tmp_path / "model.safetensors"),
            for_inference(kept),
            for_inference(kept, "float32"),
        ):
            assert not norms_of(folded) and folded.precision == torch.float32
            found = folded.look(frame, folded.initial_state()).standard
            torch.testing.assert_close(found.codes, expected.codes, rtol=1e-5, atol=1e-5 * 60)
            torch.testing.assert_close(found.logits, expected.logits, rtol=1e-5, atol=1e-5)
    assert norms_of(kept)
    with pytest.raises(SynclError, match="--precision int8: choose one of auto, float32"):
        for_inference(tracker, "int8")


@pytest.mark.parametrize("detector", ["petr", "detr3d"])
def test_folded_encoders_see_the_same(detector: str) -> None:
    torch.manual_seed(0)
    encoder = with_statistics(rig.DETECTORS[detector].image.build())
    frame = make_frame()
    with torch.no_grad():
        expected = encoder(frame)
        norms = len(norms_of(encoder))
        assert fold_norms(encoder) == norms > 5
        found = encoder(frame)
    for ours, theirs in zip(found, expected, strict=True):
        assert (ours - theirs).abs().max() <= 1e-5 * theirs.abs().max()


def test_what_nobody_knows_the_order_of_is_not_folded() -> None:
    class Before(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    assert fold_norms(Before().eval()) == 0
    assert fold_norms(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))) == 0, "it is in training"
    assert fold_norms(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).eval()) == 1


def test_wide_convolutions_take_fewer_products() -> None:
    images = torch.randn(1, 128, 6, 5)
    for winograd, kind in ((True, WinogradConv2d), (False, nn.Conv2d)):
        net = nn.Sequential(nn.Conv2d(128, 128, 3, padding=1), nn.Conv2d(128, 8, 3, padding=1))
        expected = net(images)
        settle(net, torch.bfloat16, winograd)
        assert [type(part) for part in net] == [kind, nn.Conv2d]
        assert all(weight.dtype == torch.bfloat16 for weight in net.parameters())
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(net(images).float(), expected, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("precision", "narrow", "fewer"), [("bfloat16", 0, True), ("bfloat16", 128, False), ("float32", 0, False)]
)
def test_wide_models_alone_take_fewer_products_and_only_in_bfloat16(
    precision: Precision, narrow: int, fewer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("syncl.trackers.inference._NARROW", narrow)
    monkeypatch.setattr("syncl.layers.winograd._WIDE", 4)
    tracker = rig.make_tracker("petr", "mutr3d").eval()
    parts = for_inference(tracker, precision).modules()
    assert any(isinstance(part, WinogradConv2d) for part in parts) == fewer
    assert not any(isinstance(part, WinogradConv2d) for part in tracker.modules())


@pytest.mark.parametrize("device", ["gpu", "cuda:99"])
def test_a_device_that_cannot_be_used_is_refused_by_name(device):
    with pytest.raises(SynclError, match=f"device {device}: cannot be used here"):
        load("demo", device=device)


def test_a_tracker_that_still_trains_is_not_stepped() -> None:
    tracker = rig.make_tracker().train()
    with pytest.raises(SynclError, match=r"step: this Mutr3d is in training mode.*tracker\.eval\(\) first"):
        tracker.step(make_frame(0.0), tracker.initial_state())
    objects, _ = tracker.eval().step(make_frame(0.0), tracker.initial_state())
    assert objects.valid.shape[0] == 1
