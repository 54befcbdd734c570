"""Half precision where it belongs, and BatchNorm folded."""

import pytest
import torch
from torch import nn

import rig
from rig import make_frame
from syncl.errors import SynclError
from syncl.structures.tensors import named_tensors
from syncl.trackers.inference import fold_norms, for_inference


@pytest.mark.parametrize("detector", ["petr", "streampetr", "mutr3d_detr3d"])
@pytest.mark.parametrize("kind", ["mutr3d", "pf_track"])
def test_a_state_keeps_its_types_in_half_precision(kind: str, detector: str) -> None:
    first = {"keep_score": 0.0} if kind == "mutr3d" else {"record_score": 0.0}
    tracker = rig.make_tracker(
        detector, kind, birth_score=0.0, output_score=0.0, max_tracks=20, **first
    ).eval()
    half = for_inference(tracker, "bfloat16")
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


def test_float32_is_the_tracker_itself_and_other_words_are_refused() -> None:
    tracker = rig.make_tracker().eval()
    assert for_inference(tracker) is tracker is for_inference(tracker, "float32")
    with pytest.raises(SynclError, match="--precision int8: choose one of auto, float32"):
        for_inference(tracker, "int8")


@pytest.mark.parametrize("detector", ["petr", "detr3d"])
def test_folded_encoders_see_the_same(detector: str) -> None:
    torch.manual_seed(0)
    encoder = rig.DETECTORS[detector].image.build().eval()
    for norm in (part for part in encoder.modules() if isinstance(part, nn.BatchNorm2d)):
        for tensor in (norm.running_mean, norm.weight.data, norm.bias.data):
            tensor.normal_()
        norm.running_var.uniform_(0.5, 2.0)
    frame = make_frame()
    with torch.no_grad():
        expected = encoder(frame)
        norms = sum(isinstance(part, nn.BatchNorm2d) for part in encoder.modules())
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
