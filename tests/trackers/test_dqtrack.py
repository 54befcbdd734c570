"""DQTrack: its affinity by the cheap form, refusals, silence, training on every detector."""

import dataclasses

import pytest
import torch

from rig import DETECTORS, make_clip, make_frame
from syncl.errors import SynclError
from syncl.trackers import DqTrackConfig
from syncl.trackers.dqtrack import DqTrack, DqTracks
from syncl.trackers.dqtrack.association import DecoupledAssociation
from syncl.trackers.dqtrack.pairing import pair
from syncl.training.losses import LossConfig
from syncl.training.objectives import DualQueryLossConfig
from syncl.training.strategies import BaselineConfig
from syncl.training.unroll import ClipTraining, UnrollConfig

CLASSES = ("car", "truck", "pedestrian")
CONFIG = DqTrackConfig(0.0, 0.0, gates_m=(99.0,) * 3, classes=CLASSES, heads=4)


def build(detector: str = "detr3d", **changes: object) -> DqTrack:
    torch.manual_seed(0)
    return dataclasses.replace(CONFIG, **changes).build(DETECTORS[detector].build()).eval()


def test_distances_count_the_same_by_pieces_and_layer_by_layer() -> None:
    torch.manual_seed(1)
    association = DecoupledAssociation(32, 4).double()
    torch.nn.init.normal_(association.distance_embedding.bias)
    distances = torch.cat([torch.zeros(1), torch.rand(500) * 3, torch.rand(500) * 100]).double()
    layers = association.distance_logits(distances)
    with torch.no_grad():
        pieces = association.distance_logits(distances)
    assert layers.requires_grad and not pieces.requires_grad
    torch.testing.assert_close(pieces, layers.detach(), rtol=1e-10, atol=1e-10)
    with torch.no_grad():
        single = association.float().distance_logits(distances)
        assert association.distance_logits(distances[:, None][:, :0]).shape == (len(distances), 0)
    assert single.dtype == torch.float32
    torch.testing.assert_close(single.double(), pieces, rtol=0, atol=1e-6)


def test_as_many_allowed_pairs_as_there_can_be_and_the_rest_refused() -> None:
    affinities = torch.tensor([[0.9, 0.1], [0.8, 0.2]]).double().numpy()
    allowed = torch.tensor([[True, True], [True, False]]).numpy()
    pairs = pair(affinities, allowed)
    assert pairs.tracks.tolist() == [1, 0] and pairs.valid.tolist() == [True, True]
    pairs = pair(affinities, torch.tensor([[True, False], [True, False]]).numpy())
    assert pairs.tracks.tolist() == [0, 1] and pairs.valid.tolist() == [True, False]


@torch.no_grad()
def test_a_refused_pair_is_neither_seen_nor_missed_unless_asked() -> None:
    for counted in (False, True):
        tracker = build(count_refused=counted)
        _, state = tracker.step(make_frame(0.0), tracker.initial_state())
        before = state.count
        tracker.gates_m.zero_()  # From now on every pair is refused.
        _, state = tracker.step(make_frame(0.5), state)
        assert state.count > before
        assert state.misses[0, :before].tolist() == [int(counted)] * before


@torch.no_grad()
def test_where_nothing_is_seen_nobody_is_missed_and_nobody_moves() -> None:
    tracker = build()
    _, state = tracker.step(make_frame(0.0), tracker.initial_state())
    tracker.config = dataclasses.replace(tracker.config, detection_score=1.1)
    objects, after = tracker.step(make_frame(0.5), state)
    assert objects.valid.shape[1] == 0 and after.misses.sum() == 0
    assert torch.equal(after.owned(DqTracks).tracks.places, state.owned(DqTracks).tracks.places)


def test_a_distance_is_wanted_for_every_class() -> None:
    with pytest.raises(SynclError, match="2 distances for 3 classes"):
        build(gates_m=(1.0, 2.0))


@pytest.mark.parametrize("detector", ["detr3d", "petr", "petrv2", "streampetr", "mutr3d_detr3d", "bevformer"])
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "end to end"])
def test_it_trains_on_every_detector(detector: str, frozen: bool) -> None:
    tracker = build(detector, false_tracks=1.0)
    loss = LossConfig(classification=0.0, box=0.0) if frozen else LossConfig()
    config = UnrollConfig(objectives=(DualQueryLossConfig(),), frozen=("detector",) if frozen else ())
    training = ClipTraining(tracker, BaselineConfig(loss=loss).build(tracker.detector.dim), config)
    losses = training(make_clip([0, 1, 2], [0, 1, 2], [1, 2, 4]))
    losses["total"].backward()
    assert losses["association"] > 0 and torch.isfinite(losses["total"])
    learned = {name for name, parameter in tracker.named_parameters() if parameter.grad is not None}
    assert any(name.startswith("association.distance_branch") for name in learned)
    assert any(name.startswith("detector.") for name in learned) != frozen


def test_false_tracks_last_for_one_frame() -> None:
    tracker = build(false_tracks=1.0)
    clip = make_clip([0, 1, 2], [0, 1, 2], [0, 1, 2])
    strategy = BaselineConfig().build(tracker.detector.dim)
    state = tracker.initial_state()
    for frame, objects in zip(clip.frames, clip.annotations, strict=True):
        decoded = tracker.look(frame, state)
        outcome = strategy(decoded, objects)
        reasoned = tracker.supervised(decoded, outcome, objects)
        state = tracker.carry(dataclasses.replace(decoded, reasoned=reasoned), outcome)
        identities = state.identities[state.alive].tolist()
        assert sorted(identities)[-3:] == [0, 1, 2]
        assert 0 < identities.count(-1) <= 3
    with pytest.raises(SynclError, match="call supervised first"):
        tracker.carry(dataclasses.replace(decoded, reasoned=None), outcome)
