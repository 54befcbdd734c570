"""CC-3DT beside its goldens: streams, appearance in training, closed eyes, the motion model's training."""

import dataclasses

import pytest
import torch

from looks import same
from rig import DETECTORS, make_clip, make_frame, tiny_encoder
from syncl.errors import SynclError
from syncl.structures import Objects
from syncl.trackers.cc_3dt import AppearanceConfig, AssociationConfig, Cc3dt, Cc3dtConfig
from syncl.trackers.cc_3dt.pooling import roi_align
from syncl.trackers.cc_3dt.velo_lstm import VeloLstm
from syncl.training.losses import LossConfig
from syncl.training.motion_model import MotionTrainingConfig, SeenObjects, train_motion
from syncl.training.objectives import SimilarityLossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

LOOKS = AppearanceConfig(tiny_encoder(dim=16), dim=8, hidden=16, convolutions=1, groups=4)
CONFIG = Cc3dtConfig(AssociationConfig(0.0, 0.0), min_score=0.0, appearance=LOOKS)


def build(**changes: object) -> Cc3dt:
    torch.manual_seed(0)
    return dataclasses.replace(CONFIG, **changes).build(DETECTORS["detr3d"].build()).eval()


def seen(*xs: float) -> Objects:
    """Cars ahead."""
    boxes = torch.zeros(1, len(xs), 9)
    boxes[..., 0], boxes[0, :, 1] = 12.0, torch.tensor(xs)
    boxes[..., 3:6] = torch.tensor([4.0, 2.0, 1.5])
    scores = torch.linspace(0.9, 0.5, len(xs))[None]
    labels = torch.zeros(1, len(xs), dtype=torch.int64)
    return Objects(boxes, labels, scores, labels, labels == 0)


@pytest.mark.parametrize("motion", ["kf3d", "velo_lstm"])
@torch.no_grad()
def test_two_streams_are_two_trackers(motion: str) -> None:
    tracker = build(motion=motion)
    rows = [seen(-3.0, 3.0), seen(0.0, 5.0)]
    states = [tracker.initial_state() for _ in rows]
    together = tracker.initial_state(2)
    for number in range(3):
        frame = make_frame(0.5 * number)
        alone = [tracker.step_given(frame, state, row) for state, row in zip(states, rows)]
        states = [state for _, state in alone]
        both = Objects(
            *(torch.cat([getattr(r, f.name) for r in rows]) for f in dataclasses.fields(Objects)[:5])
        )
        objects, together = tracker.step_given(
            make_frame(0.5 * number, streams=2, seed=number * 50), together, both
        )
        for stream, (one, _) in enumerate(alone):
            assert torch.equal(objects.identities[stream], one.identities[0])
            torch.testing.assert_close(objects.boxes[stream], one.boxes[0])
    assert together.identities.tolist() == [[0, 1], [0, 1]]


@torch.no_grad()
def test_sizes_that_a_learned_motion_makes_negative_are_reported_as_a_centimetre() -> None:
    tracker = build(motion="velo_lstm")
    tracker.motion.network.refine = lambda expected, found, before, scores, hidden: (found - 1.8, hidden)
    state = tracker.initial_state()
    for number in range(2):
        objects, state = tracker.step_given(make_frame(0.5 * number), state, seen(0.0))
    torch.testing.assert_close(objects.boxes[0, 0, 3:6], torch.tensor([2.2, 0.2, 0.01]))


@torch.no_grad()
def test_with_closed_eyes_images_do_not_matter() -> None:
    tracker = build()
    assert tracker.looks and tracker.channels == 8
    stored = dataclasses.replace(make_frame(0.0), levels=())
    with pytest.raises(SynclError, match="leave out --cache-features"):
        tracker.step_given(stored, tracker.initial_state(), seen(0.0))
    tracker.close_eyes()
    assert not tracker.looks and tracker.channels == 0
    results = [
        tracker.step_given(make_frame(0.0, seed=s), tracker.initial_state(), seen(0.0)) for s in (1, 2)
    ]
    assert same(results[0], results[1]) and results[0][0].identities.tolist() == [[0]]


def test_what_boxes_look_like_is_trained_and_nothing_else() -> None:
    tracker = build()
    quiet = BaselineConfig(loss=LossConfig(classification=0.0, box=0.0))
    config = UnrollConfig(objectives=(SimilarityLossConfig(),), frozen=("detector",))
    losses = ClipTraining(tracker, quiet.build(32), config)(make_clip([1, 3, 4], [1, 3, 4]))
    assert losses["contrast"] > 0 and losses["cosine"] > 0
    losses["total"].backward()
    learned = {name.split(".")[0] for name, p in tracker.named_parameters() if p.grad is not None}
    assert learned == {"appearance"}


def test_a_pooled_bin_is_the_mean_of_what_it_covers() -> None:
    ramp = torch.arange(40.0).expand(1, 30, 40)
    pooled = roi_align(ramp, torch.tensor([[4.0, 2.0, 18.0, 16.0]]))
    expected = 4 + 2 * torch.arange(7) + 1.0
    torch.testing.assert_close(pooled[0, 0], expected.expand(7, 7))


def test_velo_lstm_learns_to_foresee() -> None:
    torch.manual_seed(0)
    steps = torch.arange(12.0).double()
    paths = []
    for speed in (-2.0, 1.0, 3.0):
        truth = torch.zeros(1, 12, 7, dtype=torch.float64)
        truth[0, :, 0], truth[..., 3:6] = speed * steps, 2.0
        noisy = truth + 0.1 * torch.randn(1, 12, 7)
        paths.append(SeenObjects(noisy, torch.full((1, 12), 0.7), truth))
    config = MotionTrainingConfig(steps=40, batch_size=8)
    losses = [step["foreseen"] for step in train_motion(VeloLstm(16, 16), paths, config)]
    assert sum(losses[-10:]) / 10 < 0.8 * losses[0]
