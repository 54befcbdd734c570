"""Trackers that pair on the host ask a device once a frame for all they need, and wait for nothing else."""

import copy

import pytest
import torch

import rig
from far_device import DEVICE, FarDevice, FarTensor, far, move_far, near
from rig import make_frame, tiny_encoder
from syncl.structures.tensors import named_tensors
from syncl.trackers import AdaTrackConfig, Cc3dtConfig, DqTrackConfig, GreedyConfig, Tracker
from syncl.trackers.base import TrackerConfig
from syncl.trackers.cc_3dt import AppearanceConfig, AssociationConfig, MemoryConfig
from syncl.trackers.cc_3dt.pooling import pooled, pooled_anywhere

CLASSES = ("car", "truck", "pedestrian")
LOOKS = AppearanceConfig(tiny_encoder(dim=16), dim=8, hidden=16, convolutions=1, groups=4)
TIES = AssociationConfig(0.0, 0.0, overlap=1.0, unsure_overlap=1.0)
TRACKERS = {
    "greedy": GreedyConfig(min_score=0.0, gate_m=50.0, classes=CLASSES),
    "greedy, observed": GreedyConfig(
        min_score=0.0, association="hungarian", motion="observed", coasting="elapsed", classes=CLASSES
    ),
    "ada_track": AdaTrackConfig(heads=4, birth_score=0.0, output_score=0.0, affinity=0.0, max_tracks=20),
    "ada_track, hungarian": AdaTrackConfig(
        heads=4, birth_score=0.0, output_score=0.0, pairing="hungarian", auxiliary_token=True, max_tracks=8
    ),
    "dqtrack": DqTrackConfig(0.0, 0.0, gates_m=(99.0,) * 3, classes=CLASSES, heads=4),
    "dqtrack, coasting": DqTrackConfig(
        0.6, 0.6, gates_m=(9.0,) * 3, classes=CLASSES, heads=4, coasting=True, count_refused=True
    ),
    "cc_3dt": Cc3dtConfig(TIES, min_score=0.0),
    "cc_3dt, backdrops": Cc3dtConfig(
        AssociationConfig(0.55, 0.0, 1.0, 1.0), MemoryConfig(backdrops=True), min_score=0.0
    ),
    "cc_3dt, appearance": Cc3dtConfig(TIES, min_score=0.0, appearance=LOOKS),
    "cc_3dt, learned motion": Cc3dtConfig(TIES, min_score=0.0, motion="velo_lstm"),
    "cc_3dt, appearance and learned motion": Cc3dtConfig(
        TIES, min_score=0.0, motion="velo_lstm", appearance=LOOKS
    ),
}


@pytest.mark.parametrize("kind", TRACKERS)
@torch.no_grad()
def test_a_frame_is_one_round_trip_and_the_same_as_on_the_host(kind: str) -> None:
    tracker = build(TRACKERS[kind])
    there = copy.deepcopy(tracker)
    move_far(there)
    state, told = tracker.initial_state(2), 0
    for number, scenes in enumerate((("a", "b"), ("a", "b"), ("a", "c"))):
        decoded = tracker.look(make_frame(0.5 * number, scenes, speed_m_s=2.0), state)
        objects, state = tracker.conclude(decoded)
        with FarDevice() as device:
            found, held = there.conclude(far(decoded))
        assert (device.reads, device.waits) == (1, {})
        assert {tensor.device for tensor in named_tensors(held).values()} == {DEVICE}
        # What is reported is on the host already, but for boxes that a learned motion has still to say.
        assert found.valid.device == (DEVICE if "motion" in kind else torch.device("cpu"))
        told += int(objects.valid.sum())
        assert torch.equal(objects.identities, near(found).identities)
        for ours, theirs in ((objects, near(found)), (state, near(held))):
            others = named_tensors(theirs)
            for name, values in named_tensors(ours).items():
                torch.testing.assert_close(others[name], values, rtol=1e-4, atol=1e-4)
    assert told > 0 and state.alive.any(1).all()


@pytest.mark.parametrize("kind", ["greedy", "ada_track", "dqtrack", "cc_3dt"])
@torch.no_grad()
def test_a_step_asks_a_device_once(kind: str) -> None:
    tracker = build(TRACKERS[kind])
    frame, state = make_frame(), tracker.initial_state()
    _, state = tracker.step(frame, state)
    frame = make_frame(0.5)
    move = tracker.admit(frame, state)
    move_far(tracker)
    with FarDevice() as device:
        tracker._decode(far(frame), far(state), far(move))
        assert (device.reads, device.uploads, device.waits) == (0, 0, {})
        tracker.advance(far(frame), far(state), far(move))
    assert (device.reads, device.waits) == (1, {})


def test_what_waits_is_counted_and_what_a_device_refuses_is_refused() -> None:
    values, mask = FarTensor(torch.ones(3)), FarTensor(torch.ones(3) > 0)
    with FarDevice() as device:
        values.cpu()
        assert (device.reads, device.waits) == (1, {})
        bool(values.sum() > 0)
        values[mask]
        mask.nonzero()
        torch.zeros(3).to(DEVICE)
        assert device.waits == {"local_scalar_dense": 1, "index": 1, "nonzero": 1, "to_copy to the device": 1}
        torch.zeros(3).to(DEVICE, non_blocking=True)
        assert (device.uploads, device.waits.total()) == (2, 4)
        with pytest.raises(RuntimeError, match="on the host and on the device"):
            values + torch.zeros(3)


def test_boxes_are_pooled_alike_wherever_they_are() -> None:
    torch.manual_seed(0)
    levels = tuple(torch.randn(2, 3, 160 // stride, 320 // stride) for stride in (4, 8, 16))
    corner, size = torch.rand(60, 2) * torch.tensor([320.0, 160.0]), torch.rand(60, 2) ** 3
    end = torch.minimum(corner + size * torch.tensor([320.0, 160.0]), torch.tensor([319.0, 159.0]))
    extremes = [
        [0, 0, 319, 159],
        [0, 70, 319, 79],
        [150, 0, 156, 159],
        [9, 9, 9, 9],
        [0, 0, 0, 0],
        [0, 0, 111, 111],
    ]
    boxes = torch.cat([torch.cat([corner.minimum(end), end], 1), torch.tensor(extremes).float()])
    cameras = torch.arange(len(boxes)) % 2
    known = pooled(levels, (4, 8, 16), cameras, boxes)
    found = pooled_anywhere(levels, (4, 8, 16), cameras, boxes)
    torch.testing.assert_close(found, known, rtol=1e-5, atol=1e-5)


def build(config: TrackerConfig) -> Tracker:
    torch.manual_seed(0)
    tracker = config.build(rig.DETECTORS["petr"].build()).eval()
    # Fresh heads say nearly the same of all queries.
    for parameter in tracker.detector.class_branches.parameters():
        torch.nn.init.normal_(parameter)
    tracker.detector.fix_shapes()
    return tracker
